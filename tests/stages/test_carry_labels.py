"""carry_labels: rows of the unlabelled scans of a drive past parked cars, refusals, a kill."""

import shutil

import numpy as np
import pytest

from elite_pipeline import store
from elite_pipeline.aggregation.reached import CarriedLabels
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.stages import carry_labels, index_frames

CARRY = [f"carry_labels.{word}" for word in ("distance=60.0", "frames=60", "voxel_size=0.2")]
CARRY += ["carry_labels.things.voxel_size=0.2", "carry_labels.things.frames=2"]
CAR, ROAD, BUILDING = 1, 9, 13
FRAMES = [f"{f:06d}" for f in range(12)]


def words(parked, frames="selected"):
    return ["--data", str(parked["data"]), "--frames", str(parked[frames]), *CARRY]


def test_labels_reach_the_other_scans(parked, tmp_path, capsys):
    # A label of a hidden scan is never read: the file of frame 3 is damaged after it was indexed.
    (parked["data"] / "sequences/00/labels/000003.label").write_bytes(b"123")
    out = tmp_path / "carried.zarr"
    carry_labels.main([*words(parked), "--out", str(out)])
    recorded = Recorded(parked["data"], parked["selected"], carried=out)
    for f in range(12):
        found = recorded.carried_labels(f)
        if f in (0, 6):
            assert len(found.point) == 0, "a labelled scan has its own labels"
            continue
        label = np.zeros(int(recorded.index.points[f]), int)
        label[found.point.numpy()] = found.label.numpy()
        assert (label[:900] == ROAD).all()
        assert (label[1200:1400] == BUILDING).all()
        # Cars may move: they count for two frames.
        near = min(abs(f - 0), abs(f - 6)) <= 2
        assert (label[900:1200] == (CAR if near else 0)).all()
        assert (label[1400:] == 0).all(), "no labelled scan has a label there"
        assert found.confidence.tolist() == [1.0] * len(found.point)
        # Both labelled scans saw everything that stands still.
        assert set(found.scans[found.label != CAR].tolist()) == {2}
        assert set(found.scans[found.label == CAR].tolist()) <= {1}
    rows, asked = recorded.carried.offsets[-1], 10 * 1500 + 20
    assert f"labels of 2 of 12 scans\ncoverage of the other scans: {rows} of {asked} points" in capsys.readouterr().out
    group = store.open_store(out, "carried_labels")
    assert {name: array.dtype.name for name, array in group.arrays()} == {
        "offsets": "int64",
        "point": "uint32",
        "label": "uint8",
        "confidence": "uint8",
        "scans": "uint8",
    }
    assert group.attrs["provenance"]["settings"]["carry_labels"]["things"] == {"voxel_size": 0.2, "frames": 2}
    assert group.attrs["provenance"]["inputs"][str(parked["selected"])]


def test_no_labelled_scan_is_an_empty_store_that_says_so(parked, tmp_path, capsys):
    index.with_labels_of(parked["frames"], [], tmp_path / "none.parquet")
    carry_labels.main(
        [*words({**parked, "none": tmp_path / "none.parquet"}, "none"), "--out", str(tmp_path / "x.zarr")]
    )
    carried = CarriedLabels(tmp_path / "x.zarr")
    assert carried.offsets.tolist() == [0] * 13
    assert len(carried.carried(5).point) == 0
    assert "no scan of sequence 00 is labelled, so there is nothing to carry: the store is empty" in (
        capsys.readouterr().out
    )


def test_every_scan_labelled_is_an_empty_store(parked, tmp_path, capsys):
    carry_labels.main([*words(parked, "frames"), "--out", str(tmp_path / "x.zarr")])
    assert CarriedLabels(tmp_path / "x.zarr").offsets.tolist() == [0] * 13
    assert "labels of 12 of 12 scans\ncoverage of the other scans: 0 of 0 points" in capsys.readouterr().out


def test_labels_of_ignored_classes_only(parked, tmp_path):
    np.zeros(1500, np.uint32).tofile(parked["data"] / "sequences/00/labels/000000.label")
    np.full(1500, 1, np.uint32).tofile(parked["data"] / "sequences/00/labels/000006.label")
    carry_labels.main([*words(parked), "--out", str(tmp_path / "x.zarr")])
    assert CarriedLabels(tmp_path / "x.zarr").offsets.tolist() == [0] * 13


def test_sequence_without_poses_is_refused(parked, tmp_path):
    (parked["data"] / "sequences/00/poses.txt").unlink()
    given = ["--data", str(parked["data"]), "--sequence", "00", "--out", str(tmp_path / "unposed.parquet")]
    layout = ['format="semantickitti"', 'classes="semantickitti"', 'cameras={"image_2": "P2"}']
    index_frames.main([*given, *layout, "missing_images=true", "labels=false", "images=false"])
    with pytest.raises(InputError, match="poses"):
        carry_labels.main([*words({**parked, "unposed": given[-1]}, "unposed"), "--out", str(tmp_path / "x.zarr")])
    assert not (tmp_path / "x.zarr").exists()


def test_index_of_other_frames_is_refused_by_the_reader(carried, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(carried["selected"]).slice(0, 11), tmp_path / "short.parquet")
    with pytest.raises(InputError, match=r"carried\.zarr holds other frames than .*short\.parquet"):
        Recorded(carried["data"], tmp_path / "short.parquet", carried=carried["carried"])


def test_damaged_store_is_an_error_and_no_number(carried):
    shard = carried["carried"] / "label/c/0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 255
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"array 'label' is damaged"):
        Recorded(carried["data"], carried["selected"], carried=carried["carried"]).carried_labels(1)
    shard.unlink()
    with pytest.raises(InputError, match=r"files of array 'label' are missing"):
        Recorded(carried["data"], carried["selected"], carried=carried["carried"])


def test_scan_that_changed_after_it_was_indexed(parked, tmp_path):
    folder = parked["data"] / "sequences/00/velodyne"
    shutil.copy(folder / "000001.bin", folder / "000002.bin")
    with pytest.raises(InputError, match=r"000002\.bin: 1520 points, but 1500 in its index"):
        carry_labels.main([*words(parked), "--out", str(tmp_path / "x.zarr")])
    assert not (tmp_path / "x.zarr").exists()


def test_a_killed_run_is_resumed(parked_longer, check_resume):
    """Two calls for each of 22 unlabelled scans; the run is killed in frame 19."""
    voting = "elite_pipeline.aggregation.carried:_votes"
    check_resume("carry_labels", words(parked_longer), voting, 35, "resumes at frame 19 of 24", 10)
