"""A procedural world: one winding street with junctions, lots, parked vehicles and traffic."""

from dataclasses import dataclass, replace

import numpy as np

from elite_pipeline.simulation.appearance import APPEARANCES, Appearance
from elite_pipeline.simulation.catalogue import Catalogue
from elite_pipeline.simulation.ground import GRASS, Ground, draw_ground
from elite_pipeline.simulation.light import Light
from elite_pipeline.simulation.lots import draw_lots
from elite_pipeline.simulation.mesh import Mesh, join, surface
from elite_pipeline.simulation.palette import draw_palette
from elite_pipeline.simulation.ranges import Ranges
from elite_pipeline.simulation.road import Centreline, draw_centreline
from elite_pipeline.simulation.site import AHEAD, BEHIND, EGO_SPEED, MOVING, Mover, Site
from elite_pipeline.simulation.traffic import draw_movers

THINGS = frozenset((10, 11, 13, 15, 18, 20, 30, 31, 32, *MOVING.values()))
"""Raw ids of the classes whose objects have an instance id."""


@dataclass(frozen=True)
class World:
    """Everything that the sensors can see.

    The T triangles are numbered in this order: first the static ones, then those of each mover in turn.
    standing: the mesh of the static triangles in world coordinates. Its first `ground_triangles` are the ground.
    uv (T, 3, 2), material (T,), semantic (T,), tint (T, 3): as in `Mesh`. The LiDAR's remission depends on `tint`.
    paint: (T, 3) float32, the tints that the camera sees. ground_paint: (codes, 3) float32, the same of the ground.
    object: (T,) int32, index into the object tables `instance` and `detail`.
    instance: (O,) uint16, 0 for stuff. kind: names of O functions, see `Mesh`. detail: (O, 4) float32, see
    `materials.textured`.
    """

    road: Centreline
    ground: Ground
    light: Light
    appearance: Appearance
    standing: Mesh
    movers: tuple[Mover, ...]
    ground_triangles: int
    uv: np.ndarray
    material: np.ndarray
    semantic: np.ndarray
    tint: np.ndarray
    paint: np.ndarray
    ground_paint: np.ndarray
    object: np.ndarray
    instance: np.ndarray
    kind: tuple[str, ...]
    detail: np.ndarray
    lane: float
    """Position d of the ego vehicle, metres. Its s is EGO_SPEED * time."""

    def ego(self, time: float) -> np.ndarray:
        """Pose world_from_vehicle (4, 4) at `time`, seconds: on the ground; x forward, y left, z up."""
        return self.road.pose(EGO_SPEED * time, self.lane, 0.0, pitched=True)


def build_world(
    rng: np.random.Generator, ranges: Ranges, length: float, duration: float, appearance: str = "first"
) -> World:
    """A random world: `length` metres of drive for the ego vehicle, with traffic for `duration` seconds.

    appearance: a key of `APPEARANCES`. It changes light and colours, and nothing that a LiDAR measures.
    """
    palette = draw_palette(rng, ranges)
    start, stop = -BEHIND, length + AHEAD
    road = draw_centreline(rng, ranges, start, stop)
    junctions, s = [], start + rng.uniform(0.6, 1.2) * ranges.junction_spacing[0]
    while s < stop - 40:
        junctions.append((round(s, 1), round(rng.uniform(2.8, 3.8), 1)))
        s += rng.uniform(*ranges.junction_spacing)
    ground = draw_ground(rng, palette, start, stop, junctions)
    catalogue = Catalogue(rng, palette)
    site = Site(catalogue, road, ground)
    draw_lots(site, junctions)
    movers = draw_movers(catalogue, ground, length, duration)
    light = APPEARANCES["first"].light(rng, ranges)
    world = _assembled(road, ground, light, site, movers)
    if appearance == "first":
        return world
    # Random numbers of its own, so that everything else stays as in the first appearance.
    return _repainted(world, APPEARANCES[appearance], ranges, rng.spawn(1)[0])


def _repainted(world: World, appearance: Appearance, ranges: Ranges, rng: np.random.Generator) -> World:
    """The same world in another appearance."""
    light, paint, ground_paint = appearance.light(rng, ranges), world.tint, world.ground.tint
    if appearance.paint is not None:
        paint = appearance.paint(rng, world.material, world.tint, world.object)
        codes = np.arange(len(world.ground.material))
        ground_paint = appearance.paint(rng, world.ground.material, world.ground.tint, codes)
    return replace(world, appearance=appearance, light=light, paint=paint, ground_paint=ground_paint)


def _assembled(road: Centreline, ground: Ground, light: Light, site: Site, movers: tuple[Mover, ...]) -> World:
    """Combine all parts into a `World`, and number its objects and triangles."""
    base = ground.mesh(road)
    middle = road.place(road.s.mean(), 0.0, 0.0)
    corners = middle[:2] + 3000 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    plain = surface(
        np.column_stack([corners, np.full(4, road.z.min() - 6)]),
        [(0, 1, 2), (0, 2, 3)],
        "grass",
        ground.tint[GRASS],
        semantic=72,
    )
    standing = [base, plain, *site.meshes]
    every = standing + [mover.mesh for mover in movers]
    raw = np.array([0, 0, *(m.semantic[0] for m in every[2:])])
    thing = np.isin(raw, sorted(THINGS))
    tint = np.concatenate([m.tint for m in every])
    return World(
        road=road,
        ground=ground,
        light=light,
        appearance=APPEARANCES["first"],
        standing=join(standing),
        movers=movers,
        ground_triangles=len(base.triangles),
        uv=np.concatenate([m.uv for m in every]),
        material=np.concatenate([m.material for m in every]),
        semantic=np.concatenate([m.semantic for m in every]),
        tint=tint,
        paint=tint,
        ground_paint=ground.tint,
        object=np.repeat(np.arange(len(every), dtype=np.int32), [len(m.triangles) for m in every]),
        instance=np.where(thing, np.cumsum(thing), 0).astype(np.uint16),
        kind=tuple(m.kind for m in every),
        detail=np.stack([np.zeros(4), np.zeros(4), *site.details, *(np.zeros(4) for _ in movers)]).astype(np.float32),
        lane=-0.42 * ground.right.road,
    )
