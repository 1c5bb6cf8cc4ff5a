"""An oracle: dense truth with errors added, to a stated accuracy, in the form of a teacher's targets.

An oracle is a diagnostic of a simulated world, never a result of a method. The gain of students from oracles of each
accuracy shows how much the transfer can give. It distinguishes a weak teacher from a broken transfer.

A teacher that sees images makes errors in patches. A student can average out noise, but not such errors. Therefore
three quarters of an oracle's wrong points are wrong in groups, with one wrong class per group. A group is a whole
thing, the same in every frame of the sequence, or a cube of stuff, drawn again in each frame. The last quarter are
single points.
"""

import zlib
from collections.abc import Iterable

import numpy as np

from elite_pipeline.choices import STAGES
from elite_pipeline.config import Oracle
from elite_pipeline.datasets.classes import IGNORE, ClassTable

NOTE = (
    "An oracle: simulated ground truth with errors added, to a stated accuracy. It is a diagnostic of the possible gain"
    " from distillation. It is not a teacher and never a result of a method."
)

TOGETHER = 0.75
"""Share of the wrong points that are wrong as a whole thing or a whole cube of stuff."""

CUBE = 2.0
"""Edge of the cubes in metres, LiDAR frame. Points of one class of stuff in a cube are wrong together."""

FLOOR = 0.001
"""Added to each class's share of the sequence's points. A wrong class is drawn in proportion to this sum, so most
errors are common classes, and every class is possible."""

NEVER = -1e4
"""Logit of class 0: its probability is practically 0, and the logit is finite in float16."""

LEAST = 1e-6
"""Least probability of each class that is not predicted. It keeps the logits of a perfect oracle finite."""


