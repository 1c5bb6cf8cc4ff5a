"""Augmentation keeps shapes rigid up to scale, and teacher targets with their points."""

import pytest
import torch

from elite_pipeline.config import Augmentation
from elite_pipeline.training.augmentation import augment, remap

ALL = Augmentation(rotate=True, flip=True, scale=0.05, translate=0.1, drop=0.2)
NONE = Augmentation(rotate=False, flip=False, scale=0, translate=0, drop=0)


def cloud(points=1000):
    return torch.randn(points, 4, generator=torch.Generator().manual_seed(0))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(8))
def test_the_shape_and_the_vertical_axis_are_kept(seed):
    points = cloud()
    changed, rows = augment(points, ALL, seeded(seed))
    before, after = points[rows][:, :3], changed[:, :3]
    scale = torch.cdist(after[:50], after[50:100]) / torch.cdist(before[:50], before[50:100])
    torch.testing.assert_close(scale, scale.mean().expand_as(scale), rtol=1e-3, atol=1e-3)
    assert 0.95 <= scale.mean() <= 1.05
    lift = after[:, 2] - scale.mean() * before[:, 2]
    torch.testing.assert_close(lift, lift.mean().expand_as(lift), rtol=1e-3, atol=1e-3)
    assert torch.equal(changed[:, 3], points[rows][:, 3])
    assert 0.8 * len(points) * 0.95 <= len(rows) <= len(points)


def test_without_any_augmentation_nothing_changes():
    points = cloud()
    changed, rows = augment(points, NONE, seeded(0))
    assert torch.equal(changed, points)
    assert torch.equal(rows, torch.arange(len(points)))


def test_depends_only_on_its_generator():
    first, second, other = (augment(cloud(), ALL, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], second[0])
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


def test_both_mirror_images_occur():
    signs = set()
    for seed in range(30):
        changed, _ = augment(torch.eye(4), NONE.model_copy(update={"flip": True}), seeded(seed))
        signs.add((changed[0, 0].item(), changed[1, 1].item()))
    assert signs == {(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)}


def test_remapped_indices_follow_their_points():
    rows = torch.tensor([1, 3, 4, 7])
    left, new = remap(torch.tensor([7, 0, 3, 3, 5]), rows, 8)
    assert left.tolist() == [0, 2, 3]
    assert new.tolist() == [3, 1, 1]
    left, new = remap(torch.zeros(0, dtype=torch.int64), rows, 8)
    assert len(left) == len(new) == 0


def test_never_drops_everything():
    everything = NONE.model_copy(update={"drop": 1.0})
    assert all(len(augment(cloud(1), everything, seeded(seed))[1]) == 1 for seed in range(20))
