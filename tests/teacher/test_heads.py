import pytest
import torch
from torch import nn

from elite_pipeline.teacher.heads import StageHead, StageTeacher, sample, stack


class Encoder(nn.Module):
    """Stages whose channels are smooth functions of the image, at SAM's and sam_tiny's strides."""

    channels, strides, patch = (8, 12), (16, 8), 16

    def forward(self, images):
        grey = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8)
        powers = torch.cat([grey**k for k in range(1, 13)], 1)
        return [nn.functional.avg_pool2d(powers[:, :8], 2), powers]


def teacher(width=6, classes=5):
    torch.manual_seed(0)
    return StageTeacher(Encoder(), width=width, classes=classes).eval()


def test_sample_reads_a_ramp_exactly_at_sub_pixel_positions():
    """A map at stride 4 that holds, per cell, the position of the cell's centre in the view."""
    height, width = 32, 64
    v, u = torch.meshgrid(torch.arange(2, height, 4.0), torch.arange(2, width, 4.0), indexing="ij")
    pixel = torch.tensor([[2.0, 2.0], [10.0, 6.0], [11.3, 17.9], [61.9, 29.9], [31.5, 16.0]])
    assert torch.allclose(sample(torch.stack([u, v]), pixel, (height, width)), pixel, atol=1e-4)


def test_sample_keeps_sub_pixel_positions_of_half_precision_features():
    """Under autocast on a GPU the features are bfloat16, in which 1000.0 and 1002.5 are the same number."""
    ramp = torch.arange(256.0).expand(1, 4, 256).bfloat16()
    pixel = torch.tensor([[1000.0, 8.0], [1002.5, 8.0]])
    a, b = sample(ramp, pixel, (16, 1024)).float()
    assert float(b - a) == pytest.approx(2.5 / 4, abs=1e-3)


def test_sample_stays_at_the_border_cell_beyond_its_centre():
    features = torch.arange(8.0).view(1, 2, 4)
    pixel = torch.tensor([[0.0, 0.0], [15.99, 7.99], [0.5, 7.9]])
    assert torch.allclose(sample(features, pixel, (8, 16))[:, 0], torch.tensor([0.0, 7.0, 4.0]), atol=1e-3)


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_dense_logits_have_stride_four(stride):
    head = StageHead(channels=16, stride=stride, width=6, classes=3)
    assert head(torch.randn(2, 16, 32 // stride, 64 // stride)).shape == (2, 3, 8, 16)


def test_a_stride_without_upscaler_is_refused():
    with pytest.raises(ValueError, match="stride 64"):
        StageHead(channels=16, stride=64, width=6, classes=3)


def test_points_at_cell_centres_have_the_dense_logits():
    model, images = teacher(), torch.randn(2, 3, 32, 64)
    rows, columns = torch.tensor([0, 3, 7]), torch.tensor([0, 9, 15])
    pixel = torch.stack([columns, rows], 1) * 4.0 + 2
    points = model.point_logits(images, [pixel, pixel[:1]])  # ragged: 3 points and 1
    dense = model(images)
    assert points.shape == (4, 2, 5)
    for s in range(2):
        assert torch.allclose(points[:3, s], dense[s][0][:, rows, columns].T, atol=1e-5)
        assert torch.allclose(points[3, s], dense[s][1][:, 0, 0], atol=1e-5)


def test_an_image_without_points_takes_part():
    assert teacher().point_logits(torch.randn(2, 3, 32, 64), [torch.zeros(0, 2), torch.zeros(0, 2)]).shape == (0, 2, 5)


def test_calibration_standardises_over_all_batches():
    model = teacher()
    batches = [torch.rand(2, 3, 32, 64) * 3, torch.rand(1, 3, 48, 32) + 1]  # of different sizes
    model.calibrate(batches)
    for s, head in enumerate(model.heads):
        values = torch.cat(
            [head.standardise(model.encoder(b)[s]).flatten(2).transpose(0, 1).flatten(1) for b in batches], 1
        )
        assert torch.allclose(values.mean(1), torch.zeros(len(values)), atol=1e-3)
        assert torch.allclose(values.std(1, correction=0), torch.ones(len(values)), atol=1e-3)


def test_calibration_on_black_images_leaves_finite_logits():
    model = teacher()
    model.calibrate([torch.full((1, 3, 32, 64), -2.1)])
    assert all(torch.isfinite(x).all() for x in model(torch.randn(1, 3, 32, 64)))


def test_heads_learn_only_through_standardised_features():
    """Features far from zero with tiny variation, as SAM's are: without calibration the same steps learn nothing."""

    class Offset(Encoder):
        def forward(self, images):
            return [50 + 1e-2 * stage for stage in super().forward(images)]

    def accuracy(calibrate):
        torch.manual_seed(0)
        model = StageTeacher(Offset(), width=8, classes=3)
        images = torch.randn(8, 3, 1, 1).expand(8, 3, 32, 64) + torch.linspace(-2, 2, 64)
        labels = torch.bucketize(images.mean(1)[:, 2::4, 2::4].contiguous(), torch.tensor([-0.7, 0.7]))
        if calibrate:
            model.calibrate([images])
        optimiser = torch.optim.AdamW(model.heads.parameters(), lr=3e-3)
        for _ in range(60):
            loss = torch.stack([nn.functional.cross_entropy(x, labels) for x in model(images)]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float((model(images)[1].argmax(1) == labels).float().mean())

    assert accuracy(calibrate=True) > 0.15 + accuracy(calibrate=False)


def test_stack_pads_at_the_bottom_and_right():
    batch = stack([torch.ones(3, 16, 48), torch.ones(3, 32, 16)])
    assert batch.shape == (2, 3, 32, 48)
    assert (batch[0, :, 16:] == 0).all()
    assert (batch[1, :, :, 16:] == 0).all()
    assert batch[0, :, :16].min() == 1
