"""Self-calibrated convolution against the operators of SCNet on dense grids, and the size of the module."""

import pytest
import torch
from torch.nn import functional

from elite_pipeline.student.adaptation import Adaptation
from elite_pipeline.student.network import parameters
from elite_pipeline.student.voxels import Pyramid

SHAPE, WIDTH, POOLING = (9, 12, 7), 8, 4


def scene(occupancy):
    """A pyramid of two scans with a point in the middle of each occupied voxel, and features (V, C) there."""
    generator = torch.Generator().manual_seed(0)
    occupied = torch.rand(2, *SHAPE, generator=generator) < occupancy
    occupied[:, 0, 0, 0] = occupied[:, -1, -1, -1] = True
    scan, *cells = occupied.nonzero().unbind(1)
    points = functional.pad(torch.stack(cells, dim=1) + 0.5, (0, 1))
    volume = [(0.0, float(n)) for n in SHAPE]
    pyramid = Pyramid(points, scan, scans=2, voxel_size=1.0, volume=volume, strides=[POOLING])
    return pyramid, torch.randn(len(points), WIDTH, generator=generator).requires_grad_(), occupied


def dense(module, features, occupied):
    """(V, C): the module with `conv3d` and `avg_pool3d` on whole grids, read at the occupied voxels."""
    mask = occupied[:, None].float()
    pooled = {"kernel_size": POOLING, "ceil_mode": True, "count_include_pad": False}
    share = functional.avg_pool3d(mask, **pooled)

    def grid(rows, where):
        return rows.new_zeros(*where.shape, rows.shape[1]).index_put(where.nonzero().unbind(1), rows).movedim(-1, 1)

    def convolved(part, x, where):
        x = functional.conv3d(x, part.convolution.weight.permute(0, 4, 1, 2, 3), padding=1)
        return part.norm(x.movedim(1, -1)[where])

    x = features
    for index, layer in enumerate(module.layers):
        x = functional.relu(x) if index else x
        a = convolved(layer.k1, grid(layer.plain(x), occupied), occupied).relu()
        b = layer.calibrated(x)
        wide = functional.avg_pool3d(grid(b, occupied), **pooled) / share.clamp_min(1e-6)
        around = grid(convolved(layer.k2, wide, share[:, 0] > 0), share[:, 0] > 0)
        around = functional.interpolate(around, scale_factor=POOLING)[..., : SHAPE[0], : SHAPE[1], : SHAPE[2]]
        c = convolved(layer.k3, grid(b, occupied), occupied) * (b + around.movedim(1, -1)[occupied]).sigmoid()
        c = convolved(layer.k4, grid(c, occupied), occupied).relu()
        x = x + layer.join(torch.cat([a, c], dim=1))
    return x


@pytest.mark.parametrize("occupancy", [0.3, 1.0])
def test_equals_a_dense_implementation(occupancy):
    torch.manual_seed(0)
    pyramid, features, occupied = scene(occupancy)
    module = Adaptation(WIDTH, layers=2, pooling=POOLING)
    target, weights, results = torch.randn(len(features), WIDTH), [*module.parameters()], []
    for output in (module(features, pyramid), dense(module, features, occupied)):
        results.append((output, *torch.autograd.grad((output * target).sum(), [features, *weights])))
    assert all(gradient.any() for gradient in results[0])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("width", "convolutions"), [(64, 331_776), (96, 746_496)])
def test_has_as_many_kernel_weights_as_plain_convolutions(width, convolutions):
    module = Adaptation(width, layers=3, pooling=4)
    kernels = [p.numel() for p in module.parameters() if p.ndim == 5]
    assert sum(kernels) == convolutions
    assert parameters(module) == convolutions + 3 * (2 * width**2 + 8 * width)


def test_outputs_may_be_negative():
    pyramid, features, _ = scene(0.3)
    for layers, expected in ((1, features), (2, features.relu())):
        module = Adaptation(WIDTH, layers=layers, pooling=POOLING)
        for layer in module.layers:
            torch.nn.init.zeros_(layer.join[1].weight)
        torch.testing.assert_close(module(features, pyramid), expected)


def test_works_at_a_coarser_stride():
    _, _, occupied = scene(0.3)
    scan, *cells = occupied.nonzero().unbind(1)
    points = functional.pad(torch.stack(cells, dim=1) + 0.5, (0, 1))
    volume = [(0.0, 2.0 * n) for n in SHAPE]
    doubled = points * torch.tensor([2.0, 2, 2, 1])
    fine = Pyramid(doubled, scan, scans=2, voxel_size=1.0, volume=volume, strides=[2, 2 * POOLING])
    pyramid, features, _ = scene(0.3)
    module = Adaptation(WIDTH, layers=1, pooling=POOLING).eval()
    torch.testing.assert_close(module(features, fine, scale=2), module(features, pyramid))
