"""A comparison of two experiments with two seeds, and the results that it needs."""

import json

import pytest
from written_results import write_miou

from elite_pipeline.stages.compare_experiments import CompareExperiments


@pytest.fixture
def settings():
    about = {"dataset": "streets_10", "student": "small", "labeller": None}
    experiments = {
        "plain": {**about, "experiment": "plain", "teacher": None},
        "taught | well": {**about, "experiment": "taught", "teacher": "sam", "student": "big", "labeller": "regions"},
    }
    pairs = [["taught | well", "plain"]]
    values = {"comparison": "x", "experiments": experiments, "seeds": [3, 1], "differences": pairs}
    return CompareExperiments.model_validate(values)


@pytest.fixture
def files(tmp_path):
    """(results, teachers) of `settings`. mIoU with seeds 3 and 1: plain 0.30 and 0.34, taught 0.45 and 0.39."""
    miou = {("plain", 3): 0.30, ("plain", 1): 0.34, ("taught", 3): 0.45, ("taught", 1): 0.39}
    score = {"unlabelled": {"accuracy": 0.75, "miou": 0.375}, "all": {"accuracy": 0.5, "miou": 0.25}}
    teacher = {"dataset": "streets_10", "teacher": "sam"} | {name: {"mean": mean} for name, mean in score.items()}
    (tmp_path / "streets_10_sam_points.json").write_text(json.dumps(teacher))
    return [write_miou(tmp_path, *run, value) for run, value in miou.items()], [tmp_path / "streets_10_sam_points.json"]
