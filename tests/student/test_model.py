"""A trained student as a folder: the saved student is the one that runs, and bad folders raise clear errors."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from elite_pipeline.config import MinkUNetSettings
from elite_pipeline.errors import InputError
from elite_pipeline.student import model
from elite_pipeline.student.model import (
    BACKBONE,
    CONFIG,
    WEIGHTS,
    Predictor,
    build,
    load_backbone,
    save,
    share_classifier,
    weights_sha256,
)
from elite_pipeline.student.network import parameters
from elite_pipeline.student.sparse import bfloat16_on_cpu

UNET = {
    "kind": "minkunet",
    "frame": "cylindrical",
    "voxel_size": (1.0, 5.0, 0.5),
    "volume": ((0.0, 16.0), (-180.0, 180.0), (-4.0, 2.0)),
    "stem": 8,
    "planes": [8, 16, 16, 8],
    "blocks": [1, 1, 1, 1],
    "embedding": 16,
    "adaptation": {"layers": 1, "pooling": 2},
}


def unet(**changes):
    torch.manual_seed(1)
    return build(MinkUNetSettings.model_validate({**UNET, **changes}), 20)


@pytest.fixture(params=["spvcnn", "minkunet"])
def folder(request, student_settings, classes, tmp_path):
    if request.param == "minkunet":
        student_settings = student_settings.model_copy(update={"network": MinkUNetSettings.model_validate(UNET)})
    torch.manual_seed(0)
    student = build(student_settings.network, 20)
    with torch.no_grad():
        # Unless `IGNORE` is excluded, this network predicts it everywhere.
        list(student.classifier.parameters())[-1][0] = 1e6
    (tmp_path / "log").write_text("{}\n")
    config = {
        "experiment": "demo",
        "classes": classes.to_json(),
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


def with_one_class_less(config):
    """A `config.json` whose class table lacks traffic signs."""
    table = config["classes"]
    raw = {key: k for key, k in table["training_ids"].items() if k != 19}
    shorter = {key: table[key][:-1] for key in ("names", "raw_ids", "colours")}
    return {**config, "classes": {**table, **shorter, "training_ids": raw}}


def cloud(points):
    return np.random.default_rng(0).uniform((-16, -16, -4, 0), (16, 16, 2, 1), (points, 4)).astype(np.float32)


def test_labels_every_point_and_never_predicts_ignore(folder):
    predict = Predictor.load(folder, "cpu")
    for points in (cloud(2000), cloud(1), cloud(7) * 1e4, np.repeat(cloud(1), 100, axis=0)):
        labels = predict(points)
        assert labels.dtype == np.uint8
        assert labels.shape == (len(points),)
        assert labels.min() >= 1
        assert labels.max() < 20
    assert predict(cloud(0)).shape == (0,)


def test_loads_the_student_that_was_saved(folder):
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
def test_arrays_that_are_not_scans_are_refused(folder, points):
    with pytest.raises(InputError, match=r"\(N, 4\)"):
        Predictor.load(folder, "cpu")(points)


def test_bad_folders_raise_clear_errors(folder):
    with pytest.raises(InputError, match=r"nowhere/config\.json.*snakemake"):
        Predictor.load("nowhere")
    config = json.loads((folder / CONFIG).read_text())
    network, width = config["network"], {"width": 16} if "width" in config["network"] else {"planes": [8] * 4}
    for changed, message in (
        ({"network": {**network, **width}}, "does not fit.*its network is"),
        ({"network": {**network, "voxel_size": np.multiply(network["voxel_size"], 2).tolist()}}, "its network is"),
        ({"network": {**network, "kind": "transformer"}}, r"config\.json: no valid network(.|\n)*kind must be"),
        (with_one_class_less(config), "does not fit.*its classes is.*'traffic-sign'"),
        ({"classes": config["classes"]["names"]}, r"config\.json: holds no class table"),
    ):
        (folder / CONFIG).write_text(json.dumps({**config, **changed}))
        with pytest.raises(InputError, match=message):
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


@pytest.mark.parametrize("folder", ["spvcnn"], indirect=True)
def test_weights_without_metadata_are_checked_by_their_shapes(folder):
    config, points = json.loads((folder / CONFIG).read_text()), cloud(500)
    labels = Predictor.load(folder, "cpu")(points)
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)
    np.testing.assert_array_equal(Predictor.load(folder, "cpu")(points), labels)
    (folder / CONFIG).write_text(json.dumps(with_one_class_less(config)))
    with pytest.raises(InputError, match=r"does not fit(.|\n)*size mismatch"):
        Predictor.load(folder, "cpu")


@pytest.fixture
def pretrained(tmp_path):
    """The folder of a pre-trained backbone. Its embedding and adaptation differ from those of every student."""
    network = {**UNET, "embedding": 64, "adaptation": None}
    save_file(unet(embedding=64, adaptation=None).backbone.state_dict(), tmp_path / BACKBONE)
    (tmp_path / CONFIG).write_text(json.dumps({"network": network}))
    return tmp_path


def test_a_pretrained_backbone_is_loaded(pretrained):
    torch.manual_seed(2)
    student = build(MinkUNetSettings.model_validate(UNET), 20)
    stored, before = load_file(pretrained / BACKBONE), student.backbone.state_dict()
    assert any(not torch.equal(stored[name], tensor) for name, tensor in before.items())
    load_backbone(student, pretrained)
    assert all(torch.equal(stored[name], tensor) for name, tensor in student.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frame", "cartesian"),
        ("voxel_size", (1.0, 5.0, 0.25)),
        ("volume", ((0.0, 32.0), (-180.0, 180.0), (-4.0, 2.0))),
        ("stem", 16),
        ("planes", [8, 16, 16, 16]),
        ("blocks", [1, 1, 1, 2]),
    ],
)
def test_a_backbone_of_another_kind_is_refused(pretrained, key, value):
    ours, theirs = json.dumps(value), json.dumps(UNET[key])
    with pytest.raises(InputError) as error:
        load_backbone(unet(**{key: value}), pretrained)
    assert f"network.{key}={theirs}" in str(error.value)
    assert f"network.{key}={ours}" in str(error.value)


def test_bad_backbone_folders_raise_clear_errors(pretrained):
    with pytest.raises(InputError, match=r"nowhere/config\.json.*delete nowhere and run snakemake again"):
        load_backbone(unet(), "nowhere")
    weights = (pretrained / BACKBONE).read_bytes()
    (pretrained / BACKBONE).write_bytes(weights[:1000])
    with pytest.raises(InputError, match=r"backbone\.safetensors: unreadable"):
        load_backbone(unet(), pretrained)
    save_file({"stem.norm.weight": torch.ones(8)}, pretrained / BACKBONE)
    with pytest.raises(InputError, match=r"backbone\.safetensors does not fit(.|\n)*stem"):
        load_backbone(unet(), pretrained)
    (pretrained / BACKBONE).unlink()
    with pytest.raises(InputError, match=r"backbone\.safetensors: unreadable"):
        load_backbone(unet(), pretrained)
    (pretrained / CONFIG).write_text('{"planes": []}')
    with pytest.raises(InputError, match=r"config\.json: cannot read a pre-trained backbone.*network"):
        load_backbone(unet(), pretrained)


def test_a_shared_classifier_is_the_teachers_and_frozen():
    student = unet(classifier="shared")
    weight, bias = torch.randn(20, 16, generator=torch.Generator().manual_seed(0)), torch.arange(20.0)
    share_classifier(student, weight, bias)
    output = student(student.voxelise(torch.from_numpy(cloud(500))))
    torch.testing.assert_close(output.logits, output.features @ weight.T + bias)
    assert not any(p.requires_grad for p in student.classifier.parameters())
    with pytest.raises(InputError, match=r"24 input channels, but the student's has 16.*network\.embedding=24"):
        share_classifier(student, torch.zeros(20, 24), bias)
    with pytest.raises(InputError, match="19 classes and the student's 20"):
        share_classifier(student, weight[:19], bias[:19])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["32-true", "16-true"])
def test_a_gpu_predicts_nearly_the_same_labels(folder, precision):
    points = cloud(5000)
    same = Predictor.load(folder, "cuda", precision=precision)(points) == Predictor.load(folder, "cpu")(points)
    assert same.mean() > 0.97


@pytest.mark.skipif(not bfloat16_on_cpu(), reason="no bfloat16 instructions")
def test_bfloat16_products_change_few_labels(folder):
    points, exact = cloud(5000), Predictor.load(folder, "cpu")
    predict = Predictor.load(folder, "cpu", precision="bf16-mixed")
    pyramid = exact.voxelise(points)
    assert not torch.equal(predict.forward(pyramid), exact.forward(pyramid))
    assert (predict(points) == exact(points)).mean() > 0.97


def test_a_precision_that_the_device_lacks_is_refused(folder, monkeypatch):
    with pytest.raises(InputError, match="16-true needs a GPU"):
        Predictor.load(folder, "cpu", precision="16-true")
    monkeypatch.setattr(model, "bfloat16_on_cpu", lambda: False)
    with pytest.raises(InputError, match="bfloat16 instructions"):
        Predictor.load(folder, "cpu", precision="bf16-mixed")
