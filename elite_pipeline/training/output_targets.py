"""The soft labels that a student's output learns from, and the least confidence that a soft label needs to teach.

A teacher is more often right where it is confident. But a threshold that is the same for all classes would leave out
the rare ones. So each class has its own threshold: a quantile of the confidence of the points that the teacher gives
this class, over the whole data set.
"""

import torch
from torch import Tensor

from elite_pipeline.config import Losses
from elite_pipeline.soft_labels import decode
from elite_pipeline.training.examples import Example, Examples

BINS, LOWEST, HIGHEST = 256, -8.0, 16.0
"""Bins of the log-odds of the likeliest class. Bins of the probability itself would be too wide near 1, where most soft
labels are."""

SCANS = 200
"""At most this number of scans, evenly spread, is read to find the thresholds."""


def output_targets(example: Example, losses: Losses, classes: int) -> tuple[Tensor, Tensor]:
    """The points that have a soft label for the output: (R,) int64, and these soft labels: (R, `classes`) logits.

    With `targets: aggregated` they are the aggregated ones. With `targets: frame` they are the mean over the chosen
    stages of the teacher, of the scan's own images, and a point that two cameras see appears twice.
    """
    aggregated = losses.targets == "aggregated"
    points = example.reached if aggregated else example.taught
    if not len(points):  # without rows, the other sizes of a tensor have no meaning
        return points, torch.zeros(0, classes, device=points.device)
    if aggregated:
        return points, decode(example.aggregated, classes)
    answers = example.teacher[:, losses.stages]  # (R, S, K)
    # Mean over stages of the probabilities at this temperature, converted back to logits at the same temperature.
    mean = (answers / losses.temperature).softmax(dim=2).mean(dim=1).clamp_min(1e-8).log() * losses.temperature
    return points, mean


def confidence(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest class of soft labels, and how confident they are. logits: (R, K).

    Returns (R,) int64 class, and (R,) int64 bin (0 to `BINS` - 1) of the log-odds of its probability.
    """
    logits = logits.float()
    largest, likeliest = logits[:, 1:].max(dim=1)
    likeliest = likeliest + 1  # never 0: no teacher learns it
    others = logits.scatter(1, likeliest[:, None], -torch.inf).logsumexp(dim=1)
    place = (largest - others - LOWEST) / (HIGHEST - LOWEST) * BINS
    return likeliest, place.clamp(0, BINS - 1).long()


def confidence_thresholds(examples: Examples, losses: Losses) -> Tensor:
    """(K,) int64: for each class the lowest bin (see `confidence`) of the share `losses.confident` of its soft labels.

    At least this share of the soft labels of each class lies in this bin or above: a bin is not divided. 0 for classes
    without any. The thresholds are exact up to `SCANS` scans; beyond, every k-th scan is read. Memory does not depend
    on the number of scans. Raises `InputError` where a scan or its targets cannot be read.
    """
    classes = len(examples.classes)
    counts = torch.zeros(classes * BINS, dtype=torch.int64)
    for item in range(0, len(examples), -(-len(examples) // SCANS)):
        _, logits = output_targets(examples[item], losses, classes)
        likeliest, place = confidence(logits)
        counts += torch.bincount(likeliest * BINS + place, minlength=classes * BINS)
    above = counts.view(classes, BINS).flip(1).cumsum(1).flip(1)  # (K, BINS): soft labels in this bin or above
    enough = above >= losses.confident * above[:, :1].double()
    return torch.where(above[:, 0] > 0, enough.sum(dim=1) - 1, 0)


def are_confident(logits: Tensor, thresholds: Tensor) -> Tensor:
    """(R,) bool: whether soft labels (R, K) reach the threshold of their class. thresholds: (K,), see above."""
    likeliest, place = confidence(logits)
    return place >= thresholds[likeliest]
