"""An RGB camera: rays through pixel centres, light and shadow, haze, sensor."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.materials import textured
from elite_pipeline.simulation.raw_ids import simulated_classes
from elite_pipeline.simulation.scene import Scene, Surfaces


@dataclass(frozen=True)
class Pinhole:
    """A pinhole camera, all values in pixels.

    The ray of pixel (row, column) passes through u = column + 0.5, v = row + 0.5.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def directions(self) -> np.ndarray:
        """Ray directions (H * W, 3) float32, camera frame (x right, y down, z forward).

        Every ray has z = 1, so that distances in units of the ray are depths.
        """
        v, u = np.mgrid[: self.height, : self.width] + 0.5
        rays = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy, np.ones_like(u)], -1)
        return rays.reshape(-1, 3).astype(np.float32)


def pinhole(projection: np.ndarray, width: int, height: int) -> Pinhole:
    """The pinhole camera of a projection matrix (3, 4)."""
    return Pinhole(width, height, projection[0, 0], projection[1, 1], projection[0, 2], projection[1, 2])


@dataclass(frozen=True)
class Photograph:
    """An image and its per-pixel truth. The truth is 0 where a pixel shows the sky.

    rgb: (H, W, 3) uint8. depth: (H, W) float32, metres along the camera's z. normal: (H, W, 3) float16, camera frame.
    semantic: (H, W) uint16 raw ids. instance: (H, W) uint16. material: (H, W) uint8.
    part: (H, W) int64, a key that differs between objects and, within one object, between classes. The ground is one
    object with the keys 1 to 31.
    """

    rgb: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray
    material: np.ndarray
    part: np.ndarray


def photograph(scene: Scene, camera: Pinhole, world_from_camera: np.ndarray, rng: np.random.Generator) -> Photograph:
    """Render an image from the camera pose `world_from_camera` (4, 4)."""
    rotation = world_from_camera[:3, :3].astype(np.float32)
    rays = camera.directions() @ rotation.T
    hits = scene.cast(world_from_camera[:3, 3], rays)
    shape = (camera.height, camera.width)
    light = scene.world.light

    reach = np.linalg.norm(rays, axis=1)
    radiance = np.empty_like(rays)
    sky = np.ones(len(rays), bool)
    sky[hits.ray] = False
    radiance[sky] = light.sky_colour(rays[sky] / reach[sky, None])
    radiance[hits.ray] = shade(scene, hits, rays[hits.ray] / reach[hits.ray, None], reach[hits.ray], 1 / camera.fx)

    def spread(values: np.ndarray) -> np.ndarray:
        result = np.zeros((len(rays), *values.shape[1:]), values.dtype)
        result[hits.ray] = values
        return result.reshape(*shape, *values.shape[1:])

    return Photograph(
        rgb=scene.world.appearance.develop(radiance.reshape(*shape, 3), light, rng),
        depth=spread(hits.distance),
        normal=spread((hits.normal @ rotation).astype(np.float16)),
        semantic=spread(hits.semantic),
        instance=spread(scene.world.instance[hits.object]),
        material=spread(hits.material),
        part=spread(hits.object.astype(np.int64) * 32 + simulated_classes().of_raw(hits.semantic) + 1),
    )


def shade(scene: Scene, hits: Surfaces, directions: np.ndarray, reach: np.ndarray, pixel: float) -> np.ndarray:
    """Linear radiance (H, 3) float32 that surfaces send back along the unit vectors `directions` (H, 3).

    reach: (H,), lengths of the cast rays; `hits.distance * reach` is in metres. pixel: angle of one pixel, radians.
    """
    light = scene.world.light
    distance = hits.distance * reach
    facing = np.maximum(-np.einsum("ij,ij->i", hits.normal, directions), 0.06)
    footprint = distance * np.float32(pixel) / np.sqrt(facing)
    textures, detail = scene.world.appearance.textures, scene.world.detail[hits.object]
    albedo, gloss = textured(hits.material, hits.uv, footprint, hits.paint, detail, textures)

    slant = hits.normal @ light.to_sun
    sunny = np.flatnonzero((slant > 0) & (light.sun.max() > 0.01))
    direct = np.zeros(len(slant), np.float32)
    lifted = hits.point[sunny] + 0.015 * hits.normal[sunny] + 0.01 * light.to_sun
    direct[sunny] = slant[sunny] * scene.lit(lifted, light.to_sun)
    upward = 0.5 + 0.5 * hits.normal[:, 2:]
    radiance = albedo * (direct[:, None] * light.sun + light.ground + upward * (light.sky - light.ground))

    glossy = np.flatnonzero(gloss > 0.1)
    normal, ray = hits.normal[glossy], directions[glossy]
    mirrored = ray + 2 * facing[glossy, None] * normal
    fresnel = gloss[glossy] * (0.2 + 0.8 * (1 - facing[glossy]) ** 3)
    seen = light.sky_colour(mirrored) * np.clip(0.25 + 2.5 * mirrored[:, 2:], 0.12, 1)
    radiance[glossy] += fresnel[:, None] * (seen - radiance[glossy])

    air = np.exp(-distance / np.float32(light.fog))[:, None]
    return light.horizon + (radiance - light.horizon) * air
