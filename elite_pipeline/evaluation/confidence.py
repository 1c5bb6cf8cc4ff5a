"""The confidence of soft labels, compared with how often they are right; and the temperature that corrects it.

A soft label is calibrated if, of all points with a confidence of 80 %, 80 % are right. Its confidence is the
probability of its likeliest class. A temperature T above 1 makes soft labels less confident, and one below 1 makes them
more confident. It divides the logits of every stage of the teacher, and so never changes which class of a stage is the
likeliest (Guo et al., arXiv 1706.04599).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from elite_pipeline.soft_labels import EXCLUDED, STEP, predicted_class

LOWEST, HIGHEST = 0.1, 10.0
"""Bounds of the temperature."""

LEAST = -EXCLUDED * STEP
"""Least log-likelihood of a point. A soft label excludes improbable classes, which no temperature changes. A point that
has such a label would otherwise outweigh all others."""

BINS = 15
"""Bins of confidence in a reliability diagram, equally wide."""


@dataclass(frozen=True)
class ConfidenceBin:
    """The points whose confidence lies in one interval."""

    share: float
    """Of all points, 0 to 1."""
    confidence: float | None
    """Mean confidence, 0 to 1; None without points."""
    accuracy: float | None
    """Share of the points that are right, 0 to 1; None without points."""

    @property
    def gap(self) -> float:
        """Distance between confidence and accuracy; 0 without points."""
        return 0.0 if self.confidence is None or self.accuracy is None else abs(self.confidence - self.accuracy)


def mean_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """(n, K) float32: the mean over stages of softmax(`logits` / `temperature`), 0 for `IGNORE`. logits: (n, S, K)."""
    classes = (logits[..., 1:].float() / temperature).softmax(dim=-1).mean(dim=1)
    return torch.nn.functional.pad(classes, (1, 0))


def negative_log_likelihood(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """Mean over points of the negative logarithm of the probability of the label, at a temperature.

    Each is at most -`LEAST`. logits: (n, S, K), n > 0. labels: (n,) int64 without `IGNORE`.
    """
    of_stages = (logits[..., 1:].float() / temperature).log_softmax(dim=-1)  # (n, S, K - 1)
    of_label = of_stages.gather(2, (labels - 1)[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]  # (n, S)
    of_points = of_label.double().logsumexp(dim=1) - np.log(logits.shape[1])
    return -float(of_points.clamp_min(LEAST).mean())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature from `LOWEST` to `HIGHEST` with the least negative log-likelihood.

    It is 1 where no other is better, for example because all classes are equally likely, or because there is no point.
    logits: (n, S, K). labels: (n,) int64 without `IGNORE`.
    """
    if not len(labels):
        return 1.0
    found: Any = minimize_scalar(
        lambda log: negative_log_likelihood(logits, labels, float(np.exp(log))),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    gain = negative_log_likelihood(logits, labels, 1.0) - float(found.fun)
    # Less than this is rounding.
    return round(float(np.exp(found.x)), 4) if gain > 1e-6 else 1.0


def reliability(confidence: Tensor, right: Tensor) -> list[ConfidenceBin]:
    """`BINS` bins of points. confidence: (n,) float, 0 to 1. right: (n,) bool. A confidence of 1 is in the last bin."""
    place = (confidence.double() * BINS).long().clamp(0, BINS - 1)
    points, surety, hits = (
        torch.bincount(place, weights=values, minlength=BINS).tolist()
        for values in (torch.ones_like(place, dtype=torch.float64), confidence.double(), right.double())
    )
    total = max(1, len(confidence))
    return [
        ConfidenceBin(n / total, sure / n if n else None, hit / n if n else None)
        for n, sure, hit in zip(points, surety, hits, strict=True)
    ]


def expected_calibration_error(bins: list[ConfidenceBin]) -> float:
    """Mean over points of the distance between confidence and accuracy of their bin, 0 to 1."""
    return sum(b.share * b.gap for b in bins)


def calibration(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """The temperature of one kind of soft labels, with the likelihood and the reliability before and after it.

    logits: (n, S, K) of n labelled points. labels: (n,) int64 without `IGNORE`. Without points, the temperature is 1,
    and likelihoods, errors, accuracies and `bins` are None.
    """
    temperature = fit_temperature(logits, labels)
    found: dict[str, Any] = {"temperature": temperature, "points": len(labels)}
    for when, t in (("before", 1.0), ("after", temperature)):
        found |= dict.fromkeys((f"nll_{when}", f"ece_{when}", f"accuracy_{when}"))
        if len(labels):
            probabilities = mean_probabilities(logits, t)
            right = predicted_class(probabilities) == labels
            bins = reliability(probabilities.amax(dim=1), right)
            found[f"nll_{when}"] = negative_log_likelihood(logits, labels, t)
            found[f"ece_{when}"] = expected_calibration_error(bins)
            found[f"accuracy_{when}"] = float(right.double().mean())
            found.setdefault("bins", {})[when] = [asdict(b) for b in bins]
    return {**found, "bins": found.get("bins")}


def draw(labels: Tensor, known: Tensor, count: int, seed: tuple[int, ...]) -> Tensor:
    """Draws at most `count` labelled points. The same seed draws the same points.

    labels: (n,) int64 training ids. known: (K,) bool, the classes that the teacher can predict. Points of other classes
    are not drawn, because no temperature makes a teacher name a class that it does not know.
    Returns (m,) int64 rows of `labels`, ascending.
    """
    rows = known[labels].nonzero()[:, 0]
    if len(rows) <= count:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return rows[torch.from_numpy(np.sort(chosen))]
