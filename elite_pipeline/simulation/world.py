"""A procedural world: one winding street with its junctions, lots, parked things and traffic."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.catalogue import Catalogue, Maker
from elite_pipeline.simulation.ground import GRASS, Ground, draw_ground
from elite_pipeline.simulation.light import Light, draw_light
from elite_pipeline.simulation.mesh import Mesh, join, surface
from elite_pipeline.simulation.palette import draw_palette
from elite_pipeline.simulation.ranges import Ranges
from elite_pipeline.simulation.road import Centreline, draw_centreline

BEHIND, AHEAD = 90.0, 130.0
"""Metres of street before the first and after the last position of the sensors."""

EGO_SPEED = 8.0
"""Metres per second that the recording vehicle drives."""

MOVING = {10: 252, 18: 258, 13: 257, 20: 259, 30: 254, 31: 253, 32: 255}
"""Raw id of a standing thing -> raw id of the same thing in motion."""

THINGS = frozenset((10, 11, 13, 15, 18, 20, 30, 31, 32, *MOVING.values()))
"""Raw ids that carry an instance id."""


@dataclass(frozen=True)
class Mover:
    """Something that keeps its lane: its mesh stands on z = 0 and looks along x.

    start: s at time 0, metres. d: lane, metres to the left. speed: metres per second along s, negative when oncoming.
    """

    mesh: Mesh
    start: float
    d: float
    speed: float

    def at(self, time: float) -> float:
        """Its s, metres, at `time`, seconds."""
        return self.start + self.speed * time

    def pose(self, time: float, road: Centreline, ground: Ground) -> np.ndarray:
        """world_from_object (4, 4) at `time`, seconds; far below the ground once it has left the street."""
        s = self.at(time)
        gone = not road.s[0] + 6 < s < road.s[-1] - 6
        height = -500.0 if gone else float(ground.height(np.array([s]), np.array([self.d]))[0])
        return road.pose(s, self.d, height, yaw=np.pi if self.speed < 0 else 0.0, pitched=True)


@dataclass(frozen=True)
class World:
    """Everything that sensors can see. Triangles are numbered: first those that stand still, then the movers' in turn.

    standing: the mesh in world coordinates, of S of the T triangles; the first `ground_triangles` are the ground.
    uv (T, 3, 2), material (T,), semantic (T,), tint (T, 3): as in `Mesh`. object: (T,) int32 into the object tables.
    instance: (O,) uint16, 0 for stuff. detail: (O, 4) float32, see `materials.textured`.
    """

    road: Centreline
    ground: Ground
    light: Light
    standing: Mesh
    movers: tuple[Mover, ...]
    ground_triangles: int
    uv: np.ndarray
    material: np.ndarray
    semantic: np.ndarray
    tint: np.ndarray
    object: np.ndarray
    instance: np.ndarray
    detail: np.ndarray
    lane: float
    """The ego vehicle's d, metres; it is at s = EGO_SPEED * time."""

    def ego(self, time: float) -> np.ndarray:
        """world_from_vehicle (4, 4) at `time` in seconds: on the ground, x forward, y left, z up."""
        return self.road.pose(EGO_SPEED * time, self.lane, 0.0, pitched=True)


class Site:
    """A world under construction: what has been put up so far."""

    def __init__(self, catalogue: Catalogue, road: Centreline, ground: Ground):
        self.rng, self.palette = catalogue.rng, catalogue.palette
        self.catalogue, self.road, self.ground = catalogue, road, ground
        self.meshes: list[Mesh] = []
        self.details: list[np.ndarray] = []

    def put(self, mesh: Mesh, s: float, d: float, yaw: float = 0.0, *, detail: np.ndarray | None = None) -> None:
        """Stand a mesh on the ground at road coordinates, turned left by `yaw` radians against the road."""
        height = float(self.ground.height(np.array([s]), np.array([d]))[0])
        self.meshes.append(mesh.moved(self.road.pose(s, d, height, yaw=yaw)))
        self.details.append(np.zeros(4, np.float32) if detail is None else detail)

    def put_thing(self, raw: int, s: float, d: float, yaw: float) -> None:
        """Stand a vehicle or a person of the raw class `raw` there."""
        self.put(self.catalogue.thing(raw), s, d, yaw)

    def put_one(self, maker: Maker, s: float, d: float, yaw: float | None = None) -> None:
        """Stand one of what `maker` makes there, turned anyhow unless `yaw` is given."""
        self.put(self.catalogue.draw(maker), s, d, self.rng.uniform(0, 6.3) if yaw is None else yaw)


def build_world(rng: np.random.Generator, ranges: Ranges, length: float, duration: float) -> World:
    """A world in which the ego vehicle may drive `length` metres, with traffic for `duration` seconds."""
    from elite_pipeline.simulation.lots import draw_lots
    from elite_pipeline.simulation.traffic import draw_movers

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
    return _assembled(road, ground, draw_light(rng, ranges), site, movers)


def _assembled(road: Centreline, ground: Ground, light: Light, site: Site, movers: tuple[Mover, ...]) -> World:
    """Number objects and triangles."""
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
    return World(
        road=road,
        ground=ground,
        light=light,
        standing=join(standing),
        movers=movers,
        ground_triangles=len(base.triangles),
        uv=np.concatenate([m.uv for m in every]),
        material=np.concatenate([m.material for m in every]),
        semantic=np.concatenate([m.semantic for m in every]),
        tint=np.concatenate([m.tint for m in every]),
        object=np.repeat(np.arange(len(every), dtype=np.int32), [len(m.triangles) for m in every]),
        instance=np.where(thing, np.cumsum(thing), 0).astype(np.uint16),
        detail=np.stack([np.zeros(4), np.zeros(4), *site.details, *(np.zeros(4) for _ in movers)]).astype(np.float32),
        lane=-0.42 * ground.right.road,
    )
