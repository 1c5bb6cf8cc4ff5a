"""Sparse convolution against a dense one, forward and backward, on every device there is."""

import pytest
import torch
from torch.nn import functional

from elite_pipeline.student.sparse import SubMConv3d, sparse_tensor

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture
def place(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return request.param


def scene(device, channels=16, seed=0):
    """Two scans with a few hundred voxels in a box of three different sides."""
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(2, 9, 12, 7, generator=generator) < 0.3
    occupied[0, 0, 0, 0] = occupied[1, -1, -1, -1] = True
    coordinates = occupied.nonzero().int()
    features = torch.randn(len(coordinates), channels, generator=generator)
    return coordinates.to(device), features.to(device).requires_grad_(), occupied.shape[1:]


def dense(weight, features, coordinates, shape):
    """The same by a dense convolution: (V, C)."""
    b, x, y, z = coordinates.long().unbind(1)
    volume = features.new_zeros(2, *shape, features.shape[1]).index_put((b, x, y, z), features)
    result = functional.conv3d(volume.permute(0, 4, 1, 2, 3), weight.permute(0, 4, 1, 2, 3), padding=1)
    return result.permute(0, 2, 3, 4, 1)[b, x, y, z]


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


def test_is_the_same_bit_for_bit_on_two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        coordinates, features, shape = scene("cpu", channels=32)
        convolution = SubMConv3d(32, 32, key="a")
        runs = []
        for _ in range(3):
            output = convolution(sparse_tensor(features, coordinates, shape, 2)).features
            runs.append((output, *torch.autograd.grad(output.square().sum(), [features, convolution.weight])))
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
def test_a_single_voxel_sees_only_the_kernels_middle(corner):
    convolution = SubMConv3d(16, 16, key="a")
    features = torch.randn(1, 16)
    output = convolution(sparse_tensor(features, torch.tensor([[0, *corner]], dtype=torch.int32), (9, 12, 7), 1))
    torch.testing.assert_close(output.features, features @ convolution.weight[:, 1, 1, 1].T)
