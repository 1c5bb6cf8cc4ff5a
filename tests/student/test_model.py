"""A trained student as a folder: what is saved is what runs, and a bad folder is told."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elite_pipeline.errors import InputError
from elite_pipeline.student.model import CONFIG, WEIGHTS, Predictor, build, save, weights_sha256
from elite_pipeline.student.spvcnn import parameters


@pytest.fixture
def folder(student_settings, tmp_path):
    torch.manual_seed(0)
    student = build(student_settings.network, 20)
    with torch.no_grad():
        # A network that would say `IGNORE` everywhere if it were let.
        student.classifier[2].bias[0] = 1e6
    (tmp_path / "log").write_text("{}\n")
    config = {
        "experiment": "demo",
        "classes": [f"class {c}" for c in range(20)],
        "network": student_settings.network.model_dump(),
        "settings": student_settings.model_dump(),
        "trained_on": ["00"],
        "scans": 3,
        "labelled_scans": 2,
        "taught": True,
        "parameters": parameters(student),
        "steps": 3,
        "device": "a test",
    }
    save(tmp_path / "model", student, config, tmp_path / "log")
    return tmp_path / "model"


def cloud(points):
    return np.random.default_rng(0).uniform((-16, -16, -4, 0), (16, 16, 2, 1), (points, 4)).astype(np.float32)


def test_labels_every_point_and_never_ignore(folder):
    predict = Predictor.load(folder, "cpu")
    for points in (cloud(2000), cloud(1), cloud(7) * 1e4, np.repeat(cloud(1), 100, axis=0)):
        labels = predict(points)
        assert labels.dtype == np.uint8
        assert labels.shape == (len(points),)
        assert labels.min() >= 1
        assert labels.max() < 20
    assert predict(cloud(0)).shape == (0,)


def test_is_the_student_that_was_saved(folder):
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, "training.jsonl"]
    predict = Predictor.load(folder, "cpu")
    stored = load_file(folder / WEIGHTS)
    assert stored.keys() == predict.student.state_dict().keys()
    assert not any("heads" in name for name in stored)
    assert parameters(predict.student) == predict.config["parameters"]
    assert len(weights_sha256(folder)) == 64
    first, second = (Predictor.load(folder, "cpu")(cloud(2000)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("points", [np.zeros((3, 3), np.float32), np.zeros(4, np.float32), np.full((2, 4), np.nan)])
def test_what_is_no_scan_is_refused(folder, points):
    with pytest.raises(InputError, match=r"\(N, 4\)"):
        Predictor.load(folder, "cpu")(points)


def test_bad_folders_are_told(folder):
    with pytest.raises(InputError, match=r"nowhere/config\.json.*snakemake"):
        Predictor.load("nowhere")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "network": {**config["network"], "width": 16}}))
    with pytest.raises(InputError, match="does not fit"):
        Predictor.load(folder, "cpu")
    (folder / CONFIG).write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(InputError, match="version 99"):
        Predictor.load(folder)
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(InputError, match="unreadable"):
        Predictor.load(folder, "cpu")
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match="unreadable"):
        Predictor.load(folder, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("half", [False, True])
def test_on_a_gpu_it_says_nearly_the_same(folder, half):
    points = cloud(5000)
    same = Predictor.load(folder, "cuda", half=half)(points) == Predictor.load(folder, "cpu")(points)
    assert same.mean() > 0.97
