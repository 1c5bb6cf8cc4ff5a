"""Test-time augmentation as ELiTe and 2DPASS use it for their scores (`--num_vote 12`): several passes per scan.

The first pass uses the scan as recorded. Every other pass rotates it about z and translates it. The logits of all
passes are summed per point. This gains 1 to 3 points of mIoU at a multiple of the latency, so these scores are kept
apart from single-pass scores.
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
"""Motion of each pass after the first, as in ELiTe and 2DPASS: any angle about z; a translation along x, y and z with
the standard deviation of training, in metres; no mirroring."""


def passes(points: np.ndarray, votes: int, seed: int) -> Iterator[np.ndarray]:
    """Yield `votes` copies of `points` (N, 4) float32 in the same row order: the first unchanged, the others moved."""
    generator = torch.Generator().manual_seed(seed)
    yield points
    for _ in range(votes - 1):
        moved, _ = augment(torch.tensor(points), MOTION, generator)
        yield moved.numpy()


@torch.inference_mode()
def summed_logits(predict: Predictor, points: np.ndarray, votes: int, seed: int) -> torch.Tensor:
    """Return the logits of every point of `points`, summed over `passes`: (N, K) float32, on the device of `predict`.

    A point that a pass moves out of the student's volume gets the logits of the nearest place inside, as in a single
    pass.
    """
    finest, classes = predict.student.finest, len(predict.classes)
    total = torch.zeros(len(points), classes, device=predict.device)
    for scan in passes(points, votes, seed):
        pyramid = predict.voxelise(scan)
        total += predict.forward(pyramid)[pyramid[finest].of_point]
    return total


@torch.inference_mode()
def vote(predict: Predictor, points: np.ndarray, votes: int, seed: int) -> np.ndarray:
    """Return the training ids, (N,) uint8, of `points`, (N >= 1, 4) float32 as for `predict`.

    One vote gives the same ids as `predict`. The same `seed` gives the same motions and, on a CPU, the same ids.
    """
    logits = summed_logits(predict, points, votes, seed)
    logits[:, IGNORE] = -torch.inf
    return logits.argmax(dim=1).to(torch.uint8).cpu().numpy()


def table(result: Mapping[str, Any]) -> str:
    """Return `metrics.table` of a result, with a title and text that state the test-time augmentation."""
    title, text = metrics.table(result).split("\n", 1)
    passed = f"{result['votes']} passes"
    warning = f"with test-time augmentation, {passed}: not comparable with single-pass numbers"
    return f"{title}, {warning}\n{text.replace('single pass', passed)}"
