"""An image segmentation network as a teacher (FSKD), and the labelled images that it is trained on.

A student can share the linear classifier of this network. The classifier reads one feature map, which has as many
channels as the student's features. The same classifier can therefore classify the features of both networks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import Standardised, calibrate, sample
from elite_pipeline.teacher.tuning_images import LabelledImages, draw_positions

if TYPE_CHECKING:
    from elite_pipeline.datasets.labelled_images import LabelledSet

SILENT = -1e4
"""Logit of a class that is never predicted. Its probability is 0, and float16 can represent the value."""

MODEL_CARD = """\
---
library_name: peft
tags: [image-segmentation, segment-anything, lidar]
---
# Image segmentation network: {encoder} with {method} and one linear classifier

An image encoder with a linear classifier on its fused features, trained by `elite_pipeline` (rule
`tune_image_teacher`). A LiDAR network learns to match these features and reuses the classifier. This network was
trained on images with dense labels, without any LiDAR data.

- Input: RGB images scaled to {side} pixels on the longest side
- Features: {width} channels
- Trainable parameters: {encoder_size:,} in adapters, {head_size:,} in the head
- Classes: {known}
- Classes that do not occur in its training images, and that it never predicts: {unknown}

The accuracy and the mIoU below are measured at random labelled pixels of {held_out} held-out images. The images are
{order}: the last {held_out} are held out, and the {trained_on} before them were used for training. The mIoU is
the mean over the classes that occur in the held-out images.

| accuracy | mIoU |
|---|---|
| {accuracy:.3f} | {miou:.3f} |

| class | IoU |
|---|---|
{classes}

Files: `adapter_config.json` and `adapter_model.safetensors` (peft; only with an adapter), `heads.safetensors` (head and
the standardisation of its inputs), `teacher.json` (settings, classes, versions, digests of the inputs).
"""


class StageInput(Standardised):
    """The input branch of one stage: standardise -> 1 x 1 convolution. `FusedHead` adds up all branches."""

    def __init__(self, channels: int, width: int) -> None:
        """`channels`: of the stage's map; `width`: channels of the sum."""
        super().__init__(channels)
        self.convolution = nn.Conv2d(channels, width, 1)

    def forward(self, stage_map: torch.Tensor) -> torch.Tensor:
        """Stage map (B, channels, h, w) -> (B, width, h, w)."""
        return self.convolution(self.standardise(stage_map))


class FusedHead(nn.Module):
    """A head that fuses all stages into one feature map and classifies it.

    Each stage map is standardised, convolved to `width` channels and resized to the cells of the finest map. The maps
    are summed, mixed by a 3 x 3 convolution and normalised. A linear classifier returns the logits.
    """

    def __init__(self, channels: Iterable[int], width: int, classes: int) -> None:
        """`channels`: of each stage's map; `width`: channels of the features; `classes`: number of logits."""
        super().__init__()
        self.inputs = nn.ModuleList(StageInput(count, width) for count in channels)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.classifier = nn.Linear(width, classes)

    @property
    def stage_inputs(self) -> list[StageInput]:
        """`inputs` with their type, for the type checker."""
        return [each for each in self.inputs if isinstance(each, StageInput)]

    def features(self, stages: Sequence[torch.Tensor]) -> torch.Tensor:
        """S stage maps (B, channels[s], h_s, w_s) -> features (B, width, h, w), with the size of the finest map.

        In each cell, the channels have mean 0 and standard deviation 1.
        """
        finest = max((stage.shape[2:] for stage in stages), key=lambda size: size[1])
        maps = [read(stage) for read, stage in zip(self.inputs, stages, strict=True)]
        maps = [F.interpolate(each, finest, mode="bilinear", align_corners=False) for each in maps]
        mixed = self.mix(F.gelu(torch.stack(maps).sum(0))).movedim(1, 3)
        return F.layer_norm(mixed, mixed.shape[3:]).movedim(3, 1)


