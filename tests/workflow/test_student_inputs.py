"""train_student reads aggregated and carried targets only where its student's losses do. By dry runs."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workflow(workflow_with):
    """The workflow with experiments that differ in the losses of their students."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    for name in ("elite_city", "elite_city_aggregated", "elite_city_both", "elite_city_carried", "elite_city_silent"):
        for teacher in ("sam_tiny", None):
            experiment = {"dataset": "demo_10", "teacher": teacher, "student": name}
            config["experiments"][name + ("_alone" if teacher is None else "")] = experiment
    return workflow_with(config)


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("elite_city", {"targets"}),
        ("elite_city_aggregated", {"targets", "aggregated"}),
        ("elite_city_both", {"targets", "aggregated", "carried_labels"}),
        ("elite_city_carried_alone", {"carried_labels"}),
        ("elite_city_silent_alone", set()),
        ("elite_city_aggregated_alone", set()),
        ("elite_city_both_alone", {"carried_labels"}),
    ],
)
def test_reads_the_stores_that_its_losses_read(workflow, dag, experiment, expected):
    (job,) = (job for job in dag(workflow, f"models/{experiment}/student.safetensors") if job.rule == "train_student")
    read = [Path(path) for path in job.inputs if path.endswith(".zarr") and "projection" not in path]
    assert {path.parent.name for path in read} == expected
    for name in expected:
        assert sorted(path.stem for path in read if path.parent.name == name) == [f"{k:02d}" for k in range(6)]
