"""write_card: the card of a scored student states that score, and a score of another student is refused."""

import json

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from elite_pipeline.errors import InputError
from elite_pipeline.evaluation import latency
from elite_pipeline.stages import evaluate_miou, write_card
from elite_pipeline.student.model import Predictor


@pytest.fixture
def words(taught, untrained_model, tmp_path):
    """Return command line words for a student with random weights, its score on the toy drive and a latency."""
    path = untrained_model / "config.json"
    training = {"epochs": None, "steps": 7, "batch": 2, "seed": 3}
    trained = {"settings": {"train_student": training}, "trained_on": ["00"], "steps": 7, "scans": 3}
    about = {"versions": {"torch": "9.9"}, "commit": "c0ffee"}
    path.write_text(json.dumps(json.loads(path.read_text()) | trained | about))
    miou, speed = (tmp_path / "results" / f"untrained_{kind}.json" for kind in ("miou", "latency"))
    files = ["--data", str(taught["data"]), "--frames", str(taught["frames"])]
    named = ["--experiment", "untrained", "--dataset", "toy", "--model", str(untrained_model)]
    evaluate_miou.main([*named, *files, "--out", str(miou)])
    measured = latency.summary({"total": np.full(9, 12.5)}, [500] * 9) | {"precision": "32-true", "device": "a clock"}
    speed.write_text(json.dumps(measured))
    results = ["--miou", str(miou), "--latency", str(speed), "--out", str(untrained_model / "README.md")]
    return ["--model", str(untrained_model), *results]


def test_completes_the_model_with_its_numbers(words, untrained_model, tmp_path):
    points = {"all": {"scans": 3, "mean": {"accuracy": 0.75, "miou": 0.5}}, "unlabelled": None}
    (tmp_path / "points.json").write_text(json.dumps(points))
    write_card.main([*words, "--points", str(tmp_path / "points.json"), 'teacher="sam_tiny"', "simulated=true"])
    names = sorted(path.name for path in untrained_model.iterdir())
    assert names == ["README.md", "config.json", "student.safetensors", "training.jsonl"]  # no partial file is left
    card = (untrained_model / "README.md").read_text()
    result = json.loads((tmp_path / "results/untrained_miou.json").read_text())
    scored = np.sum(result["confusion"], axis=1)[1:]
    assert 0 < scored.sum() < 1000
    assert f"| **mean of 19** | **{100 * result['miou']:.1f}** | {scored.sum()} |" in card
    assert f"| {100 * result['iou']['car']:.1f} | {scored[0]} |" in card
    assert result["weights_sha256"] in card
    assert "12.5 ms at the 99th percentile" in card
    assert "a clock" in card
    assert "7 steps, batch 2, seed 3" in card
    assert "simulated" in card
    metrics = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["value"] == round(result["miou"], 4)
    Predictor.load(untrained_model, "cpu")


def test_refuses_a_score_of_other_weights(words, untrained_model):
    path = untrained_model / "student.safetensors"
    weights = load_file(path)
    weights["classifier.2.bias"] += np.float32(1)
    save_file(weights, path)
    with pytest.raises(InputError, match="Rerun evaluate_miou"):
        write_card.main([*words, "teacher=null", "simulated=false"])
    assert not (untrained_model / "README.md").exists()


def test_settings_are_checked(words):
    with pytest.raises(InputError, match="simulated: this key is missing"):
        write_card.main([*words, "teacher=null"])
