"""A spinning LiDAR."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from elite_pipeline.simulation.materials import ID, REMISSION, ROUGHNESS
from elite_pipeline.simulation.scene import Scene, Surfaces


@dataclass(frozen=True)
class Lidar:
    """A sensor with `beams` x `columns` rays. Angles are in degrees above the horizon, lengths in metres."""

    beams: int = 64
    columns: int = 2048
    highest: float = 2.0
    lowest: float = -24.8
    nearest: float = 1.5
    farthest: float = 100.0
    range_noise: float = 0.015
    dropout: float = 0.03

    def directions(self) -> np.ndarray:
        """Ray directions (beams * columns, 3) float32, unit vectors, velodyne frame.

        The order is ring by ring from the top. Each ring turns left.
        """
        elevation = np.radians(np.linspace(self.highest, self.lowest, self.beams))[:, None]
        azimuth = np.arange(self.columns) * 2 * np.pi / self.columns
        x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
        return np.stack(np.broadcast_arrays(x, y, np.sin(elevation)), -1).reshape(-1, 3).astype(np.float32)

    def column(self, ray: np.ndarray) -> np.ndarray:
        """The column of each row of `directions`."""
        return ray % self.columns


@dataclass(frozen=True)
class Scan:
    """One turn of the sensor: N returns in the order of the rays, velodyne frame.

    points: (N, 4) float32: x, y, z in metres, remission in [0, 1]. semantic: (N,) uint16 raw ids.
    instance: (N,) uint16. surface: (N, 3) float32, metres: the true points on the surfaces, without range noise.
    ray: (N,) int64, row of each point's ray in `Lidar.directions`.
    """

    points: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray
    surface: np.ndarray
    ray: np.ndarray


def scan(scene: Scene, lidar: Lidar, world_from_velodyne: np.ndarray, rng: np.random.Generator) -> Scan:
    """Simulate one turn of the sensor at the pose `world_from_velodyne` (4, 4).

    Adds range noise, drops returns, and computes remission from the material and the angle of incidence.
    """
    rays = lidar.directions()
    directions = rays @ world_from_velodyne[:3, :3].T.astype(np.float32)
    return _returns(scene, lidar, directions, scene.cast(world_from_velodyne[:3, 3], directions), rng)


def scan_over_time(
    scene: Scene, lidar: Lidar, poses: np.ndarray, times: np.ndarray, reference: np.ndarray, rng: np.random.Generator
) -> Scan:
    """Simulate one turn of the sensor that takes time: column c is measured at the pose `poses[c]`, at `times[c]`.

    poses: (columns, 4, 4) world_from_velodyne. times: (columns,), seconds. reference: (4, 4) world_from_velodyne at the
    scan's time stamp.

    The points are written in the sensor's frame at the reference, after compensation of the vehicle's own motion, as in
    KITTI's odometry scans. What stands still is therefore where it is. What moves is smeared: each of its points is
    where it was when the laser hit it. The compensation is exact, also where the recorded poses are wrong
    (`noise.poses`).
    """
    column = lidar.column(np.arange(lidar.beams * lidar.columns))
    directions = np.einsum("nij,nj->ni", poses[column, :3, :3].astype(np.float32), lidar.directions())
    hits = scene.cast_over_time(poses[column, :3, 3], directions, times[column])
    turn = _returns(scene, lidar, directions, hits, rng)
    motion = (np.linalg.inv(reference) @ poses)[lidar.column(turn.ray)]
    points, surface = (
        (np.einsum("nij,nj->ni", motion[:, :3, :3], place) + motion[:, :3, 3]).astype(np.float32)
        for place in (turn.points[:, :3], turn.surface)
    )
    return replace(turn, points=np.column_stack([points, turn.points[:, 3]]), surface=surface)


def column_times(lidar: Lidar, time: float, seconds: float) -> np.ndarray:
    """When each column is measured, (columns,) seconds, in a turn of `seconds` around the time stamp `time`.

    The turn begins and ends behind the vehicle. At `time` the sensor looks straight ahead, as at KITTI's time stamps.
    """
    turn = np.arange(lidar.columns) / lidar.columns
    return time + seconds * ((turn + 0.5) % 1.0 - 0.5)


def column_poses(pose_at: Callable[[float], np.ndarray], times: np.ndarray, seconds: float) -> np.ndarray:
    """Poses (columns, 4, 4) of the sensor at `times` (columns,), seconds, in a turn of `seconds`.

    pose_at: time -> world_from_lidar (4, 4).
    """
    # A pose every hundredth of a second; between two of them the vehicle moves straight ahead.
    knots = np.linspace(times.min(), times.max(), 2 + int(100 * seconds))
    entries = np.stack([pose_at(knot).ravel() for knot in knots], 1)
    return np.stack([np.interp(times, knots, entry) for entry in entries], 1).reshape(-1, 4, 4)


def _returns(scene: Scene, lidar: Lidar, directions: np.ndarray, hits: Surfaces, rng: np.random.Generator) -> Scan:
    """The returns from `hits` along the rays `directions` (N, 3), world frame. Points are in the frame of their ray."""
    rays, count = lidar.directions(), len(hits.ray)
    incidence = np.abs(np.einsum("ij,ij->i", hits.normal, directions[hits.ray]))

    # Remission differs between objects of one material, and from point to point on a surface. Remission alone must not
    # identify a class.
    own = 0.75 + 0.5 * ((hits.object * 40503 + hits.material * np.int32(977)) % 1024).astype(np.float32) / 1024
    brightness = hits.tint.mean(1)
    remission = REMISSION[hits.material] * own * (0.7 + 0.6 * brightness) * (0.35 + 0.65 * incidence)
    remission = remission * np.exp(rng.normal(0, 0.16, count).astype(np.float32))

    lost = lidar.dropout + np.where(hits.material == ID["glass"], 0.55, 0.0)
    lost = lost + 0.9 * np.clip(1 - remission * incidence / (0.012 * (hits.distance / 60) ** 2 + 1e-9), 0, 1)
    kept = (rng.random(count) > lost) & (hits.distance > lidar.nearest) & (hits.distance < lidar.farthest)
    noise = rng.normal(size=count).astype(np.float32) * np.hypot(lidar.range_noise, ROUGHNESS[hits.material])
    kept &= hits.distance + noise > lidar.nearest

    direction, distance = rays[hits.ray[kept]], hits.distance[kept]
    points = np.empty((len(distance), 4), np.float32)
    points[:, :3] = direction * (distance + noise[kept])[:, None]
    points[:, 3] = np.round(np.clip(remission[kept], 0, 1), 2)
    return Scan(
        points=points,
        semantic=hits.semantic[kept],
        instance=scene.world.instance[hits.object[kept]],
        surface=direction * distance[:, None],
        ray=hits.ray[kept],
    )
