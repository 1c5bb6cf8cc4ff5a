import numpy as np
import pytest
import torch
from torch import nn

from elite_pipeline.sam.build import untrained_sam
from elite_pipeline.sam.view import View
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.image_network import FusedHead, SegmentationTeacher
from elite_pipeline.teacher.targets import answer, patch_scale, shared_classifier


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return StageEncoder(untrained_sam("sam_tiny").image_encoder).eval()


@pytest.fixture
def teacher(encoder, classes):
    torch.manual_seed(1)
    model = SegmentationTeacher(encoder, width=24, classes=len(classes)).eval()
    model.calibrate([torch.randn(2, 3, 32, 64)])
    return model


def test_features_have_the_finest_stages_size_and_are_normalised_in_each_cell():
    head = FusedHead((6, 4, 5), width=16, classes=3)
    stages = [torch.randn(2, 6, 4, 8), torch.randn(2, 4, 8, 16), torch.randn(2, 5, 2, 4)]
    features = head.features(stages)
    assert features.shape == (2, 16, 8, 16)
    assert torch.allclose(features.mean(1), torch.zeros(2, 8, 16), atol=1e-5)
    assert torch.allclose(features.std(1, correction=0), torch.ones(2, 8, 16), atol=1e-2)
    for s, stage in enumerate(stages):
        changed = [*stages[:s], stage + torch.randn_like(stage), *stages[s + 1 :]]
        assert (head.features(changed) - features).abs().mean() > 0.01, "every stage must influence the features"


def test_points_at_cell_centres_have_the_dense_logits(teacher):
    images = torch.randn(2, 3, 32, 64)
    rows, columns = torch.tensor([0, 3, 2]), torch.tensor([0, 7, 5])
    pixel = torch.stack([columns, rows], 1) * 8.0 + 4
    with torch.no_grad():
        (dense,) = teacher(images)
        points = teacher.point_logits(images, [pixel, pixel[:1]])
    assert dense.shape == (2, 20, 4, 8)
    assert points.shape == (4, 1, 20)
    assert torch.allclose(points[:3, 0], dense[0][:, rows, columns].T, atol=1e-5)
    assert torch.allclose(points[3, 0], dense[1][:, 0, 0], atol=1e-5)


def test_the_shared_classifier_turns_cached_features_into_the_cached_logits(teacher, classes):
    """A patch feature is the mean of the four cells in the patch, and the classifier is linear.

    The classifier must therefore return the mean of the logits at the centres of these cells.
    """
    image = np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8)
    v, u = np.indices((4, 8)).reshape(2, -1) * 8 + 4
    found = answer(teacher, View(64, 16), [image], [np.stack([u, v], 1).astype(np.float32)], features=True)[0]
    arrays, _ = shared_classifier(teacher, classes)
    assert {name: (values.shape, values.dtype) for name, values in arrays.items()} == {
        "classifier_weight": ((1, 20, 24), np.float32),
        "classifier_bias": ((1, 20), np.float32),
    }
    assert found["logits"].shape == (32, 1, 20)
    assert found["patch_feature"].shape == (8, 1, 24)
    features = found["patch_feature"] * patch_scale(teacher.feature_channels)
    logits = features[:, 0] @ arrays["classifier_weight"][0].T + arrays["classifier_bias"][0]
    mean = np.stack([found["logits"][found["point_patch"] == k, 0].astype(float).mean(0) for k in range(8)])
    # Half a quantisation step in each of 24 channels, times weights of up to 1 / sqrt(24).
    assert np.abs(logits - mean).max() < 0.5 * 6 / 127 * 24**0.5
    assert np.abs(logits - mean).max() < 0.1 * mean.std()


def test_classes_without_training_labels_are_never_predicted(teacher, classes):
    image = np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8)
    pixel = np.random.default_rng(1).uniform((0, 0), (64, 32), (200, 2)).astype(np.float32)
    asked = (teacher, View(64, 16), [image], [pixel])
    known = torch.zeros(len(classes), dtype=torch.bool)
    known[[4, 9, 15]] = True
    before = answer(*asked, features=False)[0]["logits"][:, 0]
    assert len(set(before.argmax(1)) - {4, 9, 15}) > 1
    teacher.silence(known)
    logits = answer(*asked, features=False)[0]["logits"][:, 0]
    assert set(logits.argmax(1)) <= {4, 9, 15}
    assert (logits[:, ~known.numpy()] == -1e4).all()
    assert np.array_equal(logits[:, known.numpy()], before[:, known.numpy()])
    probability = torch.from_numpy(logits.astype(np.float32) / 4).softmax(1)  # at any temperature in use
    assert (probability[:, ~known] == 0).all()
    arrays, attributes = shared_classifier(teacher, classes)
    assert attributes == {"known_classes": ["truck", "road", "vegetation"]}
    # A student's features have the same length, in any direction.
    student = nn.functional.layer_norm(torch.randn(1000, 24), (24,)).numpy()
    student_logits = student @ arrays["classifier_weight"][0].T + arrays["classifier_bias"][0]
    assert set(student_logits.argmax(1)) <= {4, 9, 15}
