"""95 % intervals of paired differences: over seeds (Student's t) and over places (bootstrap).

The two answer different questions. Over seeds: would other labelled drives, teachers and students, drawn by chance,
show the same difference on these places? Over places: would these students show it at other places? A difference that
is worth telling has both intervals on one side of zero.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from elite_pipeline.datasets.classes import Absent
from elite_pipeline.evaluation.metrics import accuracy, mean_iou

LEVEL = 0.95
"""Share of repetitions in which an interval holds the true difference."""

RESAMPLES = 2000
"""Number of times that places are drawn."""

Interval = tuple[float, float]
"""Lower and upper end."""

Places = Mapping[str, np.ndarray]
"""Place (sequence) -> `Confusion.counts` of a student there: (K, K), rows are the truth."""


def over_seeds(differences: Sequence[float]) -> Interval | None:
    """Returns the interval of the mean of paired differences, one for each seed; None for a single seed.

    Student's t with n - 1 degrees of freedom. It holds for differences that are about normally distributed.
    """
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return None
    half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * float(np.std(differences, ddof=1)) / count**0.5
    mean = float(np.mean(differences))
    return mean - half, mean + half


def resamples(places: int, number: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Returns (number, places) int64: how often each place is drawn when as many places are drawn with replacement.

    The same for all students that are scored at the same number of places, so that their differences are paired.
    """
    return np.random.default_rng(seed).multinomial(places, np.full(places, 1 / places), size=number)


def resampled(
    seeds: Sequence[Places],
    draws: np.ndarray,
    frequent: Sequence[int] = (),
    absent: Absent = "counts as zero",
) -> dict[str, np.ndarray]:
    """Returns {`miou`, `accuracy`, `miou_frequent`}: (R,) float64, scores of each draw, averaged over the seeds.

    seeds: the places of the student of each seed, in the same order of the same places. draws: `resamples`. frequent:
    ids of the classes of `miou_frequent`, which is left out without any. absent: `ClassTable.absent`.
    The confusion matrices of the drawn places are summed before the score is computed, as the official score does. A
    class that no drawn place shows counts as 0 or is left out, as it is there. NaN where no class is left.
    """
    stacked = np.stack([np.stack(list(places.values())) for places in seeds])  # (S, P, K, K)
    scores: dict[str, Callable[[np.ndarray], float]] = {
        "miou": lambda counts: mean_iou(counts, absent=absent),
        "accuracy": accuracy,
    }
    if frequent:
        scores["miou_frequent"] = lambda counts: mean_iou(counts, frequent, absent)
    sums = [np.tensordot(draws, of_seed, axes=1) for of_seed in stacked]
    return {
        name: np.mean([[score(one) for one in of_seed] for of_seed in sums], axis=0) for name, score in scores.items()
    }


def over_places(a: np.ndarray, b: np.ndarray) -> Interval:
    """Returns the percentile interval of the difference a - b. a, b: (R,) scores of the same draws (`resampled`).

    Draws without a score are left out.
    """
    tail, differences = 100 * (1 - LEVEL) / 2, a - b
    low, high = np.percentile(differences[~np.isnan(differences)], [tail, 100 - tail])
    return float(low), float(high)


def side(interval: Sequence[float] | None) -> int | None:
    """Returns 1 for an interval above zero, -1 for one below zero, 0 for one that holds zero; None for no interval."""
    if interval is None:
        return None
    low, high = interval
    return 1 if low > 0 else -1 if high < 0 else 0
