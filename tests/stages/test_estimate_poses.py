"""estimate_poses: scans of a drive without poses.txt become poses that later stages accept."""

import shutil

import numpy as np
import pytest

from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.recordings.poses import poses_of
from elite_pipeline.stages import estimate_poses, index_frames

SETTINGS = ["voxel_size=1.0", "max_range=100.0"]


@pytest.fixture
def bare(driven, tmp_path):
    """A copy of `driven` without poses and images: its scans and calibration. The index is 00.parquet beside it."""
    folder = tmp_path / "sequences/00"
    shutil.copytree(driven / "velodyne", folder / "velodyne")
    shutil.copy(driven / "calib.txt", folder)
    write_index(folder)
    return folder


def write_index(folder, *settings):
    words = ['format="semantickitti"', 'classes="semantickitti"', 'cameras.image_2="P2"', "missing_images=true"]
    out = ["--sequence", "00", "--out", str(folder.parents[1] / "00.parquet")]
    words = [*words, "labels=false", "images=false", *settings]
    index_frames.main(["--data", str(folder.parents[1]), *out, *words])


def run(folder):
    place = folder.parents[1]
    files = ["--frames", str(place / "00.parquet"), "--out", str(place / "poses/00.parquet")]
    estimate_poses.main(["--data", str(place), *files, *SETTINGS])
    return place / "poses/00.parquet"


def test_poses_of_a_drive_without_poses(bare, driven, open_drive, capsys):
    known = index.read(bare.parents[1] / "00.parquet")
    with pytest.raises(InputError, match="sequence 00 has no poses"):
        poses_of(known)
    found = poses_of(known, run(bare))
    true = open_drive(driven).poses()
    moved = np.linalg.inv(true[0]) @ true[-1]
    np.testing.assert_allclose(found[-1, :3, 3], moved[:3, 3], atol=0.5)
    printed = capsys.readouterr()
    assert "8 poses over 21 m. sequence 00: 0 of 7 compared pairs of scans fit poorly" in printed.out
    assert "warning" not in printed.out
    assert "estimate_poses 00: 8/8 frames" in printed.err


def test_scans_that_cannot_be_placed_are_a_warning(bare, capsys):
    """Every second scan is of nothing: a few points."""
    for number in (1, 3, 5, 7):
        np.ones((4, 4), np.float32).tofile(bare / f"velodyne/{number:06d}.bin")
    write_index(bare)
    run(bare)
    warning = capsys.readouterr().out
    assert "warning: sequence 00: the poses do not fit the scans. In 7 of 7" in warning
    assert "set datasets.<name>.poses: none" in warning


def test_a_scan_that_changed_after_it_was_indexed_is_refused(bare):
    scan = bare / "velodyne/000002.bin"
    scan.write_bytes(scan.read_bytes()[:-16])
    with pytest.raises(InputError, match=r"000002\.bin: .* The scan changed after it was indexed"):
        run(bare)
    assert not (bare.parents[1] / "poses/00.parquet").exists()


def test_recorded_poses_are_not_read_where_the_data_set_does_not_use_them(bare):
    (bare / "poses.txt").write_text("not poses\n")
    with pytest.raises(InputError, match=r"poses\.txt: 1 lines for 8 scans"):
        write_index(bare)
    for poses in ("estimated", "none"):
        write_index(bare, f'poses="{poses}"')
        assert index.read(bare.parents[1] / "00.parquet").poses is None
