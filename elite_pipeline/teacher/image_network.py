"""An image segmentation network as a teacher, whose linear classifier a student can share (FSKD), and what it is told.

Its classifier sees one map of features of the width that a student's features have, so that the same classifier tells
classes apart in both.
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
    from elite_pipeline.datasets.labelled_images import ImageFolder

SILENT = -1e4
"""Logit of a class that is never answered: its probability is 0, and float16 holds it."""

MODEL_CARD = """\
---
library_name: peft
tags: [image-segmentation, segment-anything, lidar]
---
# Image segmentation network: {encoder} with {method} and one linear classifier

An image encoder whose fused features a linear classifier turns into classes, made by `elite_pipeline` (rule
`tune_image_teacher`): a LiDAR network learns its features and shares its classifier. It was trained on images with
dense labels, and saw no LiDAR.

- Input: RGB images scaled to {side} pixels on the longest side
- Features: {width} channels
- Trainable parameters: {encoder_size:,} in adapters, {head_size:,} in the head
- Classes: {known}
- Classes that its images lacked, which it never answers: {unknown}

Measured at random labelled pixels of the last {held_out} images by name, held out; it was trained on the {trained_on}
before them. mIoU is over the classes that occur there.

| accuracy | mIoU |
|---|---|
| {accuracy:.3f} | {miou:.3f} |

| class | IoU |
|---|---|
{classes}

Files: `adapter_config.json` and `adapter_model.safetensors` (peft, where there is an adapter), `heads.safetensors`
(head, and the standardisation of its inputs), `teacher.json` (settings, classes, versions, digests of inputs).
"""


class StageInput(Standardised):
    """One stage of the encoder on its way into the sum: standardise -> 1 x 1 convolution."""

    def __init__(self, channels: int, width: int) -> None:
        """`channels` of the stage's map; `width`: channels of the sum."""
        super().__init__(channels)
        self.convolution = nn.Conv2d(channels, width, 1)

    def forward(self, stage_map: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) -> (B, width, h, w)."""
        return self.convolution(self.standardise(stage_map))


class FusedHead(nn.Module):
    """Stages, standardised and brought to one width, are summed at the finest one's cells, mixed and classified."""

    def __init__(self, channels: Iterable[int], width: int, classes: int) -> None:
        """`channels` of each stage's map; `width` of the features; `classes`: logits."""
        super().__init__()
        self.inputs = nn.ModuleList(StageInput(count, width) for count in channels)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.classifier = nn.Linear(width, classes)

    @property
    def stage_inputs(self) -> list[StageInput]:
        """`inputs`, typed."""
        return [each for each in self.inputs if isinstance(each, StageInput)]

    def features(self, stages: Sequence[torch.Tensor]) -> torch.Tensor:
        """S maps (B, channels[s], h_s, w_s) -> (B, width, h, w) of the finest, mean 0 and deviation 1 in each cell."""
        finest = max((stage.shape[2:] for stage in stages), key=lambda size: size[1])
        maps = [read(stage) for read, stage in zip(self.inputs, stages, strict=True)]
        maps = [F.interpolate(each, finest, mode="bilinear", align_corners=False) for each in maps]
        mixed = self.mix(F.gelu(torch.stack(maps).sum(0))).movedim(1, 3)
        return F.layer_norm(mixed, mixed.shape[3:]).movedim(3, 1)


class SegmentationTeacher(nn.Module):
    """Image encoder with one `FusedHead`, used as a `StageTeacher` of one stage."""

    FEATURES = "features normalised over the channels of each cell, which classifier_weight and _bias classify"

    def __init__(self, encoder: StageEncoder, *, width: int, classes: int) -> None:
        """`encoder`: with an adapter or without. `width` of the features. `classes`: logits."""
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList([FusedHead(encoder.channels, width, classes)])

    @property
    def head(self) -> FusedHead:
        """The one in `heads`, typed."""
        head = self.heads[0]
        assert isinstance(head, FusedHead)
        return head

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Prepared `images` (B, 3, h, w) -> one logit map in a list, (B, K, h / stride, w / stride) of the finest."""
        features = self.head.features(self.encoder(images))
        return [self.head.classifier(features.movedim(1, 3)).movedim(3, 1)]

    def point_logits(self, images: torch.Tensor, pixels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits (n, 1, K) at `pixels`: one (n_b, 2) float32 tensor per image, n their sum, in order."""
        return self.logits_of(self.encoder(images), pixels, images.shape[2:])

    def logits_of(
        self, stages: Sequence[torch.Tensor], pixels: Sequence[torch.Tensor], view_size: Sequence[int]
    ) -> torch.Tensor:
        """`point_logits` of stage maps that the encoder made of padded views of `view_size` (h, w)."""
        features = self.head.features(stages)
        at_points = torch.cat([sample(features[b], pixel, view_size) for b, pixel in enumerate(pixels)])
        return self.head.classifier(at_points)[:, None]

    def feature_maps(self, stages: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, int]]:
        """Stage maps of `encoder` -> [(map, stride)] that is cached: one (B, width, h / stride, w / stride) float32."""
        return [(self.head.features([stage.float() for stage in stages]), min(self.encoder.strides))]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of each of `feature_maps`."""
        return (self.head.classifier.in_features,)

    def calibrate(self, batches: Iterable[torch.Tensor]) -> None:
        """Set mean and deviation of the head's inputs from `batches` of prepared images, each (B, 3, h, w)."""
        calibrate(self.encoder, self.head.stage_inputs, batches)

    @torch.no_grad()
    def silence(self, known: torch.Tensor) -> None:
        """Have classes that are not `known`, (K,) bool, never answered: by this teacher, nor by whom it lends its
        classifier to. Nothing taught them, and their random weights would be answers."""
        self.head.classifier.weight[~known] = 0
        self.head.classifier.bias[~known] = SILENT

    def known_classes(self, classes: ClassTable) -> list[str]:
        """Names of the classes that are not silenced."""
        known = self.head.classifier.bias > SILENT
        return [name for name, is_known in zip(classes.names, known.tolist(), strict=True) if is_known]


class Pictures(LabelledImages):
    """Some images of a folder, as `tuning` reads them."""

    items: list[int]  # pyright: ignore[reportIncompatibleVariableOverride]
    """Indices in the folder."""

    def __init__(self, folder: "ImageFolder", items: Iterable[int]) -> None:
        self.folder, self.items, self.classes = folder, list(items), folder.classes

    def image(self, item: int) -> np.ndarray:
        return self.folder.image(self.items[item])

    def labels(self, item: int) -> np.ndarray:
        return self.folder.labels(self.items[item])

    def points(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """(pixel, label): random labelled pixels, the same at every call. Raises `InputError` where `labels` does."""
        return draw_positions(self.labels(item), np.random.default_rng(item))


def model_card(description: Mapping[str, Any]) -> str:
    """`README.md` of a folder of an image segmentation network; description: its `teacher.json`."""
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
        held_out=measured["images"],
        accuracy=measured["accuracy"],
        miou=measured["miou"],
        classes="\n".join(f"| {name} | {iou:.3f} |" for name, iou in measured["iou"].items()),
    )
