import numpy as np
import pytest
import torch
from torch import nn

from elite_pipeline.sam.view import View
from elite_pipeline.sam.vit import VisionTransformer
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import StageHead, StageTeacher, sample, stack
from elite_pipeline.teacher.targets import answer, patch_scale


class Encoder(nn.Module):
    """An encoder with the strides of SAM and sam_tiny. Its channels are smooth functions of the image."""

    channels, strides, patch = (8, 12), (16, 8), 16

    def forward(self, images):
        grey = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8)
        powers = torch.cat([grey**k for k in range(1, 13)], 1)
        return [nn.functional.avg_pool2d(powers[:, :8], 2), powers]


def teacher(width=6, classes=5):
    torch.manual_seed(0)
    return StageTeacher(Encoder(), width=width, classes=classes).eval()


def test_sample_reads_a_ramp_exactly_at_sub_pixel_positions():
    """The map has stride 4. Each cell holds the position of its own centre in the view."""
    height, width = 32, 64
    v, u = torch.meshgrid(torch.arange(2, height, 4.0), torch.arange(2, width, 4.0), indexing="ij")
    pixel = torch.tensor([[2.0, 2.0], [10.0, 6.0], [11.3, 17.9], [61.9, 29.9], [31.5, 16.0]])
    assert torch.allclose(sample(torch.stack([u, v]), pixel, (height, width)), pixel, atol=1e-4)


def test_sample_keeps_sub_pixel_positions_of_half_precision_features():
    """Under autocast on a GPU the features are bfloat16. In bfloat16, 1000.0 and 1002.5 are the same number."""
    ramp = torch.arange(256.0).expand(1, 4, 256).bfloat16()
    pixel = torch.tensor([[1000.0, 8.0], [1002.5, 8.0]])
    a, b = sample(ramp, pixel, (16, 1024)).float()
    assert float(b - a) == pytest.approx(2.5 / 4, abs=1e-3)


def test_sample_beyond_the_last_cell_centre_returns_the_border_cell():
    features = torch.arange(8.0).view(1, 2, 4)
    pixel = torch.tensor([[0.0, 0.0], [15.99, 7.99], [0.5, 7.9]])
    assert torch.allclose(sample(features, pixel, (8, 16))[:, 0], torch.tensor([0.0, 7.0, 4.0]), atol=1e-3)


@pytest.mark.parametrize("stride", [4, 7, 8, 14, 16, 28, 32, 64])
def test_dense_logits_have_stride_four(stride):
    """The view has 448 x 896 pixels. All of the strides divide both sides."""
    head = StageHead(channels=16, stride=stride, width=6, classes=3)
    assert head(torch.randn(2, 16, 448 // stride, 896 // stride)).shape == (2, 3, 112, 224)


@torch.no_grad()
def test_an_encoder_with_patches_of_14_pixels_works():
    """DINOv2 has such patches. 14 is neither a power of two nor a multiple of the stride of the dense logits."""
    torch.manual_seed(0)
    encoder = VisionTransformer(
        dim=16, depth=4, heads=2, stage_blocks=(1, 3), image_size=112, patch=14, window=3, neck=8,
        relative_positions=True,
    )  # fmt: skip
    encoder = StageEncoder(encoder).eval()
    assert (encoder.channels, encoder.strides, encoder.patch) == ((16, 16), (14, 14), 14)
    model, view = StageTeacher(encoder, width=6, classes=5).eval(), View(112, encoder.patch)
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (height, 112, 3), dtype=np.uint8) for height in (50, 40)]
    assert [view.padded(*image.shape[:2]) for image in images] == [(56, 112), (42, 112)]
    prepared = stack([view.prepare(image) for image in images])
    model.calibrate([prepared])
    assert [tuple(stage.shape) for stage in encoder(prepared)] == [(2, 16, 4, 8)] * 2
    dense = model(prepared)
    assert [tuple(logits.shape) for logits in dense] == [(2, 5, 14, 28)] * 2

    # The points are centres of dense cells. For the first image, they lie in its 50 rows.
    rows, columns = np.indices((12, 28)).reshape(2, -1)
    pixels = [np.stack([columns, rows], 1).astype(np.float32) * 4 + 2, np.array([[2, 38], [110, 2]], np.float32)]
    first, second = answer(model, view, images, pixels, features=True)
    for s in range(2):
        np.testing.assert_allclose(first["logits"][:, s], dense[s][0][:, rows, columns].T, atol=2e-3, rtol=1e-3)
        np.testing.assert_allclose(second["logits"][:, s], dense[s][1][:, [9, 0], [0, 27]].T, atol=2e-3, rtol=1e-3)
    assert float(dense[0].std()) > 0.02, "logits must vary, or the comparisons above prove nothing"

    # Each patch of 14 pixels with a point has one feature: that cell of the stage's standardised map.
    assert second["patch_index"].tolist() == [7, 16]
    assert second["point_patch"].tolist() == [1, 0]
    assert first["patch_index"].tolist() == list(range(32))
    assert np.array_equal(first["point_patch"], pixels[0][:, 1] // 14 * 8 + pixels[0][:, 0] // 14)
    assert first["patch_feature"].shape == (32, 2, 16)
    scale = patch_scale(model.feature_channels)
    for s, (maps, stride) in enumerate(model.feature_maps(encoder(prepared))):
        assert stride == 14
        exact = maps[0].flatten(1).T.clamp(-6, 6)
        np.testing.assert_allclose(first["patch_feature"][:, s] * scale[s], exact, atol=0.5 * 6 / 127 + 1e-5)


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


def test_images_without_points_give_no_logits():
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


def test_heads_need_standardised_features_to_learn():
    """The features are far from zero and vary little, like SAM's.

    Without calibration, heads learn much less in the same number of steps.
    """

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
