"""plot_embedding: a student whose adapted features equal its teacher's by construction, and inputs that are refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.soft_labels import encode
from elite_pipeline.stages.plot_embedding import main
from elite_pipeline.student import model

FRAMES = ["000000", "000001", "000002"]
RAW = {"car": 10, "road": 40, "building": 50}
PATCH = np.arange(500) // 10
"""Patch of each point of a scan."""


@pytest.fixture
def build(tmp_path, classes):
    """Return a function from keys of `network` to the folder of such a student, whose module changes features."""
    from pydantic import TypeAdapter

    from elite_pipeline.config import Network

    def make(**keys):
        torch.manual_seed(0)
        volume = ((-20.0, 20.0), (-20.0, 20.0), (-3.0, 3.0))
        network = {"kind": "minkunet", "frame": "cartesian", "voxel_size": (1.0, 1.0, 1.0), "volume": volume, "stem": 8}
        network |= {"planes": [8, 8], "blocks": [1, 1], "embedding": 16, "adaptation": {"layers": 1, "pooling": 2}}
        network = TypeAdapter(Network).validate_python(network | keys)
        settings = {"losses": {"stages": [1]}}
        config = {"network": network.model_dump(mode="json"), "classes": classes.to_json(), "settings": settings}
        student = model.build(network, len(classes))
        for name, weights in student.named_parameters():
            torch.nn.init.normal_(weights, std=1.0 if name.startswith("adaptation") else 0.3)
        (tmp_path / "log").write_text("")
        model.save(tmp_path / "model", student, config, tmp_path / "log")
        return tmp_path / "model"

    return make


@pytest.fixture
def seen(drive, build, tmp_path, write_index):
    """Return words for a student and stores of its sequence: 3 scans of 50 patches, each of 10 points of one class.

    The teacher's features of stage 1 are the student's adapted features in 8 bits. Those of stage 0 are random.
    """
    paths = {"model": build(), "data": drive.parents[1]}
    paths |= {name: tmp_path / f"00.{name}" for name in ("frames", "projection", "targets")}
    rng = np.random.default_rng(1)
    for frame in FRAMES:
        rng.choice(list(RAW.values()), 50)[PATCH].astype(np.uint32).tofile(drive / f"labels/{frame}.label")
    write_index(paths["frames"], rows())
    about = {"sequence": "00", "frames": FRAMES, "provenance": {}}
    with store.create(paths["projection"], "projection", cameras=["a"], image_sizes={}, **about) as out:
        out.rows("point", (), np.uint32).append(np.tile(np.arange(500), 3))
        out.rows("visible", (), np.bool_).append(np.ones(1500, bool))
        out.array("offsets", np.arange(4) * 500)
    predictor = model.Predictor.load(paths["model"], "cpu")
    with torch.inference_mode():
        features = np.concatenate([patch_means(predictor, drive / f"velodyne/{frame}.bin") for frame in FRAMES])
    write_targets(paths["targets"], np.stack([rng.normal(size=features.shape), features], axis=1))
    return paths


def rows(labelled=FRAMES):
    return [{"frame": f, "points": 500, "labelled": f in labelled, "class_points": [0] * 20} for f in FRAMES]


def patch_means(predictor, path):
    points = np.fromfile(path, np.float32).reshape(-1, 4)
    pyramid = predictor.voxelise(points)
    return predictor.student(pyramid).features[pyramid[1].of_point].reshape(50, 10, -1).mean(dim=1)


def write_targets(path, features=None):
    with store.create(path, "targets", sequence="00", frames=FRAMES, provenance={}) as out:
        out.rows("soft_label", (2, 8), np.uint8).append(encode(torch.zeros(1500, 2, 20)))
        if features is not None:
            scale = np.abs(features).max(axis=0) / 127
            out.rows("patch_feature", scale.shape, np.int8).append((features / scale).round())
            out.rows("point_patch", (), np.uint16).append(np.tile(PATCH, 3))
            out.array("patch_offsets", np.arange(4) * 50)
            out.array("patch_scale", scale.astype(np.float32))


def plot(paths, out, **settings):
    settings = {"points": 120, "perplexity": 20.0, "seed": 0} | settings
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    main(["--experiment", "toy", *words, "--out", str(out), *(f"{key}={value}" for key, value in settings.items())])
    return json.loads(out.read_text())


def test_a_student_with_the_features_of_its_teacher(seen, tmp_path):
    out = tmp_path / "results" / "toy_embedding.json"
    result = plot(seen, out)
    assert list(result)[:6] == ["experiment", "cka", "separability", "nearest_same_class", "chance", "rows"]
    assert (result["rows"], result["scans"], result["stage"]) == (120, 3, 1)
    assert result["classes"].keys() == RAW.keys()
    assert set(result["classes"].values()) == {40}, "equally many of each class"
    assert result["cka"]["after"] > 0.99 > result["cka"]["before"] + 0.05
    assert result["separability"]["after"] < 0.65 < result["separability"]["before"]
    for side in ("before", "after"):  # labels were drawn at random
        assert abs(result["nearest_same_class"][side] - result["chance"][side]) < 0.2
    assert result["config"]["plot_embedding"] == {"points": 120, "perplexity": 20.0, "seed": 0}
    table = out.with_suffix(".md").read_text()
    assert "| linear CKA with the image features | 0." in table
    assert "Patches of each class: car 40, road 40, building 40." in table
    picture = np.asarray(Image.open(out.with_suffix(".png")).convert("RGB"))
    assert picture.shape[1] > 1400
    for colour in ((31, 111, 180), (204, 102, 0), (68, 68, 68), (255, 0, 255), (255, 200, 0)):
        assert (picture == colour).all(axis=2).sum() > 500, "modalities, roads and buildings"


def refused(paths, tmp_path, match, **settings):
    with pytest.raises(InputError, match=match):
        plot(paths, tmp_path / "x.json", **settings)
    assert not (tmp_path / "x.json").exists()


def test_students_without_the_module_are_refused(seen, build, untrained_model, tmp_path):
    refused(
        seen | {"model": untrained_model}, tmp_path, r"no domain-adaptation .*students\.<name>\.network\.adaptation"
    )
    build(adaptation=None)
    refused(seen, tmp_path, r"no domain-adaptation module")


def test_targets_of_another_teacher_are_refused(seen, build, tmp_path):
    write_targets(seen["targets"])
    refused(seen, tmp_path, r"00\.targets holds no patch features: add features to cache_teacher\.targets")
    features = np.random.default_rng(0).normal(size=(150, 2, 8))
    write_targets(seen["targets"], features)
    refused(seen, tmp_path, r"of 8 channels, but .* has 16 \(network\.embedding\)")
    build(embedding=8)
    write_targets(seen["targets"], features[:, :1])
    refused(seen, tmp_path, r"1 stages of features .* learns stage 1")


def test_too_few_patches_are_refused(seen, tmp_path, write_index):
    write_index(seen["frames"], rows(labelled=FRAMES[:1]))
    refused(seen, tmp_path, r"fewer than two scans are labelled")
    write_index(seen["frames"], rows())
    np.zeros(500, np.uint32).tofile(seen["data"] / "sequences/00/labels/000002.label")
    np.r_[np.zeros(10), np.full(490, 10)].astype(np.uint32).tofile(seen["data"] / "sequences/00/labels/000001.label")
    refused(seen, tmp_path, r"99 patches with labels in 2 scans\. At least 100 patches")
    refused(seen, tmp_path, r"plot_embedding\.perplexity, which is 400", perplexity=400.0)
