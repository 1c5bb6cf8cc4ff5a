"""What a frozen teacher says about an image, in the form in which students read it: point logits and patch features."""

import numpy as np
import torch
from torch.nn import functional as F

from elite_pipeline.teacher.heads import stack
from elite_pipeline.teacher.image_network import SegmentationTeacher

LIMIT = 6.0
"""Standard deviations at which patch features are cut: one int8 step is then 0.047 deviations."""


@torch.no_grad()
def answer(teacher, view, images, pixels, *, logits=True, features, device="cpu"):
    """Logits at points of a few images, and features of the patches that they hit.

    teacher: a `heads.Teacher` or a `segmentation.SegmentationTeacher`. view: a `sam.View`, at whose precision the
    teacher runs. images: (H, W, 3) uint8 each. pixels: (n, 2) float32 native (u, v) per image. logits, features:
    whether they are wanted. Returns one dict per image, with what is: `logits` (n, S, K) float16; `patch_index` (m,)
    uint16, ascending, `patch_feature` (m, S, D) int8, and `point_patch` (n,) uint16, the row of these two in which
    each point lies.
    """
    places = [view.pixels(pixel, image.shape[:2]) for pixel, image in zip(pixels, images, strict=True)]
    prepared = stack([view.prepare(image) for image in images]).to(device)
    answers: list[dict] = [{} for _ in images]
    with view.autocast(device):
        stages, points = teacher.encoder(prepared), [torch.from_numpy(place).to(device) for place in places]
        values = teacher.logits_of(stages, points, prepared.shape[2:]) if logits else None
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


def hit_patches(pixel, columns, patch):
    """Which patches points hit: (m,) ascending indices row * columns + column, and (n,) whose of these each is in.

    pixel: (n, 2), of the view. Both are int64.
    """
    column, row = (pixel // patch).astype(np.int64).T
    return np.unique(row * columns + column, return_inverse=True)


def patch_maps(teacher, stages, patch):
    """Stage maps as quantised patch features: (B, S, D, rows, columns) int8, D the largest of the maps' channels."""
    widest = max(teacher.feature_channels)
    maps = []
    for values, stride in teacher.feature_maps(stages):
        values = F.avg_pool2d(values, patch // stride)
        values = (values * (127 / LIMIT)).round().clamp(-127, 127).to(torch.int8)
        maps.append(F.pad(values, (0, 0, 0, 0, 0, widest - values.shape[1])))
    return torch.stack(maps, dim=1)


def quantisation(teacher):
    """What the cached patch features of `teacher` are, in words."""
    return (
        f"patch_feature * patch_scale: {teacher.FEATURES}, averaged over a patch, cut at {LIMIT:g} deviations; channels"
        " that a stage lacks have scale 0"
    )


def patch_scale(channels):
    """(S, D) float32: what one int8 step of each stage's channels means, in standard deviations."""
    inside = np.arange(max(channels)) < np.asarray(channels)[:, None]
    return np.where(inside, LIMIT / 127, 0).astype(np.float32)


def shared_classifier(teacher):
    """What of an image segmentation network a student may share, and nothing of other teachers: (arrays, attributes).

    Arrays: `classifier_weight` (1, K, D) and `classifier_bias` (1, K) float32, which turn patch features into logits.
    Attributes: `known_classes`, names of the classes that it was taught and can answer.
    """
    if not isinstance(teacher, SegmentationTeacher):
        return {}, {}
    classifier = teacher.head.classifier
    parameters = {"classifier_weight": classifier.weight, "classifier_bias": classifier.bias}
    arrays = {name: value.detach().cpu().numpy()[None] for name, value in parameters.items()}
    return arrays, {"known_classes": teacher.known_classes}
