"""Targets of a teacher: the patch of each point, features exact up to the quantisation step, and means over passes."""

from typing import get_args

import numpy as np
import pytest
import torch

from elite_pipeline.config.teacher import CacheTeacher
from elite_pipeline.sam.build import build_sam, untrained_sam
from elite_pipeline.sam.view import View
from elite_pipeline.soft_labels import class_mass, predicted_class
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import StageTeacher, stack
from elite_pipeline.teacher.image_network import SILENT
from elite_pipeline.teacher.targets import PASSES, answer, hit_patches, mean_logits, patch_maps, patch_scale


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return StageEncoder(untrained_sam("sam_tiny").image_encoder).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(1))


def test_patch_features_are_averages_within_the_quantisation_step(encoder, images):
    teacher = StageTeacher(encoder, width=8, classes=3)
    with torch.no_grad():
        teacher.calibrate([images])
        stages = encoder(images)
        maps = patch_maps(teacher, stages, 16).float()
    scale = torch.from_numpy(patch_scale(encoder.channels))
    exact = torch.stack(
        [
            h.standardise(s).unflatten(2, (2, 2)).unflatten(4, (4, 2)).mean((3, 5))
            for h, s in zip(teacher.heads, stages, strict=True)
        ],
        1,
    )
    error = (maps * scale[None, :, :, None, None] - exact.clamp(-6, 6)).abs()
    assert maps.shape == (2, 4, encoder.channels[0], 2, 4)
    assert float(error.max()) <= 0.5 * 6 / 127 + 1e-5
    assert float((error.square().mean() / exact.square().mean()).sqrt()) < 0.04


def test_channels_that_a_stage_lacks_have_scale_zero():
    assert np.array_equal(patch_scale((2, 3)) > 0, [[True, True, False], [True, True, True]])


def test_hit_patches_are_unique_and_row_major():
    pixel = np.array([[0, 0], [15.9, 15.9], [16, 0], [63.9, 31.9]], dtype=np.float32)
    assert [found.tolist() for found in hit_patches(pixel, 4, 16)] == [[0, 1, 7], [0, 0, 1, 2]]


