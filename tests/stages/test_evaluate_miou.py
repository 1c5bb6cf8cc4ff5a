"""evaluate_miou: the keys of design.md section 5, and every labelled point counted once."""

import json

import numpy as np
import pytest

from elite_pipeline.datasets.semantickitti import CLASSES, RAW_IDS
from elite_pipeline.errors import InputError
from elite_pipeline.stages import evaluate_miou, train_student
from elite_pipeline.student.model import Predictor
from elite_pipeline.validation import flatten

KEYS = [
    *("experiment", "dataset", "split", "sequences", "miou", "iou", "confusion", "points", "scans", "tta"),
    *(
        "trained_on",
        "labelled_scans",
        "weights_sha256",
        "parameters",
        "config",
        "versions",
        "device",
        "commit",
        "seconds",
    ),
]


@pytest.fixture
def model(taught, student_settings, tmp_path):
    out = tmp_path / "models" / "demo"
    files = [word for name, path in taught.items() for word in (f"--{name}", str(path))]
    run = ["--run", str(out / "run"), "--out", str(out)]
    train_student.main([*files, *run, *flatten(student_settings.model_dump(mode="json"))])
    return out


def evaluate(taught, model, out):
    about = ["--experiment", "demo", "--dataset", "toy", "--model", str(model)]
    files = ["--sequences", str(taught["sequences"]), "--frames", str(taught["frames"])]
    evaluate_miou.main([*about, *files, "--out", str(out)])
    return json.loads(out.read_text())


def test_result_has_the_promised_keys_and_counts(taught, model, tmp_path):
    result = evaluate(taught, model, tmp_path / "results" / "demo_miou.json")
    assert list(result) == KEYS
    assert (result["split"], result["sequences"], result["trained_on"], result["tta"]) == ("val", ["00"], ["00"], False)
    assert list(result["iou"]) == list(CLASSES[1:])
    assert result["miou"] == pytest.approx(np.mean(list(result["iou"].values())))
    assert (result["scans"], result["points"]) == (2, 1000)  # frame 2 is unlabelled
    assert np.sum(result["confusion"]) == 1000
    assert np.sum(result["confusion"][0]) == 0  # nothing is predicted as `IGNORE`
    assert (tmp_path / "results" / "demo_miou.md").read_text().count("\n| ") == 21


def test_scores_the_predictions_themselves(taught, model, tmp_path):
    predict = Predictor.load(model, "cpu")
    for frame in ("000000", "000001"):
        points = np.fromfile(taught["sequences"] / "velodyne" / f"{frame}.bin", np.float32).reshape(-1, 4)
        raw = np.array(RAW_IDS, dtype=np.uint32)[predict(points)]
        raw.tofile(taught["sequences"] / "labels" / f"{frame}.label")
    result = evaluate(taught, model, tmp_path / "demo_miou.json")
    present = np.count_nonzero(np.sum(result["confusion"], axis=0))
    assert result["miou"] == pytest.approx(present / 19)


def test_nothing_labelled_is_an_error(taught, model, tmp_path):
    from elite_pipeline import index

    index.write(taught["frames"], [{"frame": "000000", "points": 500, "labelled": False}])
    with pytest.raises(InputError, match="nothing to score"):
        evaluate(taught, model, tmp_path / "demo_miou.json")
    assert not (tmp_path / "demo_miou.json").exists()
