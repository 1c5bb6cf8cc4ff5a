"""Test-time augmentation as ELiTe and 2DPASS score with `--num_vote 12`: one scan, labelled several times over.

The first pass sees the scan as it was recorded, every other one turns it about z and moves it; the logits of all passes
are summed per point. That is worth 1 to 3 mIoU at a multiple of the latency, so its numbers are kept apart from others.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from elite_pipeline.config import Augmentation
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.evaluation import metrics
from elite_pipeline.student.model import Predictor
from elite_pipeline.training.augmentation import augment

MOTION = Augmentation(rotate=True, flip=False, scale=0.0, translate=0.1, drop=0.0)
"""Of their votes: any angle about z, and metres (standard deviation) along x, y and z as in training; no mirroring."""


def passes(points: np.ndarray, votes: int, seed: int) -> Iterator[np.ndarray]:
    """`votes` copies of `points` (N, 4) float32, rows in their order: the first unchanged, the others by `MOTION`."""
    generator = torch.Generator().manual_seed(seed)
    yield points
    for _ in range(votes - 1):
        moved, _ = augment(torch.tensor(points), MOTION, generator)
        yield moved.numpy()


@torch.inference_mode()
def summed_logits(predict: Predictor, points: np.ndarray, votes: int, seed: int) -> torch.Tensor:
    """(N, K) float32, on the device of `predict`: the logits of every point of `points`, summed over `passes`.

    What a pass moves out of the student's volume gets the logits of the nearest place in it, as in a single pass.
    """
    finest, classes = predict.student.finest, len(predict.classes)
    total = torch.zeros(len(points), classes, device=predict.device)
    for scan in passes(points, votes, seed):
        pyramid = predict.voxelise(scan)
        total += predict.forward(pyramid)[pyramid[finest].of_point]
    return total


@torch.inference_mode()
def vote(predict: Predictor, points: np.ndarray, votes: int, seed: int) -> np.ndarray:
    """(N,) uint8 training ids of `points` (N >= 1, 4) float32, as `predict` takes them; one vote is `predict` itself.

    The same `seed` moves the scan alike; on a CPU the answer is the same bit for bit.
    """
    logits = summed_logits(predict, points, votes, seed)
    logits[:, IGNORE] = -torch.inf
    return logits.argmax(dim=1).to(torch.uint8).cpu().numpy()


def table(result: Mapping[str, Any]) -> str:
    """`metrics.table` of a result with test-time augmentation, which says so in its title and in its text."""
    title, text = metrics.table(result).split("\n", 1)
    passed = f"{result['votes']} passes"
    warning = f"with test-time augmentation, {passed}: not comparable with single-pass numbers"
    return f"{title}, {warning}\n{text.replace('single pass', passed)}"
