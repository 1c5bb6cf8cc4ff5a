"""The road's centreline. It maps road coordinates (s along the road, d to the left) to the world frame."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.ranges import Ranges

Coordinate = np.ndarray | float

_STEP = 0.5
_STEEPEST_CURVE = 1 / 100  # 1/m; a tighter curve would make lots 60 m from the road overlap themselves


@dataclass(frozen=True)
class Centreline:
    """A centreline with gentle bends and slopes, sampled at `s`.

    All arrays are (S,) float64, in metres and radians, world frame.
    """

    s: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    heading: np.ndarray

    def place(self, s: Coordinate, d: Coordinate, height: Coordinate) -> np.ndarray:
        """World points (..., 3) at road coordinates (s, d) and `height` metres above the road."""
        heading = np.interp(s, self.s, self.heading)
        x = np.interp(s, self.s, self.x) - d * np.sin(heading)
        y = np.interp(s, self.s, self.y) + d * np.cos(heading)
        return np.stack(np.broadcast_arrays(x, y, np.interp(s, self.s, self.z) + height), -1)

    def warp(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) of points (N, 3) in road coordinates (s, d, height above the road)."""
        return self.place(points[:, 0], points[:, 1], points[:, 2])

    def pose(self, s: float, d: float, height: float, *, yaw: float = 0.0, pitched: bool = False) -> np.ndarray:
        """Pose world_from_object (4, 4) of an object that faces along the road, turned left by `yaw` radians.

        The object stands upright. With `pitched`, it tilts with the slope of the road, like a vehicle.
        """
        heading = float(np.interp(s, self.s, self.heading)) + yaw
        along = np.array([np.cos(heading), np.sin(heading), 0.0])
        if pitched:
            rise = float(np.interp(s + 1, self.s, self.z) - np.interp(s - 1, self.s, self.z)) / 2
            along[2] = rise * np.cos(yaw)
            along /= np.linalg.norm(along)
        left = np.array([-np.sin(heading), np.cos(heading), 0.0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([along, left, np.cross(along, left)], 1)
        pose[:3, 3] = self.place(s, d, height)
        return pose


def draw_centreline(rng: np.random.Generator, ranges: Ranges, start: float, stop: float) -> Centreline:
    """A random centreline for s in [start, stop].

    Its heading stays within the angle drawn from `ranges.turn`. The line therefore never crosses itself.
    """
    s = np.arange(start, stop + _STEP, _STEP)
    turn = np.radians(rng.uniform(*ranges.turn))
    slope = rng.uniform(*ranges.slope)
    length = np.maximum(rng.uniform(180, 420, 2), 2 * np.pi * turn / _STEEPEST_CURVE)
    phase = rng.uniform(0, 2 * np.pi, 4)
    heading = turn * (0.65 * np.sin(2 * np.pi * s / length[0] + phase[0]))
    heading += turn * (0.35 * np.sin(2 * np.pi * s / length[1] + phase[1]))
    rise = slope * (0.6 * np.sin(2 * np.pi * s / 260 + phase[2]) + 0.4 * np.sin(2 * np.pi * s / 120 + phase[3]))
    return Centreline(
        s=s,
        x=np.cumsum(np.cos(heading)) * _STEP,
        y=np.cumsum(np.sin(heading)) * _STEP,
        z=np.cumsum(rise) * _STEP,
        heading=heading,
    )
