"""Labels of projected points as a sparse image, and the two ways to spread them that need no SAM."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.planes import nearest_of

EMPTY = 255
"""Sparse label of a pixel on which no point falls."""


CERTAIN = 255
"""Confidence of a pixel on which a labelled point falls."""


@dataclass(frozen=True)
class PseudoLabels:
    """What a labeller makes of one image."""

    label: np.ndarray
    """(H, W) uint8 training ids; `IGNORE` where nothing is known."""
    confidence: np.ndarray
    """(H, W) uint8, 0 where the label is `IGNORE`, `CERTAIN` at most."""
    prompts: int = 0
    """Points with which SAM was prompted."""
    decoder_calls: int = 0
    """Sets of prompts that SAM decoded, however they were batched."""


Labeller = Callable[[np.ndarray, np.ndarray, Callable[[], np.ndarray]], PseudoLabels]
"""Function of (sparse, instances, image): the first two of `paint`, and a function that returns (H, W, 3) uint8 RGB."""


def paint(
    pixel: np.ndarray, depth: np.ndarray, label: np.ndarray, instance: np.ndarray, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Points as a sparse image; of several points on one pixel the nearest wins.

    pixel: (N, 2) float, (u, v), pixel i covering [i, i + 1). depth: (N,) metres. label: (N,) uint8 training ids.
    instance: (N,) unsigned, 0 = none. size: (height, width).
    Returns (sparse, instances): (H, W) uint8 labels with `EMPTY` between the points, (H, W) uint16 with 0 there.
    """
    column, row = pixel.astype(np.intp).T
    order = np.argsort(-depth, kind="stable")  # the last write to a pixel stays
    sparse = np.full(size, EMPTY, dtype=np.uint8)
    instances = np.zeros(size, dtype=np.uint16)
    sparse[row[order], column[order]] = label[order]
    instances[row[order], column[order]] = instance[order]
    return sparse, instances


def nearest(sparse: np.ndarray, *, radius: float) -> PseudoLabels:
    """Label of the nearest labelled pixel, none beyond `radius` pixels.

    sparse: (H, W) uint8 of `paint`. The confidence falls linearly from `CERTAIN` on a labelled pixel to 0 just beyond
    the radius.
    """
    empty = sparse == EMPTY
    if empty.all():
        return PseudoLabels(np.zeros_like(sparse), np.zeros_like(sparse))
    distance, row, column = nearest_of(~empty)
    label = np.where(distance <= radius, sparse[row, column], IGNORE)
    confidence = np.where(label == IGNORE, 0, np.rint(CERTAIN * (1 - distance / (radius + 1)).clip(0)))
    return PseudoLabels(label, confidence.astype(np.uint8))


def vote(sparse: np.ndarray, masks: Iterable[np.ndarray]) -> PseudoLabels:
    """Each mask takes the majority label of the labelled pixels inside it; later masks overwrite earlier ones.

    sparse: (H, W) uint8 of `paint`. masks: iterable of (H, W) bool from any source, the least trusted first.
    A mask without labelled pixels, or whose majority is `IGNORE`, changes nothing. Labelled pixels outside all masks
    keep their own label. A mask's confidence is its majority's share.
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
