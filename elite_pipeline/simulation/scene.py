"""Ray casting into a world at one instant: hit points and the surfaces there."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from elite_pipeline.simulation.ground import RAW_ID
from elite_pipeline.simulation.mesh import transformed
from elite_pipeline.simulation.site import AHEAD, BEHIND, EGO_SPEED
from elite_pipeline.simulation.world import World
from elite_pipeline.system import import_open3d

SIGHT = min(AHEAD, BEHIND) + 15.0
"""Moving things further than this from the ego vehicle are left out; metres along the street."""


@dataclass(frozen=True)
class Surfaces:
    """The H hits of N rays, in the order of the rays.

    ray: (H,) int64, row of each hit's ray. distance: (H,) float32, in units of the length of the ray's direction.
    point: (H, 3) float32, metres, world frame. normal: (H, 3) float32, unit vectors, world frame, facing the ray's
    origin. uv: (H, 2) float32, metres. material: (H,) uint8. semantic: (H,) uint16 raw ids. tint: (H, 3) float32,
    linear colour for the LiDAR. paint: (H, 3) float32, linear colour for the camera. object: (H,) int32, index into the
    world's object tables. ground: (H,) uint8, ground code + 1, or 0 off the ground.
    """

    ray: np.ndarray
    distance: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    semantic: np.ndarray
    tint: np.ndarray
    paint: np.ndarray
    object: np.ndarray
    ground: np.ndarray


def _raycaster(vertices: np.ndarray, triangles: np.ndarray, threads: int) -> Any:
    """An `open3d.t.geometry.RaycastingScene` of one mesh. Raises `InputError` where Open3D lacks a system library."""
    open3d = import_open3d()
    caster = open3d.t.geometry.RaycastingScene(nthreads=threads)
    caster.add_triangles(
        open3d.core.Tensor(np.ascontiguousarray(vertices, np.float32)),
        open3d.core.Tensor(np.ascontiguousarray(triangles, np.uint32)),
    )
    return caster


class Scene:
    """A world's geometry in Embree at one instant.

    Static geometry and moving things have a ray caster each. Raises `InputError` where Open3D lacks a system library.
    """

    def __init__(self, world: World, *, threads: int = 1) -> None:
        self.world, self.threads = world, threads
        self._standing = _raycaster(world.standing.vertices, world.standing.triangles, threads)
        self._own: dict[int, Any] = {}
        self._first = len(world.standing.triangles) + np.cumsum([0, *(len(m.mesh.triangles) for m in world.movers)])
        self._time: float | None = None
        self.set_time(0.0)

    def set_time(self, time: float) -> None:
        """Move all moving things to their places at `time`, seconds. Leave out those further away than `SIGHT`."""
        if time == self._time:
            return
        world, self._time = self.world, time
        near = [i for i, m in enumerate(world.movers) if abs(m.at(time) - EGO_SPEED * time) < SIGHT]
        movers = [world.movers[i] for i in near]
        vertices = [transformed(m.mesh.vertices, m.pose(time, world.road, world.ground)) for m in movers]
        offset = np.cumsum([0, *(len(v) for v in vertices)])
        triangles = [m.mesh.triangles + first for m, first in zip(movers, offset[:-1], strict=True)]
        self._moving = _raycaster(np.concatenate(vertices), np.concatenate(triangles), self.threads)
        self._moving_triangle = np.concatenate([np.arange(self._first[i], self._first[i + 1]) for i in near])

    def _rays(self, origins: np.ndarray, directions: np.ndarray) -> Any:
        """Rays as an `open3d.core.Tensor` (N, 6) float32: origin, direction."""
        open3d = import_open3d()
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3], rays[:, 3:] = origins, directions
        return open3d.core.Tensor.from_numpy(rays)

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> Surfaces:
        """The first surface along each ray.

        origins: (3,) or (N, 3). directions: (N, 3), of any length. Both are in the world frame.
        """
        origins, directions = np.asarray(origins, np.float32), np.asarray(directions, np.float32)
        rays = self._rays(origins, directions)
        hits = self._standing.cast_rays(rays, nthreads=self.threads)
        moving = self._moving.cast_rays(rays, nthreads=self.threads)
        distance, triangle = hits["t_hit"].numpy(), hits["primitive_ids"].numpy().astype(np.int64)
        corner, normal = hits["primitive_uvs"].numpy(), hits["primitive_normals"].numpy()
        nearer = np.flatnonzero(moving["t_hit"].numpy() < distance)
        distance[nearer] = moving["t_hit"].numpy()[nearer]
        triangle[nearer] = self._moving_triangle[moving["primitive_ids"].numpy()[nearer]]
        corner[nearer] = moving["primitive_uvs"].numpy()[nearer]
        normal[nearer] = moving["primitive_normals"].numpy()[nearer]
        ray = np.flatnonzero(np.isfinite(distance))
        origins = origins if origins.ndim == 1 else origins[ray]
        return self._surfaces(ray, origins, directions[ray], distance[ray], triangle[ray], corner[ray], normal[ray])

    def cast_over_time(self, origins: np.ndarray, directions: np.ndarray, times: np.ndarray) -> Surfaces:
        """The first surface along each ray, while things move: ray i is cast at the time `times[i]`, seconds.

        origins, directions: (N, 3), world frame. times: (N,), within about 0.2 s: things move straight ahead meanwhile.
        The time of `set_time` does not matter.
        """
        world = self.world
        origins, directions = np.asarray(origins, np.float32), np.asarray(directions, np.float32)
        hits = self._standing.cast_rays(self._rays(origins, directions), nthreads=self.threads)
        distance, triangle = hits["t_hit"].numpy(), hits["primitive_ids"].numpy().astype(np.int64)
        corner, normal = hits["primitive_uvs"].numpy(), hits["primitive_normals"].numpy()
        start, stop = float(times.min()), float(times.max())
        middle = (start + stop) / 2
        share = ((times - start) / max(stop - start, 1e-9))[:, None]
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        for index, mover in enumerate(world.movers):
            if abs(mover.at(middle) - EGO_SPEED * middle) > SIGHT:
                continue
            first, last = (mover.pose(time, world.road, world.ground) for time in (start, stop))
            if abs(first[2, 3] - last[2, 3]) > 50:
                continue  # it enters or leaves the street
            place = (first[:3, 3] + share * (last[:3, 3] - first[:3, 3])).astype(np.float32)
            away, radius = place - origins, np.linalg.norm(mover.mesh.vertices, axis=1).max()
            along = np.einsum("ij,ij->i", away, unit)
            beside = np.einsum("ij,ij->i", away, away) - along**2
            rows = np.flatnonzero((beside < radius**2) & (along > -radius))
            if not len(rows):
                continue
            turn = mover.pose(middle, world.road, world.ground)[:3, :3].astype(np.float32)
            if index not in self._own:
                self._own[index] = _raycaster(mover.mesh.vertices, mover.mesh.triangles, self.threads)
            own = self._own[index].cast_rays(self._rays(-away[rows] @ turn, directions[rows] @ turn))
            nearer = own["t_hit"].numpy() < distance[rows]
            rows, chosen = rows[nearer], {name: values.numpy()[nearer] for name, values in own.items()}
            distance[rows], corner[rows] = chosen["t_hit"], chosen["primitive_uvs"]
            triangle[rows] = self._first[index] + chosen["primitive_ids"]
            normal[rows] = chosen["primitive_normals"] @ turn.T
        ray = np.flatnonzero(np.isfinite(distance))
        return self._surfaces(
            ray, origins[ray], directions[ray], distance[ray], triangle[ray], corner[ray], normal[ray]
        )

    def _surfaces(
        self,
        ray: np.ndarray,
        origins: np.ndarray,
        directions: np.ndarray,
        distance: np.ndarray,
        triangle: np.ndarray,
        corner: np.ndarray,
        normal: np.ndarray,
    ) -> Surfaces:
        world = self.world
        normal = normal * -np.sign(np.einsum("ij,ij->i", normal, directions))[:, None]
        corners, second, third = world.uv[triangle], corner[:, :1], corner[:, 1:]
        uv = (1 - second - third) * corners[:, 0] + second * corners[:, 1] + third * corners[:, 2]
        material, semantic, tint = world.material[triangle], world.semantic[triangle], world.tint[triangle]
        on_ground = np.flatnonzero(triangle < world.ground_triangles)
        code = world.ground.code(uv[on_ground, 0], uv[on_ground, 1])
        material[on_ground] = world.ground.material[code]
        semantic[on_ground] = RAW_ID[code]
        tint[on_ground] = world.ground.tint[code]
        paint = tint
        if world.paint is not world.tint:
            paint = world.paint[triangle]
            paint[on_ground] = world.ground_paint[code]
        ground = np.zeros(len(ray), np.uint8)
        ground[on_ground] = code + 1
        return Surfaces(
            ray=ray,
            distance=distance,
            point=origins + distance[:, None] * directions,
            normal=normal,
            uv=uv,
            material=material,
            semantic=semantic,
            tint=tint,
            paint=paint,
            object=world.object[triangle],
            ground=ground,
        )

    def distance(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Distance (N,) float32 from `origin` (3,) to the first surface along `directions` (N, 3).

        Distances are in units of the length of each direction, and infinite where nothing is hit.
        """
        rays = self._rays(origin, directions)
        standing, moving = (
            c.cast_rays(rays, nthreads=self.threads)["t_hit"].numpy() for c in (self._standing, self._moving)
        )
        return np.minimum(standing, moving)

    def lit(self, points: np.ndarray, to_light: np.ndarray) -> np.ndarray:
        """(N,) bool: whether nothing blocks the light from the direction `to_light` (3,) at each of `points` (N, 3)."""
        rays = self._rays(points, np.broadcast_to(to_light, points.shape))
        blocked = [c.test_occlusions(rays, nthreads=self.threads).numpy() for c in (self._standing, self._moving)]
        return ~(blocked[0] | blocked[1])
