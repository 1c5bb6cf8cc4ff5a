"""A world under construction: its static meshes, its moving things, and the speed of the ego vehicle."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.catalogue import Catalogue, Maker
from elite_pipeline.simulation.ground import Ground
from elite_pipeline.simulation.mesh import Mesh
from elite_pipeline.simulation.road import Centreline

BEHIND, AHEAD = 90.0, 130.0
"""Length of street before the first and after the last position of the sensors, metres."""


EGO_SPEED = 8.0
"""Speed of the ego vehicle, which records the drive, metres per second."""


MOVING = {10: 252, 18: 258, 13: 257, 20: 259, 30: 254, 31: 253, 32: 255}
"""Raw id of a stationary thing -> raw id of the same thing in motion."""


@dataclass(frozen=True)
class Mover:
    """A moving thing that keeps its lane. Its mesh stands on z = 0 and faces along x.

    start: s at time 0, metres. d: position of the lane, metres to the left of the centreline.
    speed: metres per second along s, negative for oncoming things.
    """

    mesh: Mesh
    start: float
    d: float
    speed: float

    def at(self, time: float) -> float:
        """Position s, metres, at `time`, seconds."""
        return self.start + self.speed * time

    def pose(self, time: float, road: Centreline, ground: Ground) -> np.ndarray:
        """Pose world_from_object (4, 4) at `time`, seconds.

        Outside the street, the pose lies far below the ground, so that the thing is not visible.
        """
        s = self.at(time)
        gone = not road.s[0] + 6 < s < road.s[-1] - 6
        height = -500.0 if gone else float(ground.height(np.array([s]), np.array([self.d]))[0])
        return road.pose(s, self.d, height, yaw=np.pi if self.speed < 0 else 0.0, pitched=True)


class Site:
    """A world under construction: the meshes placed so far."""

    def __init__(self, catalogue: Catalogue, road: Centreline, ground: Ground) -> None:
        self.rng, self.palette = catalogue.rng, catalogue.palette
        self.catalogue, self.road, self.ground = catalogue, road, ground
        self.meshes: list[Mesh] = []
        self.details: list[np.ndarray] = []

    def put(self, mesh: Mesh, s: float, d: float, yaw: float = 0.0, *, detail: np.ndarray | None = None) -> None:
        """Place a mesh on the ground at road coordinates (s, d), turned left by `yaw` radians from the road's heading.

        detail: (4,), see `materials.textured`; zeros by default.
        """
        height = float(self.ground.height(np.array([s]), np.array([d]))[0])
        self.meshes.append(mesh.moved(self.road.pose(s, d, height, yaw=yaw)))
        self.details.append(np.zeros(4, np.float32) if detail is None else detail)

    def put_thing(self, raw: int, s: float, d: float, yaw: float) -> None:
        """Place a vehicle or a person of the raw class `raw` at (s, d)."""
        self.put(self.catalogue.thing(raw), s, d, yaw)

    def put_one(self, maker: Maker, s: float, d: float, yaw: float | None = None) -> None:
        """Place an object made by `maker` at (s, d). Without `yaw`, its heading is random."""
        self.put(self.catalogue.draw(maker), s, d, self.rng.uniform(0, 6.3) if yaw is None else yaw)
