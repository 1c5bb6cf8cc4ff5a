"""Soft labels of a place: what a teacher said of it in all frames whose cameras saw it, carried by the vehicle's poses.

A teacher predicts classes only where its camera looks in that frame. The vehicle drives on, and sees the same place
again: from nearer, from another angle, with another camera. The poses tell which points of which scans are at the same
place. So each point gets the mean over all frames that saw its voxel, also the points behind the vehicle.

The mean is of logarithms of probabilities by default: of independent views, it is (up to a constant) the logarithm of
the probability given all of them, divided by their number. The mean of probabilities is the alternative.

What moves must not smear. Where the mean says that a voxel is a thing (a class whose objects may move), only frames of
nearly the same time count, in smaller voxels. If none of those saw the point, the voxel must have been a thing in
several frames: a voxel that is occupied for an instant is no place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from elite_pipeline.aggregation.place import Place, summed, voxel_keys
from elite_pipeline.aggregation.window import move, travelled, within
from elite_pipeline.config import AggregateTargets
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.soft_labels import decode, encode, named

SCALE = 256
"""Sums are integers: weighted logarithms or probabilities times this. 2^31 / (256 * 15) > 500,000 points per voxel."""

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
        # Channels: the classes without `IGNORE`, the weight, the number of images.
        self._long, self._short = Place(len(classes) + 1), Place(len(classes) + 1)
        self._loaded: dict[int, Seen] = {}

    def found(self, f: int) -> Found:
        """The soft labels of frame index `f`: of all its points whose place a camera saw."""
        s = self.settings
        long = within(self._travelled, f, s.distance, s.frames)
        short = within(self._travelled, f, np.inf, s.things.frames)
        move(self._long, long, lambda g: self._voxels(g, s.voxel_size))
        move(self._short, short, lambda g: self._voxels(g, s.things.voxel_size))
        self._loaded = {g: seen for g, seen in self._loaded.items() if g >= f - s.things.frames}
        points = self._placed(f)
        own = np.zeros(len(points), bool)
        own[self._of(f).point] = True
        # Points of one voxel share a soft label, so each voxel is looked up, averaged and encoded once.
        keys, voxel = np.unique(voxel_keys(points, s.voxel_size), return_inverse=True)
        rows, sums, frames = self._long.at(keys)
        soft, views, enough = self._mean(sums)
        label = np.zeros((len(keys), soft.shape[1]), np.uint8)
        number = np.zeros(len(keys), np.uint8)
        label[rows], number[rows] = soft, views
        known = np.zeros(len(keys), bool)
        known[rows] = enough & ((frames >= s.things.seen) | ~self._thing[soft[:, 0]])
        thing = np.zeros(len(keys), bool)
        thing[rows] = self._thing[soft[:, 0]]
        reached, label, number = known[voxel], label[voxel], number[voxel]
        # Things: frames of nearly the same time instead, where they saw the point.
        ask = np.flatnonzero(thing[voxel] | (own & ~reached))
        keys, voxel = np.unique(voxel_keys(points[ask], s.things.voxel_size), return_inverse=True)
        rows, sums, _ = self._short.at(keys)
        soft, views, _ = self._mean(sums)
        row_of = np.full(len(keys), -1)
        row_of[rows] = np.arange(len(rows))
        row_of = row_of[voxel]
        instead = row_of >= 0
        label[ask[instead]], number[ask[instead]] = soft[row_of[instead]], views[row_of[instead]]
        reached[ask[instead]] = True
        point = np.flatnonzero(reached)
        return Found(point, label[point], number[point], own[point])

    def _mean(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Soft labels of voxels from their sums (n, K + 1).

        Returns ((n, 2T) uint8, (n,) uint8 views, (n,) bool whether enough images saw the voxel).
        """
        views = np.minimum(sums[:, -1], 255).astype(np.uint8)
        enough = sums[:, -1] >= self.settings.views
        if not len(sums):
            return np.zeros((0, 2 * named(self._count)), np.uint8), views, enough
        # Contiguous in the classes, with room for `IGNORE`.
        values = torch.from_numpy(sums[:, : self._count]).float()
        weight = values[:, :1].clamp_min(1)
        mean = values / weight
        logits = mean if self.settings.mean == "logarithms" else mean.clamp_min(1e-7).log()
        logits[:, IGNORE] = 0.0
        return encode(logits).numpy(), views, enough

    def _voxels(self, g: int, voxel_size: float) -> tuple[np.ndarray, np.ndarray]:
        """What frame index `g` adds to voxels: (keys (n,), values (n, K + 1) int32)."""
        seen, s = self._of(g), self.settings
        weight = seen.probabilities[:, 1:].amax(1) ** s.confidence if s.confidence else torch.ones(len(seen.point))
        if s.fade is not None:
            weight = weight * (-torch.from_numpy(seen.depth) / s.fade).exp()
        values = seen.probabilities
        if s.mean == "logarithms":
            values = values.log().clamp_min(FLOOR)
        values = values * weight[:, None] * SCALE
        values[:, IGNORE] = weight * SCALE  # the column of no class holds the weight
        keys = voxel_keys(self._placed(g)[seen.point], voxel_size)
        voxels, sums = summed(keys, values.round().to(torch.int32).numpy())
        images = np.zeros((len(voxels), 1), np.int32)
        for camera in np.unique(seen.camera):
            images[np.searchsorted(voxels, np.unique(keys[seen.camera == camera]))] += 1
        return voxels, np.hstack([sums, images])

    def _placed(self, f: int) -> np.ndarray:
        """(N, 3) float64 metres: the points of frame index `f` in the LiDAR frame of the first scan."""
        pose = self._first_from_lidar[f]
        # One axis at a time on contiguous memory: ten times faster than a product of (N, 3) and (3, 3).
        axes = np.ascontiguousarray(self._of(f).points[:, :3].T, np.float64)
        return np.stack([row[0] * axes[0] + row[1] * axes[1] + row[2] * axes[2] + row[3] for row in pose[:3]], axis=1)

    def _of(self, f: int) -> Seen:
        if f not in self._loaded:
            self._loaded[f] = self._seen(f)
        return self._loaded[f]


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
