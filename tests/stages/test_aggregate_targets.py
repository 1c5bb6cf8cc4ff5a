"""aggregate_targets: soft labels of a place, carried by the poses of a simulated drive and scored against its truth."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from elite_pipeline import config, store
from elite_pipeline.aggregation.reached import Aggregated
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.stages import aggregate_targets, corrupt_truth, index_frames, project_points

LAYOUT = ['format="semantickitti"', 'classes="semantickitti"', 'cameras={"image_2": "P2"}']
RULE = ["project_points.min_depth=0.5", "project_points.cell=2.5", "project_points.tolerance=0.1"]
SETTINGS = config.read(Path(__file__).parents[2] / "config.yaml").aggregate_targets.model_dump(mode="json")


def prepare(drive, folder, accuracy):
    """Index, project and make the targets of an oracle. Returns words for their files."""
    given, frames = ["--data", str(drive.parents[1])], ["--frames", str(folder / "00.parquet")]
    needs = ["missing_images=false", "labels=true", "images=true"]
    index_frames.main([*given, "--sequence", "00", "--out", frames[1], *LAYOUT, *needs])
    projection = ["--projection", str(folder / "projection.zarr")]
    project_points.main([*given, *frames, "--out", projection[1], *RULE])
    targets = ["--targets", str(folder / "targets.zarr")]
    corrupt_truth.main([*given, *frames, *projection, "--out", targets[1], f"accuracy={accuracy}", "seed=0"])
    return [*given, *frames, *projection, *targets]


@pytest.fixture(scope="module")
def given(simulated_drive, tmp_path_factory):
    return prepare(simulated_drive, tmp_path_factory.mktemp("aggregate"), 1.0)


def aggregate(given, out, **changes):
    aggregate_targets.main([*given, "--out", str(out), f"aggregate_targets={json.dumps(SETTINGS | changes)}"])
    return Aggregated(out)


def scores(given, aggregated):
    """(reached, own, right): shares of all labelled points, of own points that are reached, and of right classes."""
    recorded = Recorded(*(Path(given[k]) for k in (1, 3, 5, 7)))
    labelled = reached = own = own_reached = right = 0
    for f in range(len(recorded.index.frames)):
        labels, found = recorded.labels(f), aggregated.reached(f)
        point = found.point.numpy()
        assert (np.diff(point) > 0).all()
        assert (found.soft_label[:, 0] > 0).all()
        known = labels[point] > 0
        labelled += (labels > 0).sum()
        reached += known.sum()
        right += (found.soft_label[:, 0].numpy() == labels[point])[known].sum()
        seen = recorded.answers(f).taught.unique().numpy()
        own += len(seen)
        own_reached += np.isin(seen, point[found.own.numpy()]).sum()
        assert found.own.sum() == len(seen)
    return reached / labelled, own_reached / own, right / reached


def test_a_perfect_teacher_stays_right_where_its_camera_did_not_look(given, tmp_path, capsys):
    aggregated = aggregate(given, tmp_path / "a.zarr")
    reached, own, right = scores(given, aggregated)
    alone = store.Projection(Path(given[5])).read("visible", slice(None)).sum()
    points = Recorded(Path(given[1]), Path(given[3])).index.points.sum()
    assert reached > 2 * alone / points
    assert own == 1.0
    assert right > 0.96
    printed = capsys.readouterr().out
    assert f"{aggregated.offsets[-1]} of {points} points reached" in printed
    mass = store.read(aggregated.group, "mass")
    assert mass.sum() == pytest.approx(aggregated.offsets[-1], rel=1e-3)
    assert mass[0] < 1


def test_aggregation_averages_out_single_errors(simulated_drive, tmp_path):
    given = prepare(simulated_drive, tmp_path, 0.8)
    *_, right = scores(given, aggregate(given, tmp_path / "a.zarr"))
    assert right > 0.82


def test_without_a_window_only_the_own_frame_counts(given, tmp_path):
    things = {"voxel_size": 0.3, "frames": 0, "seen": 2}
    aggregated = aggregate(given, tmp_path / "a.zarr", distance=0.01, things=things)
    views = torch.cat([aggregated.reached(f).views for f in range(4)])
    assert views.max() == 1


def test_a_killed_run_ends_in_the_same_bytes(given, tmp_path, monkeypatch):
    whole = aggregate(given, tmp_path / "whole.zarr")
    monkeypatch.setattr(store, "SAVE_SECONDS", 0)
    from elite_pipeline.aggregation.soft_targets import Aggregation

    original = Aggregation.found

    def killed(self, f):
        if f == 2:
            raise KeyboardInterrupt
        return original(self, f)

    with monkeypatch.context() as patch:
        patch.setattr(Aggregation, "found", killed)
        with pytest.raises(KeyboardInterrupt):
            aggregate(given, tmp_path / "again.zarr")
    assert (tmp_path / "again.zarr.partial").exists()
    again = aggregate(given, tmp_path / "again.zarr")
    for name, array in whole.group.arrays():
        np.testing.assert_array_equal(store.read(again.group, name), np.asarray(array[:]))


def test_a_drive_without_poses_is_refused_with_the_remedy(simulated_drive, tmp_path):
    drive = tmp_path / "data/sequences/00"
    shutil.copytree(simulated_drive, drive)
    (drive / "poses.txt").unlink()
    given = prepare(drive, tmp_path, 1.0)
    with pytest.raises(InputError, match=r"poses.*estimated"):
        aggregate(given, tmp_path / "a.zarr")


def test_targets_without_soft_labels_are_refused(given, taught, tmp_path):
    with pytest.raises(InputError, match="other frames"):
        aggregate([*given[:6], "--targets", str(taught["targets"])], tmp_path / "a.zarr")


def test_a_damaged_store_is_named(given, tmp_path):
    aggregate(given, tmp_path / "a.zarr")
    chunk = next(path for path in (tmp_path / "a.zarr/soft_label/c").rglob("*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 0xFF
    chunk.write_bytes(data)
    with pytest.raises(InputError, match="'soft_label' is damaged"):
        [Aggregated(tmp_path / "a.zarr").reached(f) for f in range(4)]
