"""The work of a job, from configuration and recordings."""

from pathlib import Path

import pytest
import yaml

from elite_pipeline import config
from elite_pipeline.commands.workload import Workloads
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workloads():
    return Workloads(config.read(ROOT / "config.yaml", ROOT / COMPARISONS))


@pytest.mark.parametrize(
    ("rule", "wildcards", "amount", "unit"),
    [
        ("simulate_drive", {"dataset": "demo", "sequence": "00"}, 20, "frame"),
        ("index_frames", {"dataset": "demo", "sequence": "00"}, 20, "frame"),
        ("select_labels", {"dataset": "demo", "sequence": "00"}, 1, "job"),
        ("project_points", {"dataset": "demo", "sequence": "00"}, 20, "image"),
        ("tune_teacher", {"dataset": "demo", "teacher": "sam_tiny"}, 480, "image"),
        ("tune_teacher", {"dataset": "demo", "teacher": "frozen_tiny"}, 120, "image"),
        ("cache_teacher", {"dataset": "demo", "teacher": "sam_tiny", "sequence": "00"}, 20, "image"),
        ("tune_teacher", {"dataset": "demo-seed3", "teacher": "sam_tiny"}, 480, "image"),
        ("label_images", {"dataset": "demo-seed3", "sequence": "00"}, 20, "image"),
        ("train_student", {"experiment": "demo"}, 600, "scan"),
        ("train_student", {"experiment": "demo-seed3"}, 600, "scan"),
        ("train_student", {"experiment": "demo_udakd"}, 400, "scan"),
        ("pretrain_student", {"pretraining": "udakd_demo"}, 300, "scan"),
        ("evaluate_miou", {"experiment": "demo", "tta": ""}, 20, "scan"),
        ("evaluate_miou", {"experiment": "demo", "tta": "_tta"}, 240, "scan"),
        ("measure_latency", {"experiment": "demo"}, 110, "scan"),
        ("carry_labels", {"dataset": "demo_10", "sequence": "00"}, 20, "frame"),
        ("evaluate_carried_labels", {"dataset": "demo_10"}, 120, "frame"),
        ("export_labels", {"dataset": "demo_10", "labels": "carried", "sequence": "00"}, 20, "frame"),
        ("simulate_images", {"images": "worlds"}, 192, "image"),
        ("plot_miou", {"experiment": "demo"}, 1, "job"),
        ("a_rule_of_your_own", {"dataset": "demo", "sequence": "00"}, 20, "frame"),
    ],
)
def test_amount(workloads, rule, wildcards, amount, unit):
    work = workloads.of(rule, wildcards)
    assert (work.amount, work.unit) == (amount, unit)


def test_test_sequences_are_counted_where_they_are_scored():
    known = config.read(ROOT / "config.yaml", ROOT / COMPARISONS)
    demo = known.datasets["demo"].model_copy(update={"test": ["01", "02", "03"]})
    workloads = Workloads(known.model_copy(update={"datasets": {**known.datasets, "demo": demo}}))
    amounts = [
        workloads.of("evaluate_miou", {"experiment": "demo", "test": test, "tta": ""}).amount for test in ("", "_test")
    ]
    assert amounts == [20, 60]


def test_recordings_are_counted(workloads, write_drive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_drive(tmp_path / "data/sample/sequences/00")
    work = workloads.of("project_points", {"dataset": "sample", "sequence": "00"})
    assert (work.amount, work.points) == (6, 500), "three frames, two cameras"
    work = workloads.of("label_images", {"dataset": "sample", "sequence": "00"})
    assert (work.amount, work.pixels, work.like) == (6, 3200, {"labeller": "nearest"})


def test_another_encoder_is_another_kind_of_work(workloads):
    tiny, large = (
        workloads.of("tune_teacher", {"dataset": "demo", "teacher": teacher}).like
        for teacher in ("sam_tiny", "sam_vit_b")
    )
    assert tiny != large


def test_every_view_of_a_teacher_is_a_pass(tmp_path):
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    values["teachers"]["sam_tiny"]["cache_teacher"]["views"] = ["plain", "mirrored", "scaled"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    wildcards = {"dataset": "demo", "teacher": "sam_tiny", "sequence": "00"}
    once, thrice = (
        Workloads(config.read(folder / "config.yaml", ROOT / COMPARISONS)).of("cache_teacher", wildcards)
        for folder in (ROOT, tmp_path)
    )
    assert (once.amount, thrice.amount) == (20, 60)
    assert once.like == thrice.like, "a pass takes the time that was measured"


def test_name_that_is_gone_is_told(workloads):
    with pytest.raises(InputError, match="train_student"):
        workloads.of("train_student", {"experiment": "gone"})
