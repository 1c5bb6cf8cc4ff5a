"""Cached targets of a teacher: each point maps to its patch, and features are exact up to the quantisation step."""

import numpy as np
import pytest
import torch

from elite_pipeline.sam.build import untrained_sam
from elite_pipeline.sam.view import View
from elite_pipeline.soft_labels import class_mass, predicted_class
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import StageTeacher
from elite_pipeline.teacher.targets import answer, hit_patches, patch_maps, patch_scale


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
