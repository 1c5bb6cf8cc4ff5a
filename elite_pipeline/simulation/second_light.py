"""Light of the second appearance: a low warm sun, blue shadows, hazy horizons and streaks of cloud."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.light import Light
from elite_pipeline.simulation.patterns import lattice
from elite_pipeline.simulation.ranges import Ranges


@dataclass(frozen=True)
class StreakedLight(Light):
    """`Light` whose sky has streaks of cloud along one direction, and a wide glow around the sun."""

    wind: np.ndarray
    """(2, 2) float32, rotation that makes the streaks point along the first axis."""

    def sky_colour(self, directions: np.ndarray) -> np.ndarray:
        """Linear colour (N, 3) of the sky in the directions (N, 3), unit vectors."""
        up = np.maximum(directions[:, 2], 0.0)
        share = np.sqrt(up)[:, None]
        colour = self.horizon + (self.zenith - self.horizon) * share
        plane = (directions[:, :2] / (up[:, None] + 0.2)) @ self.wind.T * np.array([1.2, 6.0], np.float32)
        streak = lattice(plane + self.drift, 1.0, np.zeros(1, np.float32))
        cloud = np.clip((streak - 1 + self.cover) / 0.5, 0, 1)[:, None] * np.minimum(1, 4 * share)
        colour = colour + (self.cloud - colour) * 0.8 * cloud
        towards = np.maximum(directions @ self.to_sun, 0)[:, None]
        return colour + self.sun * (0.10 * towards**6 + 0.5 * towards**120)


def draw_second_light(rng: np.random.Generator, ranges: Ranges) -> Light:
    """Random light for one world. Two worlds of three are sunny; the others are overcast and hazy."""
    sunny = rng.random() < 0.35 + 0.5 * np.mean(ranges.sunlight)
    elevation, azimuth = np.radians(0.65 * rng.uniform(*ranges.sun_elevation)), rng.uniform(0, 2 * np.pi)
    to_sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    clear = rng.uniform(0.75, 1.0) if sunny else rng.uniform(0.0, 0.12)
    low = 1 - np.sin(elevation)
    blue, grey, warm = np.array([0.25, 0.5, 0.95]), np.array([1.02, 1.0, 0.96]), np.array([1.25, 1.12, 0.92])
    zenith = (grey + (blue - grey) * clear) * rng.uniform(0.8, 1.2)
    horizon = (grey + (warm - grey) * clear) * rng.uniform(0.95, 1.3)
    sky = (0.62 - 0.34 * clear) * (np.array([0.98, 1.0, 1.02]) + clear * np.array([-0.28, -0.02, 0.42]))
    angle = rng.uniform(0, np.pi)
    gain = rng.uniform(*ranges.exposure) * (1 + rng.uniform(*ranges.white_balance) * np.array([1, -0.6, -0.4]))
    return StreakedLight(
        to_sun=to_sun.astype(np.float32),
        sun=(2.6 * clear * np.array([1.0, 0.92 - 0.16 * low, 0.78 - 0.34 * low])).astype(np.float32),
        sky=sky.astype(np.float32),
        ground=(0.3 * sky + 0.14 * clear * np.array([1.1, 1.0, 0.8])).astype(np.float32),
        zenith=zenith.astype(np.float32),
        horizon=horizon.astype(np.float32),
        cloud=(np.array([1.3, 1.27, 1.22]) * (0.8 + 0.3 * clear)).astype(np.float32),
        cover=float(rng.uniform(0.25, 0.75) if sunny else rng.uniform(0.8, 1.2)),
        drift=rng.uniform(0, 200, 2).astype(np.float32),
        fog=float(0.55 * rng.uniform(*ranges.fog_distance)),
        gain=gain.astype(np.float32),
        noise=float(rng.uniform(*ranges.noise)),
        wind=np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32),
    )
