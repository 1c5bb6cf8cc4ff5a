"""pretrain_student: without labels, over patches or superpixels; train_student starts from its backbone."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elite_pipeline import store
from elite_pipeline.config.validation import flatten
from elite_pipeline.errors import InputError
from elite_pipeline.stages import pretrain_student, train_student
from elite_pipeline.student.model import Predictor


def command(paths, out, settings):
    """Return the command line words of the rule."""
    files = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    return [*files, "--run", str(out.with_name("run")), "--out", str(out), *flatten(settings.model_dump(mode="json"))]


def with_level(settings, level):
    contrast = settings.contrast.model_copy(update={"level": level})
    return settings.model_copy(update={"contrast": contrast})


def test_a_backbone_is_passed_from_stage_to_stage(
    taught, rewrite_targets, pretraining_settings, minkunet_settings, tmp_path
):
    """A backbone is pre-trained on a frozen encoder's features without label files. A student starts from it."""
    rewrite_targets(taught["targets"], soft_label=None, mass=None)
    labels, out = taught["data"] / "sequences/00/labels", tmp_path / "pretrained" / "udakd"
    shutil.move(labels, tmp_path / "labels")
    for _ in range(2):  # the second run replaces the first
        pretrain_student.main(command(taught, out, pretraining_settings))
    shutil.move(tmp_path / "labels", labels)
    names = {"backbone.safetensors", "module.safetensors", "config.json", "training.jsonl"}
    assert {path.name for path in out.iterdir()} == names
    assert {path.name for path in out.parent.iterdir()} == {"udakd", "run"}
    assert list((out.parent / "run").iterdir()) == []
    config = json.loads((out / "config.json").read_text())
    assert (config["pretraining"], config["scans"], config["steps"]) == ("udakd", 3, 3)
    assert config["settings"] == json.loads(json.dumps(pretraining_settings.model_dump()))
    assert set(config["inputs"]) == {
        str(taught["frames"]),
        *(f"{taught[n]}/zarr.json" for n in ("projection", "targets")),
    }
    log = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    assert all(line["pairs"] in (8, 16) for line in log)

    alone, backbone = {name: taught[name] for name in ("data", "frames")}, load_file(out / "backbone.safetensors")
    assert config["parameters"] == sum(
        value.numel() for name, value in backbone.items() if not any(word in name for word in ("running", "batches"))
    )
    options = minkunet_settings.train_student.model_copy(update={"backbone_learning_rate": 0.0})
    probe = minkunet_settings.model_copy(update={"train_student": options})
    train_student.main(command({**alone, "pretrained": out}, tmp_path / "models" / "probe", probe))
    weights = load_file(tmp_path / "models/probe/student.safetensors")
    assert all(torch.equal(weights[f"backbone.{name}"], value) for name, value in backbone.items())
    config = json.loads((tmp_path / "models/probe/config.json").read_text())
    assert config["pretrained"] == "udakd"
    assert str(out / "backbone.safetensors") in config["inputs"]
    cloud = np.random.default_rng(0).uniform(-10, 10, size=(300, 4)).astype(np.float32)
    assert Predictor.load(tmp_path / "models/probe", "cpu")(cloud).shape == (300,)

    network = minkunet_settings.network.model_copy(update={"voxel_size": (0.5, 0.5, 0.5)})
    other = minkunet_settings.model_copy(update={"network": network})
    with pytest.raises(InputError, match=r"udakd/config\.json.*network\.voxel_size"):
        train_student.main(command({**alone, "pretrained": out}, tmp_path / "models" / "other", other))


def test_pairs_superpixels_if_the_level_is_superpixel(taught, pretraining_settings, tmp_path):
    settings, path = with_level(pretraining_settings, "superpixel"), tmp_path / "superpixels.zarr"
    frames = ["000000", "000001", "000002"]
    with store.create(path, "superpixels", sequence="00", frames=frames, provenance={}) as out:
        out.rows("segment", (), np.uint16).append((np.arange(130) % 2).astype(np.uint16))
    pretrain_student.main(command({**taught, "superpixels": path}, tmp_path / "out", settings))
    log = [json.loads(line) for line in (tmp_path / "out/training.jsonl").read_text().splitlines()]
    assert all(line["pairs"] in (4, 8) for line in log)
    with pytest.raises(InputError, match=r"contrast\.level is superpixel: give --superpixels"):
        pretrain_student.main(command(taught, tmp_path / "out", settings))
    with pytest.raises(InputError, match=r"contrast\.level is point"):
        pretrain_student.main(command({**taught, "superpixels": path}, tmp_path / "out", pretraining_settings))
