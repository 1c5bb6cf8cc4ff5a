"""Which jobs make the poses of a drive: estimate_poses where the data set says so, and none elsewhere."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def jobs(tmp_path, dag):
    """A function (poses) that returns rule -> inputs of the jobs of carried labels: the demo's, and a variant's."""

    def planned(poses):
        for name in ("workflow", "elite_pipeline", "config", "Snakefile"):
            (tmp_path / name).symlink_to(ROOT / name)
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        config["datasets"]["demo"]["poses"] = poses
        config["datasets"]["demo_half"] = {"of": "demo", "labelled": 0.5}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        targets = ["cache/demo/carried_labels/00.zarr", "cache/demo_half/carried_labels/00.zarr"]
        return [(job.rule, job.inputs) for job in dag(tmp_path, *targets)]

    return planned


def test_estimated_poses_are_made_once_for_a_data_set_and_its_variants(jobs):
    found = jobs("estimated")
    (made,) = [inputs for rule, inputs in found if rule == "estimate_poses"]
    assert {"cache/demo/frames/00.parquet", "elite_pipeline/recordings/odometry.py"} <= set(made)
    carried = [inputs for rule, inputs in found if rule == "carry_labels"]
    assert len(carried) == 2
    assert all("cache/demo/poses/00.parquet" in inputs for inputs in carried)


def test_recorded_poses_are_in_the_index(jobs):
    found = jobs("recorded")
    assert "estimate_poses" not in {rule for rule, _ in found}
    assert {"carry_labels", "index_frames"} <= {rule for rule, _ in found}


def test_a_change_of_the_check_does_not_rerun_the_index(jobs):
    made = next(inputs for rule, inputs in jobs("estimated") if rule == "index_frames")
    assert "elite_pipeline/recordings/poses.py" in made
    assert not {"elite_pipeline/recordings/pose_check.py", "elite_pipeline/recordings/overlap.py"} & set(made)