class SegmentationTeacher(nn.Module):
    """An image encoder with one `FusedHead`; used like a `StageTeacher` with one stage."""

    FEATURES = "features normalised over the channels of each cell; classifier_weight and classifier_bias classify them"

    def __init__(self, encoder: StageEncoder, *, width: int, classes: int) -> None:
        """`encoder`: with or without an adapter. `width`: channels of the features. `classes`: number of logits."""
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList([FusedHead(encoder.channels, width, classes)])

    @property
    def head(self) -> FusedHead:
        """The only element of `heads` with its type, for the type checker."""
        head = self.heads[0]
        assert isinstance(head, FusedHead)
        return head

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Prepared `images` (B, 3, h, w) -> a list with one logit map (B, K, h / stride, w / stride).

        The stride is that of the finest stage.
        """
        features = self.head.features(self.encoder(images))
        return [self.head.classifier(features.movedim(1, 3)).movedim(3, 1)]

    def point_logits(self, images: torch.Tensor, pixels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits (n, 1, K) at `pixels`.

        images: (B, 3, h, w), prepared. pixels: one (n_b, 2) float32 tensor per image; n is the sum of the n_b, and the
        order is kept.
        """
        return self.logits_of(self.encoder(images), pixels, images.shape[2:])

    def logits_of(
        self, stages: Sequence[torch.Tensor], pixels: Sequence[torch.Tensor], view_size: Sequence[int]
    ) -> torch.Tensor:
        """As `point_logits`, from the encoder's stage maps of padded views of size `view_size` (h, w)."""
        features = self.head.features(stages)
        at_points = torch.cat([sample(features[b], pixel, view_size) for b, pixel in enumerate(pixels)])
        return self.head.classifier(at_points)[:, None]

    def feature_maps(self, stages: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, int]]:
        """Return the map that is cached, as a list with one pair (map, stride).

        stages: the stage maps of `encoder`. The map has the shape (B, width, h / stride, w / stride) and is float32.
        """
        return [(self.head.features([stage.float() for stage in stages]), min(self.encoder.strides))]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Number of channels of each map of `feature_maps`."""
        return (self.head.classifier.in_features,)

    def calibrate(self, batches: Iterable[torch.Tensor]) -> None:
        """Set the mean and standard deviation of the head's inputs.

        batches: prepared images, (B, 3, h, w) each.
        """
        calibrate(self.encoder, self.head.stage_inputs, batches)

    @torch.no_grad()
    def silence(self, known: torch.Tensor) -> None:
        """Change the classifier so that classes that are not `known` are never predicted.

        This applies to this teacher and to every student that shares its classifier. The network was not trained on
        the other classes; their random weights would give meaningless predictions. known: (K,) bool.
        """
        self.head.classifier.weight[~known] = 0
        self.head.classifier.bias[~known] = SILENT

    def known_classes(self, classes: ClassTable) -> list[str]:
        """Return the names of the classes that are not silenced."""
        known = self.head.classifier.bias > SILENT
        return [name for name, is_known in zip(classes.names, known.tolist(), strict=True) if is_known]


class Pictures(LabelledImages):
    """A selection of the images of a set, with the interface that `tuning` reads."""

    items: list[int]  # pyright: ignore[reportIncompatibleVariableOverride]
    """Indices of the images in the set."""

    def __init__(self, folder: "LabelledSet", items: Iterable[int]) -> None:
        self.folder, self.items, self.classes = folder, list(items), folder.classes

    def image(self, item: int) -> np.ndarray:
        return self.folder.image(self.items[item])

    def labels(self, item: int) -> np.ndarray:
        return self.folder.labels(self.items[item])

    def points(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (pixel, label) of random labelled pixels, the same ones at every call.

        Raises `InputError` where `labels` does.
        """
        return draw_positions(self.labels(item), np.random.default_rng(item))


def model_card(description: Mapping[str, Any]) -> str:
    """Text of the `README.md` in the folder of an image segmentation network.

    description: the content of its `teacher.json`.
    """
    tuned, measured, known = (description[key] for key in ("settings", "held_out", "known_classes"))
    return MODEL_CARD.format(
        encoder=tuned["encoder"],
        method=tuned["peft"]["method"],
        side=tuned["longest_side"],
        width=tuned["upscaler"],
        encoder_size=description["trainable_parameters"]["encoder"],
        head_size=description["trainable_parameters"]["heads"],
        known=", ".join(known),
        unknown=", ".join(name for name in description["classes"]["names"][1:] if name not in known) or "none",
        trained_on=description["images"],
        order=description["order"],
        held_out=measured["images"],
        accuracy=measured["accuracy"],
        miou=measured["miou"],
        classes="\n".join(f"| {name} | {iou:.3f} |" for name, iou in measured["iou"].items()),
    )