def test_points_in_any_order_map_to_their_patches():
    generator = np.random.default_rng(0)
    pixel = generator.uniform((0, 0), (63.9, 31.9), (200, 2)).astype(np.float32)
    hit, of_point = hit_patches(pixel, 4, 16)
    assert len(of_point) == 200
    assert hit[of_point].tolist() == [int(v // 16) * 4 + int(u // 16) for u, v in pixel.tolist()]


def test_each_point_gets_the_row_of_its_patch(encoder):
    """Two images of different sizes in one batch."""
    torch.manual_seed(1)
    teacher, view = StageTeacher(encoder, width=8, classes=3).eval(), View(64, 16)
    generator = np.random.default_rng(2)
    images = [generator.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((32, 64), (60, 64))]
    sizes = [(image.shape[1::-1], points) for image, points in zip(images, (9, 50), strict=True)]
    pixels = [generator.uniform((0, 0), size, (points, 2)).astype(np.float32) for size, points in sizes]
    for image, pixel, found in zip(images, pixels, answer(teacher, view, images, pixels, features=True), strict=True):
        alone = answer(teacher, view, [image], [pixel], features=True)[0]
        assert found["point_patch"].dtype == found["patch_index"].dtype == np.uint16
        cell = found["patch_index"][found["point_patch"]]
        assert cell.tolist() == [int(v // 16) * 4 + int(u // 16) for u, v in pixel.tolist()]
        assert np.array_equal(alone["point_patch"], found["point_patch"])
        assert len(found["patch_feature"]) == len(found["patch_index"]) < len(pixel)


def test_class_mass_counts_points_by_their_probabilities():
    logits = np.random.default_rng(0).normal(0, 4, (30, 4, 20)).astype(np.float16)
    expected = np.zeros((4, 20))
    for point in logits.astype(float):
        for s in range(4):
            powers = np.exp(point[s])
            expected[s] += powers / powers.sum()
    np.testing.assert_allclose(class_mass(logits), expected, rtol=1e-5)
    assert np.array_equal(class_mass(logits[:0]), np.zeros((4, 20)))


def test_the_unlabelled_class_is_never_predicted():
    assert predicted_class(np.array([[9.0, 1, 2], [0, 3, 2]])).tolist() == [2, 1]


@pytest.fixture(scope="module")
def teacher():
    """The packaged encoder with random heads. Their logits are spread, so that the passes differ."""
    torch.manual_seed(2)
    teacher = StageTeacher(StageEncoder(build_sam("sam_tiny").image_encoder), width=8, classes=5).eval()
    with torch.no_grad():
        for head in teacher.stage_heads:
            head.classifier[-1].weight *= 10
    return teacher


@pytest.fixture(scope="module")
def scene():
    """Two images of different sizes, and points in them, in the form that `answer` reads."""
    generator = np.random.default_rng(3)
    sizes = ((32, 64), (60, 64))
    images = [generator.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
    return images, [generator.uniform((0, 0), size[::-1], (40, 2)).astype(np.float32) for size in sizes]


def logits(teacher, images, pixels, *views, side=64, features=False):
    found = answer(teacher, View(side, 16), images, pixels, features=features, views=views)
    assert all(each["logits"].dtype == np.float16 for each in found)
    return np.concatenate([each["logits"] for each in found]).astype(np.float32)


def softmax(logits):
    return torch.from_numpy(logits).softmax(-1).numpy()


def test_the_plain_view_alone_gives_the_logits_of_the_network_to_the_bit(teacher, scene):
    images, pixels = scene
    view = View(64, 16)
    places = [torch.from_numpy(view.pixels(p, i.shape[:2])) for p, i in zip(pixels, images, strict=True)]
    with torch.no_grad():
        prepared = stack([view.prepare(image) for image in images])
        expected = teacher.point_logits(prepared, places).half().numpy()
    assert logits(teacher, images, pixels, "plain").astype(np.float16).tobytes() == expected.tobytes()
    default = answer(teacher, view, images, pixels, features=False)
    assert np.concatenate([each["logits"] for each in default]).tobytes() == expected.tobytes()


def test_views_are_those_of_the_configuration():
    (named,) = get_args(CacheTeacher.model_fields["views"].annotation)
    assert set(get_args(named)) == {"plain", *PASSES}


def test_the_mean_is_that_of_probabilities(teacher, scene):
    """Every pass is computed by hand: the mirror images, and the images at five quarters of their size."""
    images, pixels = scene
    flipped = [image[:, ::-1] for image in images]
    opposite = [np.stack([64 - p[:, 0], p[:, 1]], 1) for p in pixels]
    passes = {
        "plain": logits(teacher, images, pixels, "plain"),
        "mirrored": logits(teacher, flipped, opposite, "plain"),
        "scaled": logits(teacher, images, pixels, "plain", side=80),
    }
    assert all(np.abs(passes["plain"] - passes[name]).max() > 0.1 for name in PASSES), "passes differ"
    for names in (["plain", "mirrored"], ["scaled", "plain"], ["plain", "mirrored", "scaled"]):
        mean = np.mean([softmax(passes[name]) for name in names], axis=0)
        assert np.allclose(np.exp(logits(teacher, images, pixels, *names)), mean, atol=2e-3)


def test_with_its_mirror_image_beside_it_an_image_and_its_mirror_image_have_the_same_answers(teacher, scene):
    images, pixels = scene
    flipped = [image[:, ::-1] for image in images]
    opposite = [np.stack([64 - p[:, 0], p[:, 1]], 1) for p in pixels]
    here, there = (logits(teacher, *each, "plain", "mirrored") for each in ((images, pixels), (flipped, opposite)))
    assert np.allclose(here, there, atol=5e-3)
    alone = logits(teacher, flipped, opposite, "plain")
    assert np.abs(softmax(here) - softmax(alone)).max() > 0.05


def test_points_of_a_symmetric_image_have_the_answers_of_their_mirror_points(teacher):
    half = np.random.default_rng(4).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    pixel = np.random.default_rng(5).uniform((0, 0), (64, 32), (50, 2)).astype(np.float32)
    opposite = np.stack([64 - pixel[:, 0], pixel[:, 1]], 1)
    left, right = (logits(teacher, [image], [each], "plain", "mirrored") for each in (pixel, opposite))
    assert np.allclose(left, right, atol=5e-3)
    assert not np.allclose(logits(teacher, [image], [pixel], "plain"), logits(teacher, [image], [opposite], "plain"))


def test_features_are_those_of_the_plain_pass(teacher, scene):
    images, pixels = scene
    plain, many = (
        answer(teacher, View(64, 16), images, pixels, features=True, views=views)
        for views in (["plain"], ["plain", "mirrored", "scaled"])
    )
    for one, other in zip(plain, many, strict=True):
        for name in ("patch_index", "patch_feature", "point_patch"):
            assert one[name].tobytes() == other[name].tobytes()
        assert not np.array_equal(one["logits"], other["logits"])


def test_the_scaled_pass_is_a_quarter_larger():
    assert PASSES["scaled"](View(512, 16), [], [])[0].longest_side == 640


def test_a_class_that_is_never_predicted_has_no_probability_in_the_mean():
    silent = torch.tensor([[SILENT, 1.0, 2.0], [SILENT, 3.0, 0.0]])
    mean = mean_logits([silent, silent.flip(0)])
    assert torch.isfinite(mean).all()
    assert mean.exp()[:, 0].tolist() == [0, 0]
    assert torch.allclose(mean.exp().sum(1), torch.ones(2))
