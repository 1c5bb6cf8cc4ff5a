"""Voxelisation against a plain NumPy version, at every scale, inside and outside the volume."""

import numpy as np
import pytest
import torch

from elite_pipeline.grouping import majority, mean, pairs
from elite_pipeline.student.voxels import Pyramid, pack, unpack

VOLUME = ((-10.0, 10.0), (-8.0, 8.0), (-4.0, 2.0))
EXTENT = (100, 80, 30)
STRIDES = [2, 4, 8, 16, 32]


def cloud(points=3000, seed=0, spread=12.0):
    generator = torch.Generator().manual_seed(seed)
    xyz = (2 * torch.rand(points, 3, generator=generator) - 1) * torch.tensor([spread, spread, 6.0])
    return torch.cat([xyz, torch.rand(points, 1, generator=generator)], dim=1)


def pyramid(points, scan=None, scans=1):
    scan = torch.zeros(len(points), dtype=torch.int64) if scan is None else scan
    return Pyramid(points, scan, scans=scans, voxel_size=0.2, volume=VOLUME, strides=STRIDES)


@pytest.mark.parametrize("stride", [1, *STRIDES])
def test_equals_unique_rows(stride):
    points = cloud()
    scan = (torch.arange(len(points)) % 3 == 0).long()
    scale = pyramid(points, scan, 2)[stride]
    low, high = np.array(VOLUME, dtype=np.float32).T
    cells = ((np.clip(points[:, :3].numpy(), low, high) - low) / np.float32(0.2)).astype(np.int64)
    cells = np.minimum(cells, np.array(EXTENT) - 1) // stride
    rows = np.column_stack([scan.numpy(), cells])
    expected, inverse, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    np.testing.assert_array_equal(scale.coordinates, expected)
    np.testing.assert_array_equal(scale.of_point, inverse.reshape(-1))
    np.testing.assert_array_equal(scale.points, counts)
    assert scale.coordinates.dtype == torch.int32
    assert (scale.coordinates[:, 1:] < torch.tensor(scale.shape)).all()


@pytest.mark.parametrize(("fine", "coarse"), [(1, 2), (2, 4), (2, 16), (16, 32), (4, 4)])
def test_parents_and_pooling_equal_computing_them_over_points(fine, coarse):
    levels = pyramid(cloud())
    parent = levels.parent(fine, coarse)
    torch.testing.assert_close(parent[levels[fine].of_point], levels[coarse].of_point)
    features = torch.randn(len(levels[fine]), 5, requires_grad=True)
    pooled = levels.pool(features, fine, coarse)
    over_points = mean(features[levels[fine].of_point], levels[coarse].of_point, len(levels[coarse]))
    torch.testing.assert_close(pooled, over_points)
    target = torch.randn_like(pooled)
    gradients = [torch.autograd.grad((x * target).sum(), features)[0] for x in (pooled, over_points)]
    torch.testing.assert_close(*gradients)


def test_three_equal_voxel_sizes_give_the_same_voxels_as_one_size():
    points = cloud()
    scale = {"scans": 1, "volume": VOLUME, "strides": STRIDES}
    a, b = (Pyramid(points, None, voxel_size=size, **scale) for size in (0.2, (0.2, 0.2, 0.2)))
    assert torch.equal(a.corner, b.corner)
    assert all(torch.equal(a[stride].coordinates, b[stride].coordinates) for stride in (1, *STRIDES))


