"""An oracle: dense truth, made wrong to a stated degree, in the form of a teacher's answers.

A diagnostic of a simulated world and never a result of a method: what students gain from an oracle of each accuracy is
what the transfer can give, and tells a weak teacher from a broken transfer.

A teacher that sees images errs in patches, which a student cannot average away as it does noise. So three quarters of
an oracle's wrong points are wrong together, with one answer for all of them: whole things, the same in every frame of
the sequence, and cubes of stuff, drawn anew in each frame. The last quarter are single points.
"""

import zlib
from collections.abc import Iterable

import numpy as np

from elite_pipeline.choices import STAGES
from elite_pipeline.config import Oracle
from elite_pipeline.datasets.classes import IGNORE, ClassTable

NOTE = (
    "An oracle: the simulated truth, corrupted to a stated accuracy. A diagnostic of what distillation could give;"
    " no teacher, and never a result of a method."
)

TOGETHER = 0.75
"""Share of the wrong points that are wrong as a whole thing or a whole cube of stuff."""

CUBE = 2.0
"""Metres: edge of the cubes, in the LiDAR frame, in which points of one class of stuff are wrong together."""

FLOOR = 0.001
"""Added to each class's share of the sequence's points, to which wrong answers are drawn in proportion: common classes
are what others are mistaken for most, and no class is never the mistake."""

NEVER = -1e4
"""Logit of class 0: as good as none, and finite in float16."""

LEAST = 1e-6
"""Least probability of a class that is not answered: keeps the logits of a perfect oracle finite."""


class Corruption:
    """What an oracle of one accuracy and seed takes the points of one sequence for."""

    def __init__(
        self,
        settings: Oracle,
        sequence: str,
        truths: Iterable[tuple[np.ndarray, np.ndarray]],
        classes: ClassTable,
    ) -> None:
        """sequence: its name, from which, with the seed, all follows that is drawn here.

        truths: (labels, instances) of the projected points of each frame, in order, all of the sequence: (N,) training
        ids and (N,) ids of things, 0 = none. A label of `IGNORE` is no truth and gets no answer.
        """
        self.settings, self.sequence = settings, sequence
        wrong = 1 - settings.accuracy
        self._together = TOGETHER * wrong
        # What is not wrong together must be wrong alone, so often that the shares add up.
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
        """(N,) int64 classes answered about N projected points of `frame` (its name), `IGNORE` where the truth is.

        points: (N, >=3) float, metres, LiDAR frame. labels, instances: as in `truths`. A point is right with the
        probability that the settings state, whatever its class.
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
        """(G,) int64 answers about groups of `sizes` (G,) points, each all of one of `classes` (G,)."""
        wrong, answers = systematic(classes, sizes, self._together, draws), classes.astype(np.int64)
        answers[wrong] = self._other_class(answers[wrong], draws)
        return answers

    def _other_class(self, classes: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """For each of `classes` (N,) another one, (N,) int64, drawn as `mistakes` says."""
        below = np.cumsum(self._mistaken_for[classes], axis=1)
        below /= below[:, -1:]  # exactly 1 at the end, so that nothing is drawn beyond it
        return (draws.random((len(classes), 1)) >= below).sum(axis=1)

    def _draws(self, *names: str) -> np.random.Generator:
        """Random numbers that depend on seed, sequence and `names` alone, not on what was drawn before."""
        return np.random.default_rng([self.settings.seed, zlib.crc32("/".join((self.sequence, *names)).encode())])


THINGS = 1 << 16
"""Ids of things are below this; the same id of two classes is two things."""


def _thing(labels: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """(N,) int64 numbers of things, class * THINGS + id; 0 for stuff and what is ignored."""
    labels, instances = labels.astype(np.int64), instances.astype(np.int64)
    return np.where((labels != IGNORE) & (instances > 0), labels * THINGS + instances, 0)


def mistakes(counts: np.ndarray) -> np.ndarray:
    """(K, K) float64: how often a class (row) is mistaken for another (column), rows summing to 1.

    counts: (K,) points of each class. Proportional to the other class's share of them plus `FLOOR`; never `IGNORE`.
    """
    likely = np.tile(counts / max(counts[IGNORE + 1 :].sum(), 1) + FLOOR, (len(counts), 1))
    likely[:, IGNORE] = 0
    np.fill_diagonal(likely, 0)
    return likely / likely.sum(axis=1, keepdims=True)


def systematic(classes: np.ndarray, sizes: np.ndarray, share: float, draws: np.random.Generator) -> np.ndarray:
    """Which of G groups are drawn: (G,) bool, each with probability `share` < 1.

    One in every 1 / `share` in the order of their class and size, from a random start: groups of alike class and size
    are drawn in that share, and so nearly are their points, although a few groups hold most of the points.
    """
    order = np.lexsort((draws.random(len(sizes)), sizes, classes))
    passed = np.floor(np.arange(len(order) + 1) * share + draws.random())
    drawn = np.empty(len(order), dtype=bool)
    drawn[order] = np.diff(passed) > 0
    return drawn


def logits(answers: np.ndarray, accuracy: float, classes: int) -> np.ndarray:
    """(N, S, K) float16 logits of (N,) int64 `answers`, the same in all stages: as sure as the oracle is right.

    log(accuracy) for the class that is answered, the rest shared by the other classes but 0; uniform for `IGNORE`.
    """
    others = classes - 2  # without `IGNORE` and the one that is answered
    of_answer = np.full((classes, classes), np.log(max((1 - accuracy) / others, LEAST)))
    np.fill_diagonal(of_answer, np.log(accuracy))
    of_answer[IGNORE] = -np.log(classes - 1)
    of_answer[:, IGNORE] = NEVER
    return np.repeat(of_answer.astype(np.float16)[answers][:, None], STAGES, axis=1)
