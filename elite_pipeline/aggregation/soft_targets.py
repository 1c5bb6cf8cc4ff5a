"""Soft labels of a place: what a teacher said of it in all frames whose cameras saw it, carried by the vehicle's poses.

A teacher predicts classes only where its camera looks in that frame. The vehicle drives on, and sees the same place
again: from nearer, from another angle, with another camera. The poses tell which points of which scans are at the same
place. So each point gets the mean over all frames that saw its voxel, also the points behind the vehicle.

The mean is of logarithms of probabilities by default: of independent views, it is (up to a constant) the logarithm of
the probability given all of them, divided by their number. The mean of probabilities is the alternative.

What moves must not smear. Where the mean says that a voxel is a thing (a class whose objects may move), only frames of
nearly the same time count, in voxels of their own size. If none of those saw the point, the voxel must have been a
thing in several frames: a voxel that is occupied for an instant is no place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from elite_pipeline.aggregation.place import Place, placed, summed, voxel_keys
from elite_pipeline.aggregation.window import move, travelled, within
from elite_pipeline.config import AggregateTargets
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.soft_labels import decode, encode, named

SCALE = {"logarithms": 1 << 10, "probabilities": 1 << 14}
"""Sums are integers: weighted logarithms or probabilities times this. They hold 130,000 points in a voxel."""

WEIGHTS = 64
"""Weights are whole numbers of 1 / this, at least one, so that sums of values and of weights are rounded alike."""

FLOOR = -15.0
"""Least logarithm of a probability that is summed. One frame cannot exclude a class for ever."""


@dataclass(frozen=True)
class Seen:
    """The visible projected points of one frame, with the teacher's soft labels."""

    points: np.ndarray
    """(N, 3) float32 metres, LiDAR frame: all points of the scan."""
    point: np.ndarray
    """(M,) int64: which of them are visible. A point that two cameras see appears twice."""
    probabilities: Tensor
    """(M, K) float32, mean over the teacher's stages."""
    depth: np.ndarray
    """(M,) float32 metres along the camera's axis."""
    camera: np.ndarray
    """(M,) int64: index of the camera."""


@dataclass(frozen=True)
class Found:
    """The aggregated soft labels of a frame: R points."""

    point: np.ndarray
    """(R,) int64, ascending."""
    soft_label: np.ndarray
    """(R, 2T) uint8."""
    views: np.ndarray
    """(R,) uint8."""
    own: np.ndarray
    """(R,) bool."""

    @property
    def predicted(self) -> np.ndarray:
        """(R,) uint8: the most likely class."""
        return self.soft_label[:, 0]

    def mass(self, classes: int) -> np.ndarray:
        """(K,) float64: number of points per class, a sum of probabilities. classes: K."""
        return decode(torch.from_numpy(self.soft_label), classes).exp().sum(0).double().numpy()


@dataclass(frozen=True)
class _Frame:
    """What a frame adds to any voxels, computed once."""

    scan: Seen
    visible: np.ndarray
    """(M, 3) float64 metres: its visible points, in the LiDAR frame of the first scan."""
    values: np.ndarray
    """(M, K) int32: weighted logarithms or probabilities of the classes; the weight in place of `IGNORE`."""


@dataclass(frozen=True)
class _Answers:
    """What places say of the N points of a scan, written step by step."""

    soft_label: np.ndarray
    """(N, 2T) uint8."""
    views: np.ndarray
    """(N,) uint8: images that saw the voxel; 0 where none did."""
    things: np.ndarray
    """(N,) int32: frames in which the voxel was a thing."""

    @classmethod
    def none(cls, points: int, width: int) -> "_Answers":
        """Nothing is known of `points` points yet. width: 2T."""
        return cls(np.zeros((points, width), np.uint8), np.zeros(points, np.uint8), np.zeros(points, np.int32))


