"""How well two scans of a drive fit together when a pose carries one into the other."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

RANGE = 30.0
"""Points farther from the sensor are left out, metres: their gaps are wide, and a small rotation moves them far."""

OWN = 2.5
"""Points nearer to the sensor are left out, metres: they lie on the vehicle itself and move with it."""

REACH = 1.0
"""Two points farther apart do not belong to one surface, metres."""

SAMPLE = 2000
"""Number of points of a scan that are compared with the other scan."""

UPRIGHT = 0.8
"""A surface is upright (wall, pole, vehicle) if |z| of its normal is less. Ground looks alike from everywhere."""

KERNELS = (0.5, 0.3, 0.2, 0.1)
"""Width of the robust kernel in the rounds of ICP, metres. The first finds larger errors, the last is precise."""

STEPS = 5
"""Largest number of steps in each round of ICP."""

DAMPING = 0.02
"""Share of the points' weight that holds the pose where it is, so that it does not slide along a featureless wall."""


@dataclass(frozen=True)
class Fit:
    """How well a scan, carried by a pose, fits another one."""

    matched: float
    """Share of the compared points that have a point of the other scan within `REACH`."""
    gap: float
    """Third quartile of their distances to the surfaces of the other scan, metres; of upright surfaces if there are."""
    shift: float
    """Median distance, metres, by which a few steps of ICP move the points to fit better."""

    @property
    def error(self) -> float:
        """The larger of `gap` and `shift`, metres; infinity where the scans have no place in common."""
        return max(self.gap, self.shift) if self.matched >= 0.3 else float("inf")


@dataclass(frozen=True)
class ScanSurfaces:
    """The points of a scan near the sensor, and a sample of them with the normals of their surfaces."""

    points: np.ndarray
    """(N, 3) float64, metres, LiDAR frame: one in each voxel of 0.2 m."""
    sample: np.ndarray
    """(n, 3) float64: points of flat places, at most `SAMPLE`."""
    normals: np.ndarray
    """(n, 3) float64: unit normals of the sample."""
    tree: KDTree = field(repr=False)

    @classmethod
    def of(cls, scan: np.ndarray) -> Self:
        """The surfaces of a scan, (N, 3 or more) float32: x, y, z in metres, LiDAR frame."""
        scan = scan[:, :3].astype(np.float64)
        distance = np.linalg.norm(scan, axis=1)
        near = scan[(distance > OWN) & (distance < RANGE)]
        points = _thinned(near, 0.2)
        tree = KDTree(points)
        sample = np.random.default_rng(0).permutation(_thinned(near, 0.5))[: 2 * SAMPLE]
        if len(points) < 10:
            return cls(points, sample[:0], sample[:0], tree)
        distances, neighbours = tree.query(sample, 10)
        around = points[neighbours]
        around -= around.mean(axis=1, keepdims=True)
        spread, axes = np.linalg.eigh(around.transpose(0, 2, 1) @ around)
        # Flat, but no line: neighbours on one ring of the LiDAR have no normal.
        flat = (spread[:, 0] < 0.1 * spread[:, 1]) & (spread[:, 1] > 0.02 * spread[:, 2]) & (distances[:, -1] < 2)
        return cls(points, sample[flat][:SAMPLE], axes[flat][:SAMPLE, :, 0], tree)


@dataclass(frozen=True)
class _Matches:
    points: np.ndarray
    """(m, 3) float64: compared points that have a neighbour, carried by the pose."""
    normals: np.ndarray
    """(m, 3) float64: their normals."""
    offset: np.ndarray
    """(m,) float64: distance to the neighbour along the normal, metres, with its sign."""
    compared: int
    """Number of compared points, with or without neighbour."""
    compared_upright: int
    """How many of them are on upright surfaces."""

    @property
    def upright(self) -> np.ndarray:
        """(m,) bool: whether each point is on an upright surface."""
        return np.abs(self.normals[:, 2]) < UPRIGHT