class Corruption:
    """The classes that an oracle of one accuracy and seed predicts for the points of one sequence."""

    def __init__(
        self,
        settings: Oracle,
        sequence: str,
        truths: Iterable[tuple[np.ndarray, np.ndarray]],
        classes: ClassTable,
    ) -> None:
        """sequence: its name. All random draws follow from the name and the seed.

        truths: (labels, instances) of the projected points of every frame of the sequence, in order: (N,) training ids
        and (N,) ids of things, 0 = none. A label `IGNORE` is not a truth and gets no prediction.
        """
        self.settings, self.sequence = settings, sequence
        wrong = 1 - settings.accuracy
        self._together = TOGETHER * wrong
        # Probability that a point is wrong alone, given that it is not wrong in a group: the shares add up to `wrong`.
        self._alone = (wrong - self._together) / (1 - self._together)
        counts, things, sizes = np.zeros(len(classes)), [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for labels, instances in truths:
            counts += np.bincount(labels, minlength=len(classes))
            thing, size = np.unique(_thing(labels, instances), return_counts=True)
            things.append(thing[thing > 0])
            sizes.append(size[thing > 0])
        self._mistaken_for = mistakes(counts)
        self._things, which = np.unique(np.concatenate(things), return_inverse=True)
        sizes = np.bincount(which, np.concatenate(sizes), minlength=len(self._things))
        self._answers = self._wrong_together(self._things // THINGS, sizes, self._draws("things"))

    def answers(self, frame: str, points: np.ndarray, labels: np.ndarray, instances: np.ndarray) -> np.ndarray:
        """Return the predicted classes of N projected points of `frame` (its name): (N,) int64.

        points: (N, >=3) float, metres, LiDAR frame. labels, instances: as in `truths`. The prediction is `IGNORE` where
        the label is. Otherwise it is right with the probability that the settings state, whatever the class.
        """
        draws = self._draws("frame", frame)
        answers = labels.astype(np.int64)
        thing = _thing(labels, instances)
        known = np.flatnonzero(thing)
        answers[known] = self._answers[np.searchsorted(self._things, thing[known])]

        stuff = np.flatnonzero((thing == 0) & (labels != IGNORE))
        cubes = np.column_stack([labels[stuff], np.floor(points[stuff, :3] / CUBE).astype(np.int64)])
        cubes, cube, sizes = np.unique(cubes, axis=0, return_inverse=True, return_counts=True)
        answers[stuff] = self._wrong_together(cubes[:, 0], sizes, draws)[cube.ravel()]

        alone = (answers == labels) & (labels != IGNORE) & (draws.random(len(labels)) < self._alone)
        answers[alone] = self._other_class(labels[alone], draws)
        return answers

    def _wrong_together(self, classes: np.ndarray, sizes: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """Return one predicted class per group, (G,) int64. classes, sizes: (G,) true class and number of points."""
        wrong, answers = systematic(classes, sizes, self._together, draws), classes.astype(np.int64)
        answers[wrong] = self._other_class(answers[wrong], draws)
        return answers

    def _other_class(self, classes: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """Return a wrong class for each of `classes` (N,), drawn with the probabilities of `mistakes`: (N,) int64."""
        below = np.cumsum(self._mistaken_for[classes], axis=1)
        below /= below[:, -1:]  # exactly 1 at the end: a draw is always below it
        return (draws.random((len(classes), 1)) >= below).sum(axis=1)

    def _draws(self, *names: str) -> np.random.Generator:
        """Return random numbers that depend only on seed, sequence and `names`, not on earlier draws."""
        return np.random.default_rng([self.settings.seed, zlib.crc32("/".join((self.sequence, *names)).encode())])


THINGS = 1 << 16
"""Ids of things are below this number. The same id in two classes is two things."""


def _thing(labels: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Return the numbers of things, (N,) int64: class * THINGS + id; 0 for stuff and for `IGNORE`."""
    labels, instances = labels.astype(np.int64), instances.astype(np.int64)
    return np.where((labels != IGNORE) & (instances > 0), labels * THINGS + instances, 0)


def mistakes(counts: np.ndarray) -> np.ndarray:
    """Return how often a class (row) is mistaken for another (column): (K, K) float64, each row sums to 1.

    counts: (K,) points of each class. An entry is proportional to the column's share of the points plus `FLOOR`. It is
    0 for `IGNORE` and on the diagonal.
    """
    likely = np.tile(counts / max(counts[IGNORE + 1 :].sum(), 1) + FLOOR, (len(counts), 1))
    likely[:, IGNORE] = 0
    np.fill_diagonal(likely, 0)
    return likely / likely.sum(axis=1, keepdims=True)


def systematic(classes: np.ndarray, sizes: np.ndarray, share: float, draws: np.random.Generator) -> np.ndarray:
    """Return which of G groups are drawn: (G,) bool, each with probability `share` < 1.

    This is systematic sampling: groups are sorted by class and size, and one in every 1 / `share` is drawn, from a
    random start. So groups of similar class and size are drawn at that share. Their points are drawn at nearly that
    share, although a few groups hold most of the points.
    """
    order = np.lexsort((draws.random(len(sizes)), sizes, classes))
    passed = np.floor(np.arange(len(order) + 1) * share + draws.random())
    drawn = np.empty(len(order), dtype=bool)
    drawn[order] = np.diff(passed) > 0
    return drawn


def logits(answers: np.ndarray, accuracy: float, classes: int) -> np.ndarray:
    """Return the logits of the predicted classes `answers`, (N,) int64: (N, S, K) float16, equal in all stages.

    The confidence equals the accuracy of the oracle. The predicted class has log(accuracy). The other classes except 0
    share the remaining probability. `IGNORE` gets a uniform distribution over all classes except 0.
    """
    others = classes - 2  # without `IGNORE` and the predicted class
    of_answer = np.full((classes, classes), np.log(max((1 - accuracy) / others, LEAST)))
    np.fill_diagonal(of_answer, np.log(accuracy))
    of_answer[IGNORE] = -np.log(classes - 1)
    of_answer[:, IGNORE] = NEVER
    return np.repeat(of_answer.astype(np.float16)[answers][:, None], STAGES, axis=1)
