"""The U-Net against its published size and a dense U-Net, and on degenerate input."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from elite_pipeline.student.minkunet import MinkUNet, voxel_features
from elite_pipeline.student.network import parameters

CARTESIAN = {
    "frame": "cartesian",
    "voxel_size": (0.5, 0.5, 0.25),
    "volume": ((-20.0, 20.0), (-20.0, 20.0), (-3.0, 2.0)),
}
CYLINDRICAL = {
    "frame": "cylindrical",
    "voxel_size": (0.5, 3.0, 0.25),
    "volume": ((0.0, 25.0), (-180.0, 180.0), (-3.0, 2.0)),
}
FEATURES = {"embedding": 16, "adaptation": {"layers": 2, "pooling": 4}}


def student(frame=CYLINDRICAL, planes=(8, 16, 16, 8), blocks=(1, 2, 1, 1), classes=20, **after):
    torch.manual_seed(0)
    return MinkUNet(**frame, stem=8, planes=planes, blocks=blocks, classes=classes, **after)


def cloud(points=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(points, 4, generator=generator) * torch.tensor([40.0, 40, 5, 1]) - torch.tensor([20.0, 20, 3, 0])


def test_published_parameter_count():
    planes, blocks = (32, 64, 128, 256, 256, 128, 96, 96), (2, 3, 4, 6, 2, 2, 2, 2)
    with torch.device("meta"):
        network = MinkUNet(**CYLINDRICAL, stem=32, planes=planes, blocks=blocks, classes=20, embedding=64)
    theirs = 37_842_976 + 96 * 64 + 64  # SLidR's Res16UNet34C with an embedding: 37.85 M
    assert parameters(network.backbone) + parameters(network.embedding) == theirs + 3 * 27 * 32
    assert parameters(network) - parameters(network.classifier) == 37_851_776


def test_equals_a_dense_network():
    """The dense network uses `conv3d` and `conv_transpose3d`. Every voxel of the grid holds a point."""
    side = 8
    volume = ((0.0, float(side)),) * 3
    network = student({"frame": "cartesian", "voxel_size": (1.0,) * 3, "volume": volume}).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    cells = torch.cartesian_prod(*[torch.arange(side)] * 3)
    points = torch.cat([cells + torch.rand(len(cells), 3), torch.rand(len(cells), 1)], dim=1)
    features = torch.cat([points[:, 3:], points[:, :3] - cells - 0.5], dim=1)

    def rows(module, x):
        return module(x.flatten(2)[0].T).T.unflatten(1, x.shape[2:])[None]

    def normalised(part, x):
        kernel, transposed = part.convolution.weight, part.convolution.inverse
        if transposed:
            x = functional.conv_transpose3d(x, kernel.permute(4, 0, 1, 2, 3), stride=2)
        elif kernel.shape[1] == 2:
            x = functional.conv3d(x, kernel.permute(0, 4, 1, 2, 3), stride=2)
        else:
            x = functional.conv3d(x, kernel.permute(0, 4, 1, 2, 3), padding=1)
        x = rows(part.norm, x)
        return x.relu() if part.relu else x

    def blocks(parts, x):
        for block in parts:
            x = (normalised(block.second, normalised(block.first, x)) + rows(block.shortcut, x)).relu()
        return x

    unet = network.backbone
    x, skips = normalised(unet.stem, features.T.unflatten(1, (side,) * 3)[None]), []
    for convolution, parts in unet.down:
        skips.append(x)
        x = blocks(parts, normalised(convolution, x))
    for up in unet.up:
        x = blocks(up.blocks, torch.cat([normalised(up.convolution, x), skips.pop()], dim=1))
    ours = network(network.voxelise(points))
    torch.testing.assert_close(ours.features, x.flatten(2)[0].T, rtol=1e-3, atol=1e-4)
    assert torch.equal(ours.logits, network.classifier(ours.features))
    assert ours.embedding is None


def test_voxel_inputs_are_means_over_their_points():
    network, points = student(CARTESIAN), cloud()
    pyramid = network.voxelise(points)
    features, scale = voxel_features(pyramid), pyramid[1]
    sizes, low = torch.tensor([0.5, 0.5, 0.25]), torch.tensor([-20.0, -20, -3])
    for voxel in (0, 7, len(scale) - 1):
        own = points[scale.of_point == voxel].mean(dim=0)
        offset = (own[:3] - low) / sizes - scale.coordinates[voxel, 1:] - 0.5
        torch.testing.assert_close(features[voxel], torch.cat([own[3:], offset]), rtol=1e-3, atol=1e-3)
    assert features[:, 1:].abs().max() < 0.501


def test_the_classifier_reads_normalised_features():
    network = student(**FEATURES)
    pyramid = network.voxelise(cloud())
    output = network(pyramid)
    assert output.stages == network.strides == []
    assert output.features.shape == output.embedding.shape == (len(pyramid[1]), 16)
    torch.testing.assert_close(output.features.mean(dim=1), torch.zeros(len(pyramid[1])), rtol=0, atol=1e-5)
    torch.testing.assert_close(output.features.std(dim=1, correction=0), torch.ones(len(pyramid[1])), rtol=0, atol=1e-2)
    assert torch.equal(output.logits, network.classifier(output.features))
    adapted = network.adaptation(output.embedding, pyramid)
    torch.testing.assert_close(output.features, functional.layer_norm(adapted, [16]))
    plain = student(embedding=16)
    output = plain(plain.voxelise(cloud()))
    torch.testing.assert_close(output.features, functional.layer_norm(output.embedding, [16]))


@pytest.mark.parametrize("classifier", ["own", "shared"])
def test_every_parameter_learns_except_those_of_a_shared_classifier(classifier):
    network = student(**FEATURES, classifier=classifier)
    network(network.voxelise(cloud())).logits.square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == ([] if classifier == "own" else ["classifier.weight", "classifier.bias"])


@pytest.mark.parametrize("frame", [CARTESIAN, CYLINDRICAL], ids=["cartesian", "cylindrical"])
def test_a_batch_gives_the_same_logits_as_its_scans_one_by_one(frame):
    network = student(frame, **FEATURES).eval()
    scans = [cloud(3000, 1), cloud(1000, 2)]
    scan = torch.repeat_interleave(torch.arange(2), torch.tensor([3000, 1000]))
    pyramid = network.voxelise(torch.cat(scans), scan, 2)
    together = network(pyramid).logits[pyramid[1].of_point]
    apart = [network(p).logits[p[1].of_point] for p in map(network.voxelise, scans)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)


def test_the_order_of_points_does_not_matter():
    network, points = student(**FEATURES).eval(), cloud()
    order = torch.randperm(len(points))
    a, b = network.voxelise(points), network.voxelise(points[order])
    torch.testing.assert_close(
        network(a).logits[a[1].of_point][order], network(b).logits[b[1].of_point], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    "points",
    [torch.zeros(1, 4), cloud(1).repeat(300, 1), cloud(50) + 1e3, cloud(2) * 1e6],
    ids=["one point", "duplicates", "all outside", "two, far apart"],
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frame", [CARTESIAN, {**CARTESIAN, "volume": ((-1.0, 1.0), (-1.0, 1.5), (-0.5, 0.0))}])
def test_degenerate_scans_give_finite_logits_and_gradients(points, training, frame):
    # The smaller volume is narrower than one voxel of the deepest stage.
    network = student(frame, planes=(8,) * 8, blocks=(1,) * 8, **FEATURES).train(training)
    pyramid = network.voxelise(points)
    logits = network(pyramid).logits
    logits.square().sum().backward()
    assert logits[pyramid[1].of_point].shape == (len(points), 20)
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_cpu_and_half_is_close():
    network, points = student(**FEATURES).eval(), cloud()
    with torch.inference_mode():
        on_cpu = network(network.voxelise(points)).logits
        network.cuda()
        on_gpu = network(network.voxelise(points.cuda())).logits
        network.half()
        half = network(network.voxelise(points.cuda())).logits
    # A point on the border of two voxels may fall into either of them.
    assert on_gpu.shape == on_cpu.shape
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
    assert (half.float().cpu() - on_cpu).abs().max() < 0.1 * on_cpu.abs().max()
