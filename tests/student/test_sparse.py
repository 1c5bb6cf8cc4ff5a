"""Sparse convolution against a dense one, forward and backward, on every available device."""

import pytest
import torch
from torch.nn import functional

from elite_pipeline.student.sparse import InverseConv3d, StridedConv3d, SubMConv3d, sparse_tensor

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture
def place(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    # By default, cuDNN rounds the dense reference to TensorFloat-32.
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield request.param


def scene(device, channels=16, shape=(9, 12, 7), occupancy=0.3):
    """Two scans with a few hundred voxels in a box of three different sides."""
    generator = torch.Generator().manual_seed(0)
    occupied = torch.rand(2, *shape, generator=generator) < occupancy
    occupied[0, 0, 0, 0] = occupied[1, -1, -1, -1] = True
    coordinates = occupied.nonzero().int()
    features = torch.randn(len(coordinates), channels, generator=generator)
    return coordinates.to(device), features.to(device).requires_grad_(), occupied.shape[1:]


def volume(features, coordinates, shape):
    """(2, C, X, Y, Z): `features` at their coordinates, zeros elsewhere."""
    grid = features.new_zeros(2, *shape, features.shape[1]).index_put(coordinates.long().unbind(1), features)
    return grid.permute(0, 4, 1, 2, 3)


def at(coordinates, grid):
    """(V, C): the values of `grid` (2, C, X, Y, Z) at the voxels."""
    return grid.permute(0, 2, 3, 4, 1)[coordinates.long().unbind(1)]


def dense(weight, features, coordinates, shape):
    """(V, C): the result of a dense convolution, at the voxels."""
    grid = volume(features, coordinates, shape)
    return at(coordinates, functional.conv3d(grid, weight.permute(0, 4, 1, 2, 3), padding=1))


@pytest.mark.parametrize("place", DEVICES, indirect=True)
def test_equals_a_dense_convolution(place):
    coordinates, features, shape = scene(place)
    convolution = SubMConv3d(16, 24, key="a").to(place)
    target = torch.randn(len(features), 24, device=place)
    results = []
    for output in (
        convolution(sparse_tensor(features, coordinates, shape, 2)).features,
        dense(convolution.weight, features, coordinates, shape),
    ):
        gradients = torch.autograd.grad((output * target).sum(), [features, convolution.weight])
        results.append((output, *gradients))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("occupancy", [0.3, 1.0])
@pytest.mark.parametrize("place", DEVICES, indirect=True)
def test_strided_and_inverse_equal_dense_ones(place, occupancy):
    coordinates, features, shape = scene(place, shape=(8, 12, 6), occupancy=occupancy)
    down, up = StridedConv3d(16, 24, key="a").to(place), InverseConv3d(24, 8, key="a").to(place)
    below = down(sparse_tensor(features, coordinates, shape, 2))
    above = up(below)
    assert torch.equal(above.indices, coordinates)
    kernels = down.weight.permute(0, 4, 1, 2, 3), up.weight.permute(4, 0, 1, 2, 3)
    grid = functional.conv3d(volume(features, coordinates, shape), kernels[0], stride=2)
    assert len(below.indices) == int((grid != 0).any(dim=1).sum())
    grids = at(below.indices, grid), at(coordinates, functional.conv_transpose3d(grid, kernels[1], stride=2))
    target, results = torch.randn(len(features), 8, device=place), []
    for outputs in ((below.features, above.features), grids):
        gradients = torch.autograd.grad((outputs[1] * target).sum(), [features, down.weight, up.weight])
        results.append((*outputs, *gradients))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


def test_an_odd_side_is_refused():
    coordinates, features, shape = scene("cpu")
    with pytest.raises(ValueError, match="odd"):
        StridedConv3d(16, 16, key="a")(sparse_tensor(features, coordinates, shape, 2))


def test_repeated_runs_on_two_threads_give_the_same_bits():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        coordinates, features, shape = scene("cpu", channels=32, shape=(8, 12, 6))
        layers = SubMConv3d(32, 32, key="a"), StridedConv3d(32, 32, key="b"), InverseConv3d(32, 32, key="b")
        weights = [layer.weight for layer in layers]
        runs = []
        for _ in range(3):
            x = sparse_tensor(features, coordinates, shape, 2)
            for layer in layers:
                x = layer(x)
            runs.append((x.features, *torch.autograd.grad(x.features.square().sum(), [features, *weights])))
        assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_layers_of_one_key_share_one_kernel_map():
    coordinates, features, shape = scene("cpu")
    first, second = SubMConv3d(16, 16, key="a"), SubMConv3d(16, 16, key="a")
    once = first(sparse_tensor(features, coordinates, shape, 2))
    twice = second(once)
    assert list(twice.indice_dict) == ["a"]
    assert twice.indice_dict["a"] is once.indice_dict["a"]


@pytest.mark.parametrize("corner", [(0, 0, 0), (8, 11, 6)])
def test_a_single_voxel_uses_only_the_centre_of_the_kernel(corner):
    convolution = SubMConv3d(16, 16, key="a")
    features = torch.randn(1, 16)
    output = convolution(sparse_tensor(features, torch.tensor([[0, *corner]], dtype=torch.int32), (9, 12, 7), 1))
    torch.testing.assert_close(output.features, features @ convolution.weight[:, 1, 1, 1].T)
