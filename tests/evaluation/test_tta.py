"""Test-time augmentation: its motions, logits at their own points, and a plain sum."""

import numpy as np
import pytest
import torch

from elite_pipeline.evaluation import metrics, tta
from elite_pipeline.student.model import Predictor


@pytest.fixture
def predict(untrained_model):
    """A student with random weights. `IGNORE` has the largest logit everywhere; the next class varies by point."""
    predict = Predictor.load(untrained_model, "cpu")
    generator = torch.Generator().manual_seed(1)
    last = predict.student.classifier[2]
    with torch.no_grad():
        for parameter in predict.student.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
        logits = predict.forward(predict.voxelise(cloud(2000)))
        last.weight /= logits.std(dim=0)[:, None]
        last.bias.copy_((last.bias - logits.mean(dim=0)) / logits.std(dim=0))
        last.bias[0] = 1e3
    return predict


def cloud(points):
    """Return points around the sensor, some of them outside the volume of 20 m."""
    return np.random.default_rng(0).uniform((-22, -22, -4, 0), (22, 22, 2, 1), (points, 4)).astype(np.float32)


def logits_of(predict, scan):
    """Return (N, K) logits by a loop over points."""
    pyramid = predict.voxelise(scan)
    voxels = predict.forward(pyramid)
    return np.stack([voxels[int(v)].numpy() for v in pyramid[predict.student.scales[0]].of_point])


def test_the_first_pass_is_the_scan_and_the_others_are_turned_about_z_and_moved():
    points = cloud(400)
    first, *others = tta.passes(points, 40, seed=3)
    np.testing.assert_array_equal(first, points)
    turns, shifts = [], []
    for scan in others:
        assert scan.shape == points.shape
        assert scan.dtype == np.float32
        np.testing.assert_array_equal(scan[:, 3], points[:, 3])
        # Fit the motion by least squares, rows in the order of the file. The fit is exact only for one rigid motion.
        rows = np.c_[points[:, :3], np.ones(len(points))].astype(np.float64)
        motion = np.linalg.lstsq(rows, scan[:, :3], rcond=None)[0]
        np.testing.assert_allclose(rows @ motion, scan[:, :3], atol=1e-4)
        turn = motion[:3].T
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)  # no scale
        assert np.linalg.det(turn) == pytest.approx(1, abs=1e-5)  # no mirror
        np.testing.assert_allclose(turn[2], (0, 0, 1), atol=1e-5)
        turns.append(np.arctan2(turn[1, 0], turn[0, 0]))
        shifts.append(motion[3])
    assert np.histogram(turns, bins=4, range=(-np.pi, np.pi))[0].min() > 3
    assert 0.07 < np.std(shifts) < 0.13


def test_one_vote_is_the_plain_prediction(predict):
    points = cloud(3000)
    labels = tta.vote(predict, points, 1, seed=0)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, predict(points))
    assert len(np.unique(labels)) >= 10  # a student that predicts one class everywhere would prove nothing


def test_logits_are_summed_at_their_points(predict):
    points = cloud(600)
    scans = list(tta.passes(points, 4, seed=5))
    each = [logits_of(predict, scan) for scan in scans]
    summed = tta.summed_logits(predict, points, 4, seed=5).numpy()
    np.testing.assert_allclose(summed, np.sum(each, axis=0), rtol=1e-5, atol=1e-4)
    labels = tta.vote(predict, points, 4, seed=5)
    np.testing.assert_array_equal(labels, 1 + summed[:, 1:].argmax(axis=1))
    # The plain pass, the last pass and a vote by labels all give other results.
    by_label = np.apply_along_axis(np.bincount, 0, [e[:, 1:].argmax(1) + 1 for e in each], minlength=20).argmax(0)
    for other in (predict(points), predict(scans[-1]), by_label):
        assert (labels != other).mean() > 0.02


def test_labels_follow_their_points(predict):
    points = cloud(600)
    order = np.random.default_rng(1).permutation(len(points))
    labels, shuffled = (tta.vote(predict, scan, 3, seed=0) for scan in (points, points[order]))
    # The sum over a voxel's points is rounded differently in another order, which may change a tie.
    assert (shuffled == labels[order]).mean() > 0.99
    assert (shuffled == labels).mean() < 0.6


def test_is_equal_bit_for_bit_on_repetition_and_its_seed_matters(predict):
    points = cloud(2000)
    first, again, other = (tta.summed_logits(predict, points, 3, seed).numpy() for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.view(np.uint32), again.view(np.uint32))
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(tta.vote(predict, points, 3, 7), tta.vote(predict, points, 3, 7))


def test_ignore_is_never_voted_for(predict):
    logits = tta.summed_logits(predict, cloud(500), 3, seed=0)
    assert (logits.argmax(dim=1) == 0).all()
    assert tta.vote(predict, cloud(500), 3, seed=0).min() >= 1
    assert tta.vote(predict, cloud(1), 3, seed=0).shape == (1,)


def test_table_states_the_augmentation_and_otherwise_equals_the_plain_table(miou_result, classes):
    about = {"sequences": ["08"], "dataset": "toy", "split": "val", "points": 1100, "votes": 5}
    trained = {"parameters": 9, "trained_on": ["00"], "labelled_scans": 1}
    result = miou_result | about | trained
    said, plain = tta.table(result).splitlines(), metrics.table(result).splitlines()
    note = ", with test-time augmentation, 5 passes: not comparable with single-pass numbers"
    assert said[0] == plain[0] + note
    assert [line.replace("5 passes", "single pass") for line in said[1:]] == plain[1:]
    assert "single pass" not in "\n".join(said[1:])
    assert len([line for line in said if line.startswith("| ")]) == len(classes) + 1
