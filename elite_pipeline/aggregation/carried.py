"""Labels of a place: those of the labelled scans, carried by the vehicle's poses to the points of the other scans.

No teacher has a part in it. The points of the labelled scans around a scan vote for the class of their voxel. A point
of an unlabelled scan gets the class with the most votes in its voxel. Its confidence is the share of these votes.

What moves must not smear. Where the votes say that a voxel is a thing (a class whose objects may move), only labelled
scans of nearly the same time count, in voxels of their own size. A point in whose voxel none of those saw anything gets
no label.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from elite_pipeline.aggregation.place import Place, placed, voxel_keys
from elite_pipeline.aggregation.window import move, travelled, within
from elite_pipeline.config import CarryLabels
from elite_pipeline.datasets.classes import IGNORE, ClassTable

MOST = 255
"""Largest number of scans that is stored, and the confidence that is stored for a share of 1."""

Read = Callable[[int], np.ndarray]
"""Frame index -> an array with one row per point of its scan."""


@dataclass(frozen=True)
class Voted:
    """The labels that votes gave to R points of a scan."""

    point: np.ndarray
    """(R,) int64, ascending."""
    label: np.ndarray
    """(R,) uint8 training ids, never `IGNORE`. Of classes with equal votes, the one with the smaller id."""
    confidence: np.ndarray
    """(R,) uint8: share of the votes that are for the label; 255 means all of them."""
    scans: np.ndarray
    """(R,) uint8: number of labelled scans that saw the place; 255 means 255 or more."""


class Carrier:
    """Carries the labels of one sequence to its unlabelled scans, frame by frame in their order."""

    def __init__(
        self,
        settings: CarryLabels,
        classes: ClassTable,
        world_from_lidar: np.ndarray,
        labelled: np.ndarray,
        *,
        points: Read,
        labels: Read,
    ) -> None:
        """world_from_lidar: (F, 4, 4) float64, metres. labelled: (F,) bool.

        points: frame index -> (N, 3 or more) float32, metres, LiDAR frame. labels: frame index -> (N,) training ids; it
        is called for labelled frames only.
        """
        self.settings, self._count, self._labelled = settings, len(classes), labelled
        self._points, self._labels = points, labels
        # Relative to the first pose, so that coordinates are small whatever the world's origin is.
        self._first_from_lidar = np.linalg.inv(world_from_lidar[0]) @ world_from_lidar
        self._travelled = travelled(world_from_lidar)
        self._thing = np.isin(np.arange(len(classes)), list(classes.things))
        self._long, self._short = Place(len(classes)), Place(len(classes))

    def voted(self, f: int) -> Voted:
        """The labels that frame index `f` gets. A labelled scan gets none: it has its own."""
        if self._labelled[f]:
            return _none()
        s = self.settings
        self._move(self._long, within(self._travelled, f, s.distance, s.frames), s.voxel_size)
        self._move(self._short, within(self._travelled, f, s.distance, s.things.frames), s.things.voxel_size)
        if not len(self._long):
            return _none()
        points = placed(self._points(f), self._first_from_lidar[f])
        label, confidence, scans = _votes(self._long, points, s.voxel_size)
        things = np.flatnonzero(self._thing[label])
        nearby = _votes(self._short, points[things], s.things.voxel_size)
        for array, values in zip((label, confidence, scans), nearby, strict=True):
            array[things] = values
        point = np.flatnonzero(label != IGNORE)
        return Voted(point, label[point], confidence[point], scans[point])

    def _move(self, place: Place, window: range, voxel_size: float) -> None:
        move(place, [g for g in window if self._labelled[g]], lambda g: self._ballot(g, voxel_size))

    def _ballot(self, g: int, voxel_size: float) -> tuple[np.ndarray, np.ndarray]:
        """The votes of labelled frame index `g`: (keys of voxels (n,), votes (n, K) int32)."""
        labels = self._labels(g).astype(np.int64)
        known = labels != IGNORE
        points = placed(self._points(g)[known], self._first_from_lidar[g])
        keys, voxel = np.unique(voxel_keys(points, voxel_size), return_inverse=True)
        votes = np.bincount(voxel * self._count + labels[known], minlength=len(keys) * self._count)
        return keys, votes.reshape(-1, self._count).astype(np.int32)


def _votes(place: Place, points: np.ndarray, voxel_size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the votes of `place` say of `points` (N, 3): label, confidence and scans as in `Voted`, all (N,) uint8.

    A point in whose voxel nobody voted gets `IGNORE`.
    """
    # Points of one voxel have the same votes, so each voxel is looked up once.
    keys, voxel = np.unique(voxel_keys(points, voxel_size), return_inverse=True)
    rows, votes, scans = place.at(keys)
    found = np.zeros((3, len(keys)), np.uint8)
    found[0, rows] = votes.argmax(1)
    found[1, rows] = np.rint(MOST * votes.max(1, initial=0) / np.maximum(votes.sum(1), 1))
    found[2, rows] = np.minimum(scans, MOST)
    label, confidence, number = found[:, voxel]
    return label, confidence, number


def _none() -> Voted:
    return Voted(np.zeros(0, np.int64), *(np.zeros(0, np.uint8) for _ in range(3)))
