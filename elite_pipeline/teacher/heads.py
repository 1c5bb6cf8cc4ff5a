"""2D heads on the stages of an image encoder. They return class logits at any sub-pixel position of an image.

Positions are (u right, v down) in pixels of the prepared view. Pixel k covers [k, k + 1), as in the whole project.
"""

from collections.abc import Iterable, Sequence

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import nn
from torch.nn import functional as F

from elite_pipeline.teacher.encoders import StageEncoder

STRIDE = 4
"""View pixels per cell of dense logits, as in ELiTe."""


class Standardised(nn.Module):
    """A module that reads one stage map and standardises it per channel. `calibrate` measures the statistics.

    Without standardisation, heads on SAM's features learn almost nothing in a few hundred steps.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int) -> None:
        """`channels`: number of channels of the stage's map."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def standardise(self, stage_map: torch.Tensor) -> torch.Tensor:
        """Return `stage_map` (B, channels, h, w) with mean 0 and standard deviation 1 per channel.

        The statistics are those of the training images.
        """
        return (stage_map - self.mean) / self.std


class StageHead(Standardised):
    """The head of one stage: standardise -> upscale or convolve -> MLP at each position.

    A coarse map (stride above 8) is upscaled, as in ELiTe. A finer map is convolved.
    """

    def __init__(self, channels: int, stride: int, width: int, classes: int) -> None:
        """`channels`, `stride`: of the stage's map; `width`: channels after upscaling; `classes`: number of logits."""
        super().__init__(channels)
        self.stride = stride
        self.upscaler = _upscaler(channels, stride, width)
        self.classifier = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, classes))

    def features(self, stage_map: torch.Tensor) -> torch.Tensor:
        """Stage map (B, channels, h / stride, w / stride) -> features (B, width, ...).

        If the stride is above 8, the features have a quarter of the map's stride.
        """
        return self.upscaler(self.standardise(stage_map))

    def forward(self, stage_map: torch.Tensor) -> torch.Tensor:
        """Stage map (B, channels, h / stride, w / stride) -> logits (B, classes, h / 4, w / 4)."""
        features = self.features(stage_map)
        size = [round(n * self.stride / STRIDE) for n in stage_map.shape[2:]]
        features = F.interpolate(features, size, mode="bilinear", align_corners=False)
        return self.classifier(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _upscaler(channels: int, stride: int, width: int) -> nn.Sequential:
    if stride > 8:  # to a quarter of the stride, as in ELiTe (16 to 4); finer positions are read bilinearly
        return nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, 2, 2),
            LayerNorm2d(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, width, 2, 2),
            nn.GELU(),
        )
    # Maps this fine need no learnt upsampling. Measured on sam_tiny with 200 steps: the context of this convolution
    # lifts the mIoU at held-out points to 0.33, from 0.28 with a transposed convolution to stride 4.
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.GELU())


