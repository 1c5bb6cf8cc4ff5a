"""Similarity of 3D and 2D features: on rows with a known result, and on rows gathered by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from elite_pipeline.evaluation.embedding import (
    Patches,
    balanced,
    gather,
    linear_cka,
    nearest_same_class,
    plane,
    separability,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_cka_equals_the_cka_of_the_gram_matrices(rng):
    x, y = rng.normal(2, 1, (40, 6)), rng.normal(-1, 3, (40, 9))
    y[:, :3] += 2 * x[:, :3]
    centre = np.eye(40) - 1 / 40
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    assert linear_cka(x, y) == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_cka_is_invariant_to_rotation_scale_and_translation(rng):
    x, other = rng.normal(size=(50, 8)), rng.normal(size=(50, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert linear_cka(x, other) < 0.5
    assert linear_cka(x, x[::-1]) < 0.5, "row k of x and row k of y form a pair"
    assert linear_cka(x, np.ones((50, 8), np.float32)) == 0


def test_separability(rng):
    x, y = rng.normal(size=(2, 400, 4))
    assert separability(x, y) == pytest.approx(0.5, abs=0.06)
    assert separability(x, y + np.eye(4)[1]) == pytest.approx(0.69, abs=0.04)  # the normal distribution at half
    assert separability(x, 1e-3 * y + 8) == 1


def test_separability_keeps_a_patch_in_one_fold(rng):
    """With as many channels as rows, a row predicts its own modality, and the opposite modality for its twin."""
    x = np.eye(60)
    assert separability(x, x + 1e-3 * rng.normal(size=x.shape)) == pytest.approx(0.5, abs=0.15)


def test_nearest_is_taken_from_another_scan(rng):
    image = np.eye(4, dtype=np.float32)
    classes, scan = np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1])
    # Each row is nearest to its own patch, which does not count, then to the patch of its class in the other scan.
    points = image + 0.5 * image[[1, 0, 3, 2]]
    assert nearest_same_class(points, image, classes, scan) == (1, 0.5)
    # A patch of its class in its own scan does not count either.
    assert nearest_same_class(points, image, classes, scan=np.array([0, 0, 1, 1])) == (0, 0.5)
    # All rows have the same neighbours, a car of each scan: three quarters are right, which equals chance.
    classes = np.array([1, 1, 1, 2])
    points = np.tile(np.float32([0.9, 0.8, 0, 0]), (4, 1))
    assert nearest_same_class(points, image, classes, scan) == (0.75, 0.75)


def test_balanced_takes_all_of_rare_classes_and_equally_many_of_others():
    classes = np.repeat([9, 1, 13], [300, 5, 40])
    chosen = balanced(classes, 65, seed=0)
    assert np.bincount(classes[chosen])[[1, 9, 13]].tolist() == [5, 30, 30]
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == balanced(classes, 65, seed=0).tolist() != balanced(classes, 65, seed=1).tolist()
    assert balanced(classes, 1000, seed=0).tolist() == list(range(345))


def test_plane_puts_similar_modalities_together(rng):
    """Image and after are similar, before is far away. The plane shows the same, and its rows keep their order."""
    image = functional.normalize(torch.from_numpy(rng.normal(size=(40, 8)).astype(np.float32))).numpy()
    before = functional.normalize(torch.from_numpy(image) + 10).numpy()
    places = plane(Patches(image, before, image, np.ones(40, int), np.zeros(40, int)), perplexity=10.0, seed=0)
    assert places.shape == (3, 40, 2)
    apart = np.linalg.norm(places[0][:, None] - places[2], axis=2)
    assert (apart.argmin(axis=1) == np.arange(40)).mean() > 0.9
    assert np.linalg.norm(places[0] - places[1], axis=1).min() > 3 * np.median(np.diag(apart))


class TestGather:
    """Frame 0 of `taught`: two cameras with 40 points each, patches by index modulo 4, every fifth row hidden."""

    @pytest.fixture
    def predictor(self, classes):
        from elite_pipeline.student.minkunet import MinkUNet
        from elite_pipeline.student.model import Predictor

        torch.manual_seed(0)
        volume = ((-20.0, 20.0), (-20.0, 20.0), (-3.0, 3.0))
        network = {"frame": "cartesian", "voxel_size": (1.0, 1.0, 1.0), "volume": volume, "stem": 8}
        after = {"planes": [8, 8], "blocks": [1, 1], "embedding": 8, "adaptation": {"layers": 1, "pooling": 2}}
        student = MinkUNet(**network, **after, classes=20)
        for weights in student.adaptation.parameters():
            torch.nn.init.normal_(weights)
        return Predictor(student, {"classes": classes.to_json()})

    def test_rows(self, taught, open_taught, predictor):
        path = taught["data"] / "sequences/00/labels/000000.label"
        raw = np.fromfile(path, np.uint32)
        raw[2:40:4] = 0  # patch 2 of the first camera
        raw.tofile(path)
        (recorded,) = open_taught(taught)
        found = gather(predictor, [recorded], stage=2)
        pyramid = predictor.voxelise(recorded.points(0))
        with torch.inference_mode():
            output = predictor.student(pyramid)
        at = pyramid[1].of_point
        labels, wanted = recorded.labels(0), []
        for camera, points in enumerate((np.arange(40), np.arange(20, 60))):
            seen = points[np.arange(40) % 5 > 0]
            for name in (3, 2, 1, 0):
                inside = seen[seen % 4 == name]
                label = np.bincount(labels[inside]).argmax()
                if label:
                    after = output.features[at[inside]].mean(dim=0)
                    before = functional.layer_norm(output.embedding, [8])[at[inside]].mean(dim=0)
                    image = torch.full((5,), name + 10.0 * camera)
                    wanted.append((label, *(functional.normalize(x, dim=0) for x in (image, before, after))))
        assert 4 <= len(wanted) < 8, "patches that are mostly unlabelled are left out"
        label, *features = zip(*wanted, strict=True)
        assert found.classes.tolist() == list(label)
        assert found.scan.tolist() == [0] * len(wanted)  # frame 1 has hidden points only, frame 2 no labels
        for mine, its in zip((found.image, found.before, found.after), features, strict=True):
            np.testing.assert_allclose(mine, torch.stack(its), atol=1e-5)
        assert not np.allclose(found.before, found.after, atol=0.1)

    def test_scans_are_spread_evenly(self, taught, open_taught, predictor, monkeypatch):
        (recorded,) = open_taught(taught)
        monkeypatch.setattr("elite_pipeline.evaluation.embedding.SCANS", 3)
        read, labels = [], recorded.labels
        monkeypatch.setattr(recorded, "labels", lambda f: read.append(int(f)) or labels(f))
        gather(predictor, [recorded] * 4, stage=0)
        assert read == [0, 0, 1], "of 8 scans, 2 of each: the first, the one in the middle, the last"
