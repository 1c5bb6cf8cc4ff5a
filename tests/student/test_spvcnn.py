"""The student against the published parameter counts, and on degenerate input."""

import pytest
import torch
from pydantic import ValidationError

from elite_pipeline import config
from elite_pipeline.student import sparse
from elite_pipeline.student.network import StageHeads, parameters
from elite_pipeline.student.spvcnn import SPVCNN, linear_of_parts

VOLUME = ((-50.0, 50.0), (-50.0, 50.0), (-4.0, 2.0))


def student(scales=(2, 4, 8, 16), width=8, classes=20, voxel_size=0.2):
    torch.manual_seed(0)
    return SPVCNN(voxel_size=voxel_size, volume=VOLUME, scales=scales, width=width, classes=classes)


def cloud(points=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(points, 4, generator=generator) * torch.tensor([40.0, 40.0, 5.0, 1.0]) - torch.tensor(
        [20.0, 20, 3, 0]
    )


@pytest.mark.parametrize(
    ("scales", "width", "classes", "count"),
    [
        ([2, 4, 8, 16], 64, 20, 1_933_460),
        ([2, 4, 8, 16, 16, 16], 256, 20, 45_615_252),
        ([2, 4, 8, 16, 16, 16], 128, 17, 11_462_673),
    ],
    ids=["ELiTe", "2DPASS", "2DPASS on nuScenes"],
)
def test_published_parameter_counts(scales, width, classes, count):
    with torch.device("meta"):
        network = SPVCNN(voxel_size=0.1, volume=VOLUME, scales=scales, width=width, classes=classes)
    assert parameters(network) == count


def test_every_parameter_learns():
    network = student()
    heads = StageHeads(stages=4, width=8, classes=20)
    logits, stages, *_ = network(network.voxelise(cloud()))
    (logits.square().sum() + sum(head.square().sum() for head in heads(stages))).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_a_linear_map_of_parts_is_that_of_their_rows_side_by_side():
    layer, own, wide = torch.nn.Linear(12, 5), torch.randn(7, 8), torch.randn(3, 4)
    row = torch.tensor([0, 0, 2, 1, 1, 0, 2])
    wanted = layer(torch.cat([own, wide[row]], dim=1))
    torch.testing.assert_close(linear_of_parts(layer, [(own, None), (wide, row)]), wanted)


def test_inference_equals_the_layers_one_by_one():
    """In inference on a CPU, each batch normalisation is part of the linear map before it."""
    network = student()
    for _ in range(3):
        network(network.voxelise(cloud()))  # running statistics that are not those of a new network
    pyramid = network.eval().voxelise(cloud(seed=1))
    block = network.stages[0].convolutions[0]
    x = sparse.sparse_tensor(torch.randn(len(pyramid[1]), 8), pyramid[1].coordinates, pyramid[1].shape, 1)
    y = block.norm1(block.conv1(x).features)
    y = block.norm2(block.conv2(x.replace_feature(torch.nn.functional.leaky_relu(y, 0.1))).features)
    wanted = torch.nn.functional.leaky_relu(y + block.norm(block.shortcut(x.features)), 0.1)
    torch.testing.assert_close(block(x).features, wanted, rtol=1e-5, atol=1e-5)


def test_a_batch_gives_the_same_logits_as_its_scans_one_by_one():
    network = student().eval()
    scans = [cloud(3000, 1), cloud(1000, 2)]
    scan = torch.repeat_interleave(torch.arange(2), torch.tensor([3000, 1000]))
    pyramid = network.voxelise(torch.cat(scans), scan, 2)
    together = network(pyramid).logits[pyramid[2].of_point]
    apart = [network(p).logits[p[2].of_point] for p in map(network.voxelise, scans)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)


def test_the_order_of_points_does_not_matter():
    network, points = student().eval(), cloud()
    order = torch.randperm(len(points))
    a, b = network.voxelise(points), network.voxelise(points[order])
    torch.testing.assert_close(
        network(a).logits[a[2].of_point][order], network(b).logits[b[2].of_point], rtol=1e-3, atol=1e-4
    )


def test_a_scale_that_repeats_shares_its_kernel_map(monkeypatch):
    built, original = [], sparse.submanifold_pairs
    monkeypatch.setattr(sparse, "submanifold_pairs", lambda *a: built.append(a[1]) or original(*a))
    network = student([2, 4, 8, 16, 16, 16])
    logits, stages, *_ = network(network.voxelise(cloud()))
    assert len(stages) == 6
    assert logits.isfinite().all()
    assert len(built) == 5  # strides 1, 2, 4, 8 and 16, although six stages have at least twelve convolutions


@pytest.mark.parametrize(
    "points",
    [torch.zeros(1, 4), cloud(1).repeat(300, 1), cloud(50) + 1e3, cloud(2) * 1e6],
    ids=["one point", "duplicates", "all outside", "two, far apart"],
)
@pytest.mark.parametrize("training", [True, False])
def test_degenerate_scans_give_finite_logits_and_gradients(points, training):
    network = student().train(training)
    pyramid = network.voxelise(points)
    logits = network(pyramid).logits
    logits.square().sum().backward()
    assert logits[pyramid[2].of_point].shape == (len(points), 20)
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_invalid_networks_are_refused():
    with pytest.raises(ValueError, match="multiple"):
        student([2, 3])
    good = {"voxel_size": 0.2, "volume": VOLUME, "scales": [2, 4, 4], "width": 32}
    config.SPVCNNSettings.model_validate(good)
    for bad in ({"scales": [2, 3]}, {"width": 12}, {"volume": ((5.0, -5.0), (-5.0, 5.0), (-4.0, 2.0))}):
        with pytest.raises(ValidationError, match=next(iter(bad))):
            config.SPVCNNSettings.model_validate({**good, **bad})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_cpu_and_half_is_close():
    network, points = student(width=32).eval(), cloud()
    with torch.inference_mode():
        on_cpu = network(network.voxelise(points)).logits
        network.cuda()
        on_gpu = network(network.voxelise(points.cuda())).logits
        network.half()
        half = network(network.voxelise(points.cuda())).logits
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
    assert half.dtype == torch.float16
    assert (half.float().cpu() - on_cpu).abs().max() < 0.05 * on_cpu.abs().max()
