"""measure_latency: the documented keys."""

import json

import pytest
import torch

from elite_pipeline.config.validation import flatten
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation.latency import PHASES
from elite_pipeline.stages import measure_latency, train_student


@pytest.fixture
def words(taught, student_settings, tmp_path):
    out = tmp_path / "models" / "demo"
    files = [word for name, path in taught.items() for word in (f"--{name}", str(path))]
    run = ["--run", str(out / "run"), "--out", str(out)]
    train_student.main([*files, *run, *flatten(student_settings.model_dump(mode="json"))])
    return ["--model", str(out), *files[:4], "--threads", "1", "--out", str(tmp_path / "results/demo_latency.json")]


def test_result_has_the_documented_keys(words, tmp_path):
    measure_latency.main([*words, "warmup=1", "scans=4", 'precision="32-true"'])
    result = json.loads((tmp_path / "results/demo_latency.json").read_text())
    assert set(result) == {
        *("budget_hz", "budget_ms", "phases", "hz", "hz_p99", "within_budget", "scans", "warmup", "points_median"),
        *("precision", "device", "versions", "samples"),
    }
    assert list(result["phases"]) == list(PHASES)
    assert all(set(numbers) == {"p50", "p95", "p99", "max"} for numbers in result["phases"].values())
    assert {len(values) for values in result["samples"].values()} == {4}
    assert (result["budget_hz"], result["scans"], result["warmup"], result["points_median"]) == (24, 4, 1, 500)
    assert result["hz_p99"] <= result["hz"]
    assert "| forward |" in (tmp_path / "results/demo_latency.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_half_precision_without_a_gpu_is_refused(words):
    with pytest.raises(InputError, match="32-true"):
        measure_latency.main([*words, "warmup=0", "scans=1", 'precision="16-true"'])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_half_precision_on_a_gpu(words, tmp_path):
    measure_latency.main([*words, "warmup=2", "scans=4", 'precision="16-true"'])
    assert json.loads((tmp_path / "results/demo_latency.json").read_text())["precision"] == "16-true"
