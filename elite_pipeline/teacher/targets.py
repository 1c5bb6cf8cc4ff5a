"""Targets from a frozen teacher, in the form that students read: logits at points, and patch features."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from elite_pipeline.config import TeacherToCache
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.sam.view import View
from elite_pipeline.teacher.heads import EncoderStages, StageTeacher, stack
from elite_pipeline.teacher.image_network import SegmentationTeacher

LIMIT = 6.0
"""Patch features are clipped at this many standard deviations. One int8 step is then 0.047 standard deviations."""

Pass = tuple[View, Sequence[np.ndarray], Sequence[np.ndarray]]
"""What a pass of the teacher reads: a view, images, and points in each image, as in `answer`."""


@torch.no_grad()
def answer(
    teacher: EncoderStages | SegmentationTeacher,
    view: View,
    images: Sequence[np.ndarray],
    pixels: Sequence[np.ndarray],
    *,
    logits: bool = True,
    features: bool,
    views: Sequence[str] = ("plain",),
    device: str | torch.device = "cpu",
) -> list[dict[str, np.ndarray]]:
    """Return the teacher's logits at points of a few images, and the features of the patches that contain the points.

    teacher: it runs at the precision of `view`. It must predict classes if `logits` is true. images: (H, W, 3) uint8
    each. pixels: per image (n, 2) float32, (u, v) in pixels of the original image. logits, features: whether to return
    them. views: passes of the teacher, `plain` and any names in `PASSES`. The logits are `mean_logits` of the passes;
    features are those of the plain pass.

    Returns one dict per image. With `logits`: `logits` (n, S, K) float16. With `features`: `patch_index` (m,) uint16,
    ascending; `patch_feature` (m, S, D) int8; and `point_patch` (n,) uint16, the row of each point's patch in
    `patch_index` and `patch_feature`.

    Raises `InputError` where `device` lacks the precision, or where the images are too large for the encoder.
    """
    places = [view.pixels(pixel, image.shape[:2]) for pixel, image in zip(pixels, images, strict=True)]
    prepared = stack([view.prepare(image) for image in images]).to(device)
    results: list[dict[str, np.ndarray]] = [{} for _ in images]
    with view.autocast(device):
        stages, points = teacher.encoder(prepared), [torch.from_numpy(place).to(device) for place in places]
        values = None
        if logits:
            assert isinstance(teacher, StageTeacher | SegmentationTeacher)
            plain = teacher.logits_of(stages, points, prepared.shape[2:])
            others = [PASSES[name](view, images, pixels) for name in views if name != "plain"]
            values = mean_logits([plain, *(logits_in(teacher, each, device) for each in others)])
    if values is not None:
        # The largest float16 is 65504. An infinite logit would make a student's softmax NaN.
        values = values.float().clamp(-6e4, 6e4).half().cpu().numpy()
        for result, found in zip(results, np.split(values, np.cumsum([len(p) for p in places])[:-1]), strict=True):
            result["logits"] = found
    if features:
        maps = patch_maps(teacher, stages, view.patch).cpu().numpy()  # (B, S, D, rows, columns)
        for result, place, patches, image in zip(results, places, maps, images, strict=True):
            columns = view.padded(*image.shape[:2])[1] // view.patch
            hit, of_point = hit_patches(place, columns, view.patch)
            result["point_patch"] = of_point.astype(np.uint16)
            result["patch_index"] = hit.astype(np.uint16)
            result["patch_feature"] = np.moveaxis(patches[:, :, hit // columns, hit % columns], 2, 0)
    return results


def mirrored(view: View, images: Sequence[np.ndarray], pixels: Sequence[np.ndarray]) -> Pass:
    """Return the pass over the mirror images: left and right are exchanged."""
    widths = [image.shape[1] for image in images]
    flipped = [np.stack([w - pixel[:, 0], pixel[:, 1]], axis=1) for w, pixel in zip(widths, pixels, strict=True)]
    return view, [image[:, ::-1] for image in images], flipped


def scaled(view: View, images: Sequence[np.ndarray], pixels: Sequence[np.ndarray]) -> Pass:
    """Return the pass over the images at `ENLARGED` times their size in `view`."""
    return replace(view, longest_side=round(TeacherToCache.ENLARGED * view.longest_side)), images, pixels


PASSES = {"mirrored": mirrored, "scaled": scaled}
"""Name in `cache_teacher.views` -> function that changes the plain pass."""


def logits_in(teacher: StageTeacher | SegmentationTeacher, each: Pass, device: str | torch.device) -> torch.Tensor:
    """Return the teacher's logits at the points of one pass, (n, S, K), in the order of the points."""
    view, images, pixels = each
    prepared = stack([view.prepare(image) for image in images]).to(device)
    points = [
        torch.from_numpy(view.pixels(pixel, image.shape[:2])).to(device)
        for pixel, image in zip(pixels, images, strict=True)
    ]
    with view.autocast(device):
        return teacher.point_logits(prepared, points)


