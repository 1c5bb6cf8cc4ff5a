"""Sun, sky and air of a world."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.patterns import noise
from elite_pipeline.simulation.ranges import Ranges


@dataclass(frozen=True)
class Light:
    """Illumination of a world, in linear RGB. Directions are unit vectors in the world frame.

    to_sun: (3,), direction. sun, sky, ground: (3,), light from the sun, from above, and reflected from below.
    zenith, horizon, cloud: (3,), colours of the sky. cover: cloud cover. drift: (2,), offset of the cloud pattern.
    fog: distance, metres, at which haze makes up 63 % of the colour.
    gain: (3,), exposure times white balance. noise: standard deviation of pixel noise, as a fraction of full scale.
    """

    to_sun: np.ndarray
    sun: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    cloud: np.ndarray
    cover: float
    drift: np.ndarray
    fog: float
    gain: np.ndarray
    noise: float

    def sky_colour(self, directions: np.ndarray) -> np.ndarray:
        """Linear colour (N, 3) of the sky in the directions (N, 3), unit vectors."""
        up = np.maximum(directions[:, 2], 0.0)
        share = (1 - np.exp(-4.5 * up))[:, None]
        colour = self.horizon + (self.zenith - self.horizon) * share
        plane = directions[:, :2] / (up[:, None] + 0.12) * 40 + self.drift
        puff = noise(plane, 90.0, np.zeros(1), soft=True)
        cloud = np.clip((puff - 1 + self.cover) / 0.35, 0, 1)[:, None] * np.minimum(1, 6 * share)
        colour = colour + (self.cloud - colour) * 0.85 * cloud
        towards = np.maximum(directions @ self.to_sun, 0)
        return colour + self.sun * (0.12 * towards[:, None] ** 24)


def draw_light(rng: np.random.Generator, ranges: Ranges) -> Light:
    """Random light for one world, from clear with hard sunlight to overcast."""
    elevation, azimuth = np.radians(rng.uniform(*ranges.sun_elevation)), rng.uniform(0, 2 * np.pi)
    to_sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    clear = rng.uniform(*ranges.sunlight)
    low = 1 - np.sin(elevation)
    grey, blue = np.array([0.72, 0.76, 0.82]), np.array([0.16, 0.34, 0.72])
    zenith = grey + (blue - grey) * clear * rng.uniform(0.6, 1.0)
    horizon = np.array([0.78, 0.84, 0.92]) * rng.uniform(0.85, 1.05)
    sky = 0.5 * (0.6 * zenith / zenith.mean() + 0.4) * (1.15 - 0.55 * clear)
    gain = rng.uniform(*ranges.exposure) * (1 + rng.uniform(*ranges.white_balance) * np.array([1, 0, -1]))
    return Light(
        to_sun=to_sun.astype(np.float32),
        sun=(1.7 * clear * np.array([1.0, 0.95 - 0.14 * low, 0.88 - 0.3 * low])).astype(np.float32),
        sky=sky.astype(np.float32),
        ground=(0.35 * sky + 0.12 * clear).astype(np.float32),
        zenith=zenith.astype(np.float32),
        horizon=horizon.astype(np.float32),
        cloud=(np.array([0.95, 0.95, 0.96]) * (0.75 + 0.25 * clear)).astype(np.float32),
        cover=float(1.05 - 0.75 * clear * rng.uniform(0.5, 1.0)),
        drift=rng.uniform(0, 4000, 2).astype(np.float32),
        fog=float(rng.uniform(*ranges.fog_distance)),
        gain=gain.astype(np.float32),
        noise=float(rng.uniform(*ranges.noise)),
    )