def test_cylindrical_voxels_equal_plain_ones():
    points = cloud()
    volume, sizes = ((2.0, 12.0), (-180.0, 180.0), (-4.0, 2.0)), (0.5, 4.0, 0.25)
    voxels = {"voxel_size": sizes, "volume": volume, "frame": "cylindrical"}
    levels = Pyramid(points, None, scans=1, strides=[4], **voxels)
    x, y, z, _ = points.double().numpy().T
    places = np.column_stack([np.hypot(x, y), np.degrees(np.arctan2(y, x)), z])
    low, high = np.array(volume).T
    inside = np.clip(places, low, high)
    cells = np.minimum((inside - low) // sizes, [19, 89, 23]).astype(int)
    # Rounding may move a point near the border of two voxels into either of them.
    ours = levels[1].coordinates[levels[1].of_point][:, 1:].numpy()
    assert (ours == cells).all(axis=1).mean() > 0.999
    assert levels[1].shape == (20, 90, 24)
    assert levels[4].shape == (5, 23, 6)
    np.testing.assert_allclose(levels.inside, inside, atol=1e-4)
    np.testing.assert_allclose(levels.corner, low + ours * np.array(sizes), atol=1e-4)


def test_an_azimuth_of_180_degrees_falls_into_the_last_voxel():
    points = torch.tensor([[-5.0, 0.0, 0, 0], [-5.0, 1e-3, 0, 0], [-5.0, -0.0, 0, 0], [-5.0, -1e-3, 0, 0], [0.0] * 4])
    voxels = {"voxel_size": (0.5, 1.0, 1.0), "volume": ((0.0, 10.0), (-180.0, 180.0), (-4.0, 2.0))}
    levels = Pyramid(points, None, scans=1, strides=[], frame="cylindrical", **voxels)
    assert levels[1].coordinates[levels[1].of_point][:, 2].tolist() == [359, 359, 0, 0, 180]


def test_points_outside_are_moved_to_the_nearest_place_inside():
    points = torch.tensor(
        [[1000.0, 0.1, 0.1, 0.5], [9.99, 0.1, 0.1, 0.5], [-1e6, -1e6, -1e6, 0.5], [0.1, 0.1, 2.0, 0.5]]
    )
    levels = pyramid(points)
    assert levels[1].of_point[0] == levels[1].of_point[1]  # beyond the upper limit: the last voxel
    assert levels[1].coordinates[levels[1].of_point[2]].tolist() == [0, 0, 0, 0]
    assert levels[1].coordinates[levels[1].of_point[3]].tolist() == [0, 50, 40, 29]  # exactly at the upper limit
    assert (levels.inside[:, 0] <= 10).all()


@pytest.mark.parametrize(
    "points",
    [torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.5, 0.3]]).repeat(500, 1), cloud(200) + 1e4],
    ids=["one point", "one point 500 times", "all outside"],
)
def test_degenerate_scans(points):
    levels = pyramid(points)
    for stride in (1, *STRIDES):
        assert levels[stride].points.sum() == len(points)
        assert len(levels[stride].of_point) == len(points)
    assert len(levels[32]) == 1


def test_packed_keys_are_in_lexicographic_order_and_unpack():
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4), torch.arange(5))
    keys = pack(cells, (3, 4, 5))
    assert torch.equal(keys, torch.arange(len(cells)))
    assert torch.equal(unpack(keys, (3, 4, 5)), cells.int())


def test_large_grids_do_not_overflow():
    cells = torch.tensor([[63, 99_999, 99_999, 9_999]])
    shape = (100_000, 100_000, 10_000)
    assert unpack(pack(cells, shape), shape).tolist() == cells.tolist()


def test_mean_of_nothing_is_zero_and_halves_do_not_overflow():
    values = torch.full((1000, 2), 300.0, dtype=torch.float16)
    result = mean(values, torch.zeros(1000, dtype=torch.int64), 2)
    assert result.dtype == torch.float16
    assert result.tolist() == [[300.0, 300.0], [0.0, 0.0]]


def test_majority_and_pairs():
    group = torch.tensor([0, 0, 0, 1, 1, 3])
    labels = torch.tensor([5, 2, 5, 7, 3, 0])
    assert majority(labels, group, 4, 8).tolist() == [5, 3, 0, 0]  # a tie goes to the lower label
    rows = list(zip(*(x.tolist() for x in pairs(group, labels)), strict=True))
    assert rows == [(0, 2, 1), (0, 5, 2), (1, 3, 1), (1, 7, 1), (3, 0, 1)]