def mean_logits(passes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean of the probabilities over passes, as logits.

    passes: logits (..., K) each. One pass is returned as it is; several give float32 logarithms of probabilities that
    sum to 1. The mean of the log-probabilities ranks the classes as well, but its probabilities fit the truth less
    (`benchmarks/views.py`).
    """
    if len(passes) == 1:
        return passes[0]
    passes = [logits.float().log_softmax(-1) for logits in passes]
    return torch.stack(passes).logsumexp(0) - math.log(len(passes))


def hit_patches(pixel: np.ndarray, columns: int, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the image patches that contain points, and the position of each point's patch in that list.

    pixel: (n, 2), pixels of the view. columns: patches per row. patch: side of a patch in pixels.

    Returns (m,) int64 patch indices (row * columns + column, ascending, without duplicates), and (n,) int64 positions
    in that array.
    """
    column, row = (pixel // patch).astype(np.int64).T
    return np.unique(row * columns + column, return_inverse=True)


def patch_maps(
    teacher: EncoderStages | SegmentationTeacher, stages: Sequence[torch.Tensor], patch: int
) -> torch.Tensor:
    """Return the stage maps as quantised patch features, (B, S, D, rows, columns) int8.

    D is the largest number of channels of any map. Maps with fewer channels are filled with zeros.
    """
    widest = max(teacher.feature_channels)
    maps = []
    for values, stride in teacher.feature_maps(stages):
        values = F.avg_pool2d(values, patch // stride)
        values = (values * (127 / LIMIT)).round().clamp(-127, 127).to(torch.int8)
        maps.append(F.pad(values, (0, 0, 0, 0, 0, widest - values.shape[1])))
    return torch.stack(maps, dim=1)


def quantisation(teacher: EncoderStages | SegmentationTeacher) -> str:
    """Describe the cached patch features of `teacher` in words."""
    return (
        f"patch_feature * patch_scale: {teacher.FEATURES}. They are averaged over a patch and clipped at {LIMIT:g}"
        " standard deviations. Scale 0 marks channels that a stage does not have."
    )


def patch_scale(channels: Sequence[int]) -> np.ndarray:
    """Return the size of one int8 step in standard deviations, (S, D) float32.

    channels: of each of the S stages; D is the largest of them. Channels that a stage does not have get scale 0.
    """
    inside = np.arange(max(channels)) < np.asarray(channels)[:, None]
    return np.where(inside, LIMIT / 127, 0).astype(np.float32)


def shared_classifier(
    teacher: EncoderStages | SegmentationTeacher, classes: ClassTable
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the classifier that a student may reuse, as (arrays, attributes); both are empty for other teachers.

    Only an image segmentation network has such a classifier. Arrays: `classifier_weight` (1, K, D) and
    `classifier_bias` (1, K), both float32; they turn patch features into logits. Attributes: `known_classes`, the names
    of the classes that the network was trained on and can predict.
    """
    if not isinstance(teacher, SegmentationTeacher):
        return {}, {}
    classifier = teacher.head.classifier
    parameters = {"classifier_weight": classifier.weight, "classifier_bias": classifier.bias}
    arrays = {name: value.detach().cpu().numpy()[None] for name, value in parameters.items()}
    return arrays, {"known_classes": teacher.known_classes(classes)}
