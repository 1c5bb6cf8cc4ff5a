"""What a frozen teacher says about an image, in the form in which students read it: point logits and patch features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.sam.view import View
from elite_pipeline.teacher.heads import EncoderStages, StageTeacher, stack
from elite_pipeline.teacher.image_network import SegmentationTeacher

LIMIT = 6.0
"""Standard deviations at which patch features are cut: one int8 step is then 0.047 deviations."""


@torch.no_grad()
def answer(
    teacher: EncoderStages | SegmentationTeacher,
    view: View,
    images: Sequence[np.ndarray],
    pixels: Sequence[np.ndarray],
    *,
    logits: bool = True,
    features: bool,
    device: str | torch.device = "cpu",
) -> list[dict[str, np.ndarray]]:
    """Logits at points of a few images, and features of the patches that they hit.

    teacher: one that names classes if logits are wanted; it runs at the precision of `view`. images: (H, W, 3) uint8
    each. pixels: (n, 2) float32 native (u, v) per image. logits, features: whether they are wanted. Returns one dict
    per image, with what is: `logits` (n, S, K) float16; `patch_index` (m,) uint16, ascending, `patch_feature` (m, S, D)
    int8, and `point_patch` (n,) uint16, the row of these two in which each point lies.

    Raises `InputError` where `device` lacks the precision, or where the images are too large for the encoder.
    """
    places = [view.pixels(pixel, image.shape[:2]) for pixel, image in zip(pixels, images, strict=True)]
    prepared = stack([view.prepare(image) for image in images]).to(device)
    answers: list[dict[str, np.ndarray]] = [{} for _ in images]
    with view.autocast(device):
        stages, points = teacher.encoder(prepared), [torch.from_numpy(place).to(device) for place in places]
        values = None
        if logits:
            assert isinstance(teacher, StageTeacher | SegmentationTeacher)
            values = teacher.logits_of(stages, points, prepared.shape[2:])
    if values is not None:
        # float16 ends at 65504, and an infinite logit would make a student's softmax NaN.
        values = values.float().clamp(-6e4, 6e4).half().cpu().numpy()
        for result, found in zip(answers, np.split(values, np.cumsum([len(p) for p in places])[:-1]), strict=True):
            result["logits"] = found
    if features:
        maps = patch_maps(teacher, stages, view.patch).cpu().numpy()  # (B, S, D, rows, columns)
        for result, place, patches, image in zip(answers, places, maps, images, strict=True):
            columns = view.padded(*image.shape[:2])[1] // view.patch
            hit, of_point = hit_patches(place, columns, view.patch)
            result["point_patch"] = of_point.astype(np.uint16)
            result["patch_index"] = hit.astype(np.uint16)
            result["patch_feature"] = np.moveaxis(patches[:, :, hit // columns, hit % columns], 2, 0)
    return answers


def hit_patches(pixel: np.ndarray, columns: int, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Which patches points hit: (m,) ascending indices row * columns + column, and (n,) whose of these each is in.

    pixel: (n, 2), of the view. Both are int64.
    """
    column, row = (pixel // patch).astype(np.int64).T
    return np.unique(row * columns + column, return_inverse=True)


def patch_maps(
    teacher: EncoderStages | SegmentationTeacher, stages: Sequence[torch.Tensor], patch: int
) -> torch.Tensor:
    """Stage maps as quantised patch features: (B, S, D, rows, columns) int8, D the largest of the maps' channels."""
    widest = max(teacher.feature_channels)
    maps = []
    for values, stride in teacher.feature_maps(stages):
        values = F.avg_pool2d(values, patch // stride)
        values = (values * (127 / LIMIT)).round().clamp(-127, 127).to(torch.int8)
        maps.append(F.pad(values, (0, 0, 0, 0, 0, widest - values.shape[1])))
    return torch.stack(maps, dim=1)


def quantisation(teacher: EncoderStages | SegmentationTeacher) -> str:
    """What the cached patch features of `teacher` are, in words."""
    return (
        f"patch_feature * patch_scale: {teacher.FEATURES}, averaged over a patch, cut at {LIMIT:g} deviations; channels"
        " that a stage lacks have scale 0"
    )


def patch_scale(channels: Sequence[int]) -> np.ndarray:
    """(S, D) float32: what one int8 step of each stage's channels means, in standard deviations."""
    inside = np.arange(max(channels)) < np.asarray(channels)[:, None]
    return np.where(inside, LIMIT / 127, 0).astype(np.float32)


def shared_classifier(
    teacher: EncoderStages | SegmentationTeacher, classes: ClassTable
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What of an image segmentation network a student may share, and nothing of other teachers: (arrays, attributes).

    Arrays: `classifier_weight` (1, K, D) and `classifier_bias` (1, K) float32, which turn patch features into logits.
    Attributes: `known_classes`, names of the classes that it was taught and can answer.
    """
    if not isinstance(teacher, SegmentationTeacher):
        return {}, {}
    classifier = teacher.head.classifier
    parameters = {"classifier_weight": classifier.weight, "classifier_bias": classifier.bias}
    arrays = {name: value.detach().cpu().numpy()[None] for name, value in parameters.items()}
    return arrays, {"known_classes": teacher.known_classes(classes)}
