"""The CPU's convolutions against spconv's `Native` algorithm, forward and backward."""

import pytest
import spconv.core
import torch
from spconv import pytorch as spconv_layers
from spconv.pytorch import ops

from elite_pipeline.student.cpu_convolution import submanifold_pairs
from elite_pipeline.student.sparse import InverseConv3d, SparseTensor, StridedConv3d, SubMConv3d, sparse_tensor


@pytest.fixture(autouse=True)
def no_stream(monkeypatch):
    """On a CPU, spconv asks for a CUDA stream in every backward pass."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(ops, "get_current_stream", lambda: 0)


def voxels(name, shape=(12, 10, 6)):
    """(V, 4) int32 voxels of two scans; those of the second scan may be none."""
    generator = torch.Generator().manual_seed(0)
    occupied = torch.rand(2, *shape, generator=generator) < {"dense": 1.0, "sparse": 0.02}.get(name, 0.3)
    coordinates = occupied.nonzero().int().contiguous()
    if name == "unsorted":
        coordinates = coordinates[torch.randperm(len(coordinates), generator=generator)]
    return {"one": coordinates[-1:], "none": coordinates[:0], "first scan": coordinates[coordinates[:, 0] == 0]}.get(
        name, coordinates
    )


class Reference(torch.nn.Module):
    """The layers of `sparse`, made of spconv's own."""

    def __init__(self):
        super().__init__()
        options = {"bias": False, "algo": spconv.core.ConvAlgo.Native}
        self.same = spconv_layers.SubMConv3d(8, 16, 3, padding=1, indice_key="same", **options)
        self.down = spconv_layers.SparseConv3d(16, 24, 2, stride=2, indice_key="below", **options)
        self.wide = spconv_layers.SubMConv3d(24, 24, 3, padding=1, indice_key="wide", **options)
        self.up = spconv_layers.SparseInverseConv3d(24, 8, 2, indice_key="below", **options)

    def forward(self, x):
        return self.up(self.wide(self.down(self.same(x))))


class Ours(Reference):
    def __init__(self, reference):
        super().__init__()
        self.same, self.down = SubMConv3d(8, 16, key="same"), StridedConv3d(16, 24, key="below")
        self.wide, self.up = SubMConv3d(24, 24, key="wide"), InverseConv3d(24, 8, key="below")
        self.load_state_dict(reference.state_dict())


@pytest.mark.parametrize("name", ["dense", "half", "sparse", "unsorted", "first scan", "one"])
def test_has_the_bits_of_spconv(name):
    coordinates = voxels(name)
    torch.manual_seed(0)
    reference = Reference()
    features = torch.randn(len(coordinates), 8, requires_grad=True)
    target = torch.randn(len(coordinates), 8)
    results = []
    for network in (reference, Ours(reference)):
        out = network(SparseTensor(features, coordinates, [12, 10, 6], 2))
        gradients = torch.autograd.grad((out.features * target).sum(), [features, *network.parameters()])
        results.append((out.indices, out.features, *gradients))
    names = ["voxels", "features", "of features", "of same", "of down", "of wide", "of up"]
    for what, theirs, ours in zip(names, *results, strict=True):
        if what == "of wide" or (what == "of same" and name == "unsorted"):
            # Voxels that are not sorted: the products of a weight's gradient are added in another order.
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(ours, theirs), what


def test_only_what_needs_a_gradient_gets_one():
    coordinates, layer = voxels("half"), SubMConv3d(8, 8, key="a")
    features = torch.randn(len(coordinates), 8)
    layer(sparse_tensor(features, coordinates, (12, 10, 6), 2)).features.sum().backward()
    of_weight, layer.weight.grad = layer.weight.grad, None
    layer.weight.requires_grad_(False)
    layer(sparse_tensor(features.requires_grad_(), coordinates, (12, 10, 6), 2)).features.sum().backward()
    assert layer.weight.grad is None
    assert of_weight.abs().sum() > 0
    assert features.grad.abs().sum() > 0


def test_results_stay_when_memory_is_used_again():
    """Also from inference to training, where torch refuses memory of inference mode."""
    coordinates, layer = voxels("dense"), SubMConv3d(8, 8, key="a")
    features = torch.randn(len(coordinates), 8)
    with torch.inference_mode():
        first = layer(sparse_tensor(features, coordinates, (12, 10, 6), 2)).features
        before = first.clone()
    layer(sparse_tensor(2 * features, coordinates, (12, 10, 6), 2)).features.sum().backward()
    assert torch.equal(first, before)


def test_no_voxels():
    coordinates = voxels("none")
    layer = SubMConv3d(8, 16, key="a")
    assert layer(sparse_tensor(torch.zeros(0, 8), coordinates, (12, 10, 6), 2)).features.shape == (0, 16)


def test_pairs_do_not_cross_sides_or_scans():
    """Voxels on two sides of the grid are no neighbours, nor are the last of a scan and the first of the next."""
    coordinates = torch.tensor([[0, 0, 0, 5], [0, 0, 1, 0], [0, 11, 9, 5], [1, 0, 0, 0]], dtype=torch.int32)
    pairs = submanifold_pairs(coordinates, (12, 10, 6))
    assert pairs.sizes == [0] * 13 + [4] + [0] * 13