class EncoderStages(nn.Module):
    """An image encoder with one `Standardised` module per stage. The standardised maps are the cached features."""

    FEATURES = "features standardised per channel over the teacher's training images"

    def __init__(self, encoder: StageEncoder, heads: Iterable[Standardised]) -> None:
        """`encoder`: with or without an adapter. `heads`: one for each stage."""
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(heads)

    def feature_maps(self, stages: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, int]]:
        """Return the maps that are cached, as S pairs (map, stride).

        stages: the stage maps of `encoder`. A map has the shape (B, D_s, h / stride, w / stride) and is float32.
        """
        maps = [head.standardise(stage.float()) for head, stage in zip(self._readers, stages, strict=True)]
        return list(zip(maps, self.encoder.strides, strict=True))

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Number of channels D_s of each map of `feature_maps`."""
        return tuple(self.encoder.channels)

    def calibrate(self, batches: Iterable[torch.Tensor]) -> None:
        """Set the mean and standard deviation of each stage from `batches` of prepared images, (B, 3, h, w) each."""
        calibrate(self.encoder, self._readers, batches)

    @property
    def _readers(self) -> list[Standardised]:
        return [head for head in self.heads if isinstance(head, Standardised)]


class StageTeacher(EncoderStages):
    """An image encoder with one 2D head per stage."""

    def __init__(self, encoder: StageEncoder, *, width: int, classes: int) -> None:
        """`encoder`: with or without an adapter. `width`: channels after upscaling. `classes`: number of logits."""
        scales = zip(encoder.channels, encoder.strides, strict=True)
        super().__init__(encoder, (StageHead(channels, stride, width, classes) for channels, stride in scales))

    @property
    def stage_heads(self) -> list[StageHead]:
        """`heads` with their type, for the type checker."""
        return [head for head in self.heads if isinstance(head, StageHead)]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Prepared `images` (B, 3, h, w) -> S logit maps (B, K, h / 4, w / 4)."""
        return [head(stage) for head, stage in zip(self.stage_heads, self.encoder(images), strict=True)]

    def point_logits(self, images: torch.Tensor, pixels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits (n, S, K) at `pixels`.

        images: (B, 3, h, w), prepared. pixels: one (n_b, 2) float32 tensor per image; n is the sum of the n_b, and the
        order is kept.
        """
        return self.logits_of(self.encoder(images), pixels, images.shape[2:])

    def logits_of(
        self, stages: Sequence[torch.Tensor], pixels: Sequence[torch.Tensor], view_size: Sequence[int]
    ) -> torch.Tensor:
        """As `point_logits`, from the encoder's stage maps of padded views of size `view_size` (h, w)."""
        logits = []
        for head, stage in zip(self.stage_heads, stages, strict=True):
            features = head.features(stage)
            at_points = torch.cat([sample(features[b], pixel, view_size) for b, pixel in enumerate(pixels)])
            logits.append(head.classifier(at_points))
        return torch.stack(logits, dim=1)


@torch.no_grad()
def calibrate(encoder: StageEncoder, readers: Sequence[Standardised], batches: Iterable[torch.Tensor]) -> None:
    """Set the mean and standard deviation of `readers`, one per stage of `encoder`.

    batches: prepared images, (B, 3, h, w) each.
    """
    sums = [torch.zeros(2, len(reader.mean), dtype=torch.float64) for reader in readers]
    cells = [0] * len(sums)
    for images in batches:
        for s, stage in enumerate(encoder(images)):
            values = stage.double()
            sums[s] += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]).cpu()
            cells[s] += stage[:, 0].numel()
    for reader, (total, squares), n in zip(readers, sums, cells, strict=True):
        mean = total / n
        std = (squares / n - mean.square()).clamp_min(0).sqrt()
        reader.mean.copy_(mean[:, None, None])
        # A constant channel carries no information. Dividing by its rounding noise would amplify that noise.
        reader.std.copy_(torch.where(std > 1e-6 * (1 + mean.abs()), std, 1.0)[:, None, None])


def sample(features: torch.Tensor, pixel: torch.Tensor, view_size: Sequence[int]) -> torch.Tensor:
    """Return the features (n, D) at points, interpolated bilinearly (ELiTe's patch-to-point step).

    features: (D, h', w'); its cells tile a view of `view_size` (h, w) pixels. pixel: (n, 2) float32 positions.
    """
    height, width = view_size
    # float32 also under autocast: in bfloat16, positions that are four pixels apart can be the same number.
    grid = 2 * pixel.float() / pixel.new_tensor([width, height]) - 1
    at = F.grid_sample(features[None].float(), grid[None, None], align_corners=False, padding_mode="border")
    return at[0, :, 0].T


def stack(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack prepared images (3, h, w) of any size to (B, 3, max h, max w), with zeros added at the bottom and right."""
    height, width = (max(image.shape[k] for image in images) for k in (1, 2))
    return torch.stack([F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in images])
