"""Paint labels of projected points into a sparse image, and spread them without SAM (`nearest`, `vote`)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.planes import nearest_of

EMPTY = 255
"""Sparse label of a pixel without a point."""


CERTAIN = 255
"""Confidence of a pixel that holds a labelled point."""


@dataclass(frozen=True)
class PseudoLabels:
    """The pseudo-labels of one image."""

    label: np.ndarray
    """(H, W) uint8 training ids; `IGNORE` where the label is unknown."""
    confidence: np.ndarray
    """(H, W) uint8, from 0 (where the label is `IGNORE`) to `CERTAIN`."""
    prompts: int = 0
    """Number of points that prompted SAM."""
    decoder_calls: int = 0
    """Number of prompt sets that SAM decoded; batching does not change it."""


Labeller = Callable[[np.ndarray, np.ndarray, Callable[[], np.ndarray]], PseudoLabels]
"""Function of (sparse, instances, image) -> `PseudoLabels`.

sparse, instances: from `paint`. image: a function without arguments that returns the image, (H, W, 3) uint8 RGB."""


def paint(
    pixel: np.ndarray, depth: np.ndarray, label: np.ndarray, instance: np.ndarray, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Paint points into a sparse image. Where several points fall on one pixel, the nearest to the camera wins.

    pixel: (N, 2) float, (u, v); pixel i covers [i, i + 1). depth: (N,) metres. label: (N,) uint8 training ids.
    instance: (N,) unsigned, 0 = no instance. size: (height, width).

    Returns (sparse, instances). sparse: (H, W) uint8 labels, `EMPTY` at pixels without a point. instances: (H, W)
    uint16, 0 at pixels without a point.
    """
    column, row = pixel.astype(np.intp).T
    order = np.argsort(-depth, kind="stable")  # nearest last, because the last write to a pixel stays
    sparse = np.full(size, EMPTY, dtype=np.uint8)
    instances = np.zeros(size, dtype=np.uint16)
    sparse[row[order], column[order]] = label[order]
    instances[row[order], column[order]] = instance[order]
    return sparse, instances


def nearest(sparse: np.ndarray, *, radius: float) -> PseudoLabels:
    """Label each pixel like the nearest pixel with a point, up to a distance of `radius` pixels.

    sparse: (H, W) uint8, from `paint`. The confidence falls linearly from `CERTAIN` on a pixel with a point to 0 just
    beyond the radius.
    """
    empty = sparse == EMPTY
    if empty.all():
        return PseudoLabels(np.zeros_like(sparse), np.zeros_like(sparse))
    distance, row, column = nearest_of(~empty)
    label = np.where(distance <= radius, sparse[row, column], IGNORE)
    confidence = np.where(label == IGNORE, 0, np.rint(CERTAIN * (1 - distance / (radius + 1)).clip(0)))
    return PseudoLabels(label, confidence.astype(np.uint8))


def vote(sparse: np.ndarray, masks: Iterable[np.ndarray]) -> PseudoLabels:
    """Give each mask the majority label of the labelled pixels inside it. Later masks overwrite earlier ones.

    sparse: (H, W) uint8, from `paint`. masks: iterable of (H, W) bool from any source, the least trusted first.

    A mask without labelled pixels changes nothing, nor does a mask with the majority label `IGNORE`. Labelled pixels
    outside all masks keep their own label. The confidence of a mask is the share of its majority label.
    """
    label = np.where(sparse == EMPTY, IGNORE, sparse)
    confidence = np.where(label == IGNORE, 0, CERTAIN).astype(np.uint8)
    for mask in masks:
        votes = np.bincount(sparse[mask], minlength=EMPTY + 1)[:EMPTY]
        winner = votes.argmax()
        if winner != IGNORE:
            label[mask] = winner
            confidence[mask] = round(CERTAIN * votes[winner] / votes.sum())
    return PseudoLabels(label, confidence)