class Aggregation:
    """Aggregates the soft labels of one sequence, frame by frame in their order."""

    def __init__(
        self,
        settings: AggregateTargets,
        classes: ClassTable,
        world_from_lidar: np.ndarray,
        seen: Callable[[int], Seen],
    ) -> None:
        """world_from_lidar: (F, 4, 4) float64, metres. seen: frame index -> what the teacher said in that frame."""
        self.settings, self._seen, self._count = settings, seen, len(classes)
        # Relative to the first pose, so that coordinates are small whatever the world's origin is.
        self._first_from_lidar = np.linalg.inv(world_from_lidar[0]) @ world_from_lidar
        self._travelled = travelled(world_from_lidar)
        self._thing = np.isin(np.arange(len(classes)), list(classes.things))
        # Channels: the weight in place of `IGNORE`, the other classes, the images, the frames in which it was a thing.
        self._near, self._far, self._short = (Place(len(classes) + 2) for _ in range(3))
        self._loaded: dict[int, _Frame] = {}

    def found(self, f: int) -> Found:
        """The soft labels of frame index `f`: of all its points whose place a camera saw."""
        s = self.settings
        long = within(self._travelled, f, s.distance, s.frames)
        short = within(self._travelled, f, float("inf"), s.things.frames)
        move(self._near, long, lambda g: self._voxels(g, s.voxel_size))
        move(self._short, short, lambda g: self._voxels(g, s.things.voxel_size))
        if far := s.far:
            move(self._far, long, lambda g: self._voxels(g, far.voxel_size))
        self._loaded = {g: frame for g, frame in self._loaded.items() if g >= f - s.things.frames}
        scan = self._of(f).scan
        points = placed(scan.points, self._first_from_lidar[f])
        own = np.zeros(len(points), bool)
        own[scan.point] = True
        answers = _Answers.none(len(points), 2 * named(self._count))
        beyond = np.hypot(scan.points[:, 0], scan.points[:, 1]) > (far.beyond if far else np.inf)
        self._look_up(self._near, points, s.voxel_size, np.flatnonzero(~beyond), answers)
        if far:
            self._look_up(self._far, points, far.voxel_size, np.flatnonzero(beyond), answers)
        thing = self._thing[answers.soft_label[:, 0]]
        reached = (answers.views >= s.views) & (~thing | (answers.things >= s.things.seen))
        # Things: frames of nearly the same time instead, where they saw the point.
        ask = np.flatnonzero(thing | (own & ~reached))
        reached[self._look_up(self._short, points, s.things.voxel_size, ask, answers)] = True
        point = np.flatnonzero(reached)
        return Found(point, answers.soft_label[point], answers.views[point], own[point])

    def _look_up(
        self, place: Place, points: np.ndarray, voxel_size: float, ask: np.ndarray, answers: _Answers
    ) -> np.ndarray:
        """Writes what `place` knows of the points `ask` into `answers`. Returns those of `ask` that it knows.

        points: (N, 3) metres, first LiDAR frame. ask: (n,) int64, rows of `points`.
        """
        # Points of one voxel share a soft label, so each voxel is looked up, averaged and encoded once.
        keys, voxel = np.unique(voxel_keys(points[ask], voxel_size), return_inverse=True)
        rows, sums, _ = place.at(keys)
        row_of = np.full(len(keys), -1)
        row_of[rows] = np.arange(len(rows))
        row_of = row_of[voxel]
        known = ask[row_of >= 0]
        row_of = row_of[row_of >= 0]
        answers.soft_label[known] = self._mean(sums)[row_of]
        answers.views[known] = np.minimum(sums[:, -2], 255)[row_of]
        answers.things[known] = sums[row_of, -1]
        return known

    def _mean(self, sums: np.ndarray) -> np.ndarray:
        """(n, 2T) uint8: the soft labels of voxels with sums (n, K + 2)."""
        if not len(sums):
            return np.zeros((0, 2 * named(self._count)), np.uint8)
        values = torch.from_numpy(sums[:, : self._count]).float()
        mean = values / values[:, :1]  # the column of `IGNORE` holds the weight
        return encode(mean if self.settings.mean == "logarithms" else mean.clamp_min(1e-7).log()).numpy()

    def _voxels(self, g: int, voxel_size: float) -> tuple[np.ndarray, np.ndarray]:
        """What frame index `g` adds to voxels: (keys (n,), values (n, K + 2) int32)."""
        frame = self._of(g)
        keys = voxel_keys(frame.visible, voxel_size)
        voxels, sums = summed(keys, frame.values)
        images = np.zeros((len(voxels), 1), np.int32)
        for camera in np.unique(frame.scan.camera):
            images[np.searchsorted(voxels, np.unique(keys[frame.scan.camera == camera]))] += 1
        thing = self._thing[sums[:, 1:].argmax(1) + 1] if len(sums) else np.zeros(0, bool)
        return voxels, np.hstack([sums, images, thing[:, None]], dtype=np.int32)

    def _of(self, g: int) -> _Frame:
        """Frame index `g`. It is read once, also where it is asked for several times in a row."""
        if g not in self._loaded:
            scan = self._seen(g)
            visible = placed(scan.points[scan.point], self._first_from_lidar[g])
            self._loaded[g] = _Frame(scan, visible, self._values(scan))
        return self._loaded[g]

    def _values(self, scan: Seen) -> np.ndarray:
        """(M, K) int32: see `_Frame.values`."""
        s, p = self.settings, scan.probabilities
        weight = p[:, 1:].amax(1) ** s.confidence if s.confidence else torch.ones(len(p))
        if s.fade is not None:
            weight = weight * (-torch.from_numpy(scan.depth) / s.fade).exp()
        weight = (weight * WEIGHTS).round().clamp_min(1) / WEIGHTS * SCALE[s.mean]
        values = (p.log().clamp_min(FLOOR) if s.mean == "logarithms" else p) * weight[:, None]
        values[:, IGNORE] = weight
        return values.round().to(torch.int32).numpy()


def read_seen(recorded: Recorded, f: int) -> Seen:
    """The teacher's soft labels of frame index `f`, from the projection and the targets that `recorded` opened.

    Raises `InputError` where a file is damaged, or does not fit the scan.
    """
    projection = recorded.projection
    assert projection is not None
    rows = projection.frame_rows(f)
    visible = projection.read("visible", rows)
    cameras = range(len(projection.cameras))
    camera = np.repeat(cameras, [projection.rows(f, c).stop - projection.rows(f, c).start for c in cameras])
    answers = recorded.answers(f)
    probabilities = answers.teacher.exp().mean(dim=1)
    depth = projection.read("depth", rows)[visible]
    return Seen(recorded.points(f), answers.taught.numpy(), probabilities, depth, camera[visible])