def fit(a: ScanSurfaces, b: ScanSurfaces, a_from_b: np.ndarray) -> Fit:
    """How well scan `b` fits scan `a`. a_from_b: (4, 4) float64, metres: the pose to judge."""
    found = _match(a, b, a_from_b)
    matched = len(found.points) / max(1, found.compared)
    if len(found.points) < 50:
        return Fit(0.0, float("inf"), float("inf"))
    upright = found.upright if found.upright.sum() >= 20 else slice(None)
    gap = float(np.quantile(np.abs(found.offset[upright]), 0.75))
    better = align(a, b, a_from_b) @ np.linalg.inv(a_from_b)
    moved = found.points @ better[:3, :3].T + better[:3, 3] - found.points
    return Fit(matched, gap, float(np.median(np.linalg.norm(moved, axis=1))))


def align(a: ScanSurfaces, b: ScanSurfaces, a_from_b: np.ndarray) -> np.ndarray:
    """A pose (4, 4) near `a_from_b` with which scan `b` fits scan `a` better: robust point-to-plane ICP.

    Returns `a_from_b` where the scans have too little in common.
    """
    for kernel in KERNELS:
        for _ in range(STEPS):
            found = _match(a, b, a_from_b)
            if len(found.points) < 50:
                return a_from_b
            step = _step(found, kernel)
            a_from_b = step @ a_from_b
            if np.abs(step - np.eye(4)).max() < 1e-3:
                break
    return a_from_b


def likeness(a: ScanSurfaces, b: ScanSurfaces, a_from_b: np.ndarray) -> float:
    """Between 0 and 1: the share of `b`'s upright surfaces that lie on surfaces of `a`. For comparing poses.

    a_from_b: (4, 4) float64, metres.
    """
    found = _match(a, b, a_from_b)
    on_surface = 1 / (1 + (found.offset[found.upright] / KERNELS[-1]) ** 2)
    return float(on_surface.sum()) / max(20, found.compared_upright)


def _match(a: ScanSurfaces, b: ScanSurfaces, a_from_b: np.ndarray) -> _Matches:
    """Nearest points in `a` of the sample of `b` that is in range."""
    points = b.sample @ a_from_b[:3, :3].T + a_from_b[:3, 3]
    normals = b.normals @ a_from_b[:3, :3].T
    near = np.linalg.norm(points, axis=1) < RANGE
    points, normals = points[near], normals[near]
    distance, neighbour = a.tree.query(points, distance_upper_bound=REACH)
    has = np.isfinite(distance)
    offset = np.einsum("ni,ni->n", normals[has], a.points[neighbour[has]] - points[has])
    return _Matches(points[has], normals[has], offset, len(points), int((np.abs(normals[:, 2]) < UPRIGHT).sum()))


def _step(found: _Matches, kernel: float) -> np.ndarray:
    """(4, 4) float64: one weighted Gauss-Newton step. kernel: width of the Geman-McClure kernel, metres."""
    weight = 1 / (1 + (found.offset / kernel) ** 2) ** 2
    ground = ~found.upright
    # Together, the ground weighs no more than what stands on it.
    weight[ground] *= min(1.0, (~ground).sum() / max(1, ground.sum()))
    jacobian = np.column_stack([np.cross(found.points, found.normals), found.normals])
    normal = (jacobian * weight[:, None]).T @ jacobian
    held = DAMPING * (weight.sum() + 1) * np.array([100, 100, 100, 1, 1, 1])  # metres per radian, squared, at 10 m
    solved = np.linalg.solve(normal + np.diag(held), (jacobian * weight[:, None]).T @ found.offset)
    step = np.eye(4)
    step[:3, :3], step[:3, 3] = Rotation.from_rotvec(solved[:3]).as_matrix(), solved[3:]
    return step


def _thinned(points: np.ndarray, voxel: float) -> np.ndarray:
    """The first point in each voxel, in the order of the voxels. points: (N, 3) float64, metres, within `RANGE`."""
    cells = np.floor((points + RANGE) / voxel).astype(np.int64)
    count = int(2 * RANGE / voxel) + 1
    return points[np.unique((cells[:, 0] * count + cells[:, 1]) * count + cells[:, 2], return_index=True)[1]]
