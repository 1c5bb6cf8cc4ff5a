"""What a frozen teacher says about an image, in the form in which students read it: point logits and patch features."""

import numpy as np
import torch
from torch.nn import functional as F

from elite_pipeline.teacher.heads import stack

LIMIT = 6.0
"""Standard deviations at which patch features are cut: one int8 step is then 0.047 deviations."""

QUANTISATION = (
    "patch_feature * patch_scale: features standardised per channel over the teacher's training images, averaged over"
    f" a patch, cut at {LIMIT:g} deviations; channels that a stage lacks have scale 0"
)


@torch.no_grad()
def answer(teacher, view, images, pixels, *, features, device="cpu"):
    """Logits at points of a few images, and features of the patches that they hit.

    teacher: a `heads.Teacher`. view: a `sam.View`, at whose precision the teacher runs. images: (H, W, 3) uint8 each.
    pixels: (n, 2) float32 native (u, v) per image. features: whether patch features are wanted. Returns one dict per
    image: `logits` (n, S, K) float16 and, where wanted, `patch_index` (m,) uint16, ascending, `patch_feature`
    (m, S, D) int8, and `point_patch` (n,) uint16, the row of these two in which each point lies.
    """
    places = [view.pixels(pixel, image.shape[:2]) for pixel, image in zip(pixels, images, strict=True)]
    prepared = stack([view.prepare(image) for image in images]).to(device)
    with view.autocast(device):
        stages = teacher.encoder(prepared)
        logits = teacher.logits_of(stages, [torch.from_numpy(p).to(device) for p in places], prepared.shape[2:])
    # float16 ends at 65504, and an infinite logit would make a student's softmax NaN.
    logits = logits.float().clamp(-6e4, 6e4).half().cpu().numpy()
    split = np.split(logits, np.cumsum([len(place) for place in places])[:-1])
    answers: list[dict] = [{"logits": values} for values in split]
    if features:
        maps = patch_maps(teacher, stages, view.patch).cpu().numpy()  # (B, S, D, rows, columns)
        for result, place, patches, image in zip(answers, places, maps, images, strict=True):
            columns = view.padded(*image.shape[:2])[1] // view.patch
            hit, of_point = hit_patches(place, columns, view.patch)
            result["point_patch"] = of_point.astype(np.uint16)
            result["patch_index"] = hit.astype(np.uint16)
            result["patch_feature"] = np.moveaxis(patches[:, :, hit // columns, hit % columns], 2, 0)
    return answers


def class_mass(logits):
    """(S, K) float64: points given to each class, the sum over points of the softmax of `logits` (n, S, K)."""
    return torch.from_numpy(logits.astype(np.float32)).softmax(2).sum(0).double().numpy()


def predicted_class(logits):
    """Most likely class of (n, K) logits, never 0 (nothing is tuned towards it): (n,) int64 array."""
    return logits[:, 1:].argmax(1) + 1


def hit_patches(pixel, columns, patch):
    """Which patches points hit: (m,) ascending indices row * columns + column, and (n,) whose of these each is in.

    pixel: (n, 2), of the view. Both are int64.
    """
    column, row = (pixel // patch).astype(np.int64).T
    return np.unique(row * columns + column, return_inverse=True)


def patch_maps(teacher, stages, patch):
    """Stage maps as quantised patch features: (B, S, D, rows, columns) int8, D the largest of the stages' channels."""
    widest = max(stage.shape[1] for stage in stages)
    maps = []
    for head, stage, stride in zip(teacher.stage_heads, stages, teacher.encoder.strides, strict=True):
        values = F.avg_pool2d(head.standardise(stage.float()), patch // stride)
        values = (values * (127 / LIMIT)).round().clamp(-127, 127).to(torch.int8)
        maps.append(F.pad(values, (0, 0, 0, 0, 0, widest - values.shape[1])))
    return torch.stack(maps, dim=1)


def patch_scale(channels):
    """(S, D) float32: what one int8 step of each stage's channels means, in standard deviations."""
    inside = np.arange(max(channels)) < np.asarray(channels)[:, None]
    return np.where(inside, LIMIT / 127, 0).astype(np.float32)
