"""Views of randomised worlds with dense ground truth. The image encoder is pre-trained on them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from elite_pipeline.simulation.camera import Photograph, Pinhole, photograph
from elite_pipeline.simulation.nuscenes_rig import NuScenesIds
from elite_pipeline.simulation.ranges import RANDOM_RANGES, Ranges
from elite_pipeline.simulation.road import Centreline
from elite_pipeline.simulation.scene import Scene
from elite_pipeline.simulation.site import EGO_SPEED
from elite_pipeline.simulation.world import World, build_world

_STREAM = 0x51E35
"""Spawn key of the random generator. It makes these worlds differ from the drives' worlds, whatever the seeds are."""

_CAMERA_FROM_FORWARD = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])


@dataclass(frozen=True)
class RenderedView:
    """One image and its ground truth. In every map, 0 is sky.

    rgb: (H, W, 3) uint8. material: (H, W) uint8, index into `MATERIALS`. normal: (H, W, 3) float16, unit, camera frame.
    depth: (H, W) float32, metres along the camera's z. semantic: (H, W) uint16 raw ids.
    region: (H, W) uint16, class-agnostic regions, numbered from 1. A region is a whole thing, the part of an object
    that has one class, or a connected piece of one ground class.
    height: (H, W) float32, metres above the nearest point of the centreline.
    extent: (H, W, 2) float32, metres, of the visible part of the pixel's region: the height of its highest point above
    the road, and its length along the ground.
    nuscenes: (H, W) uint8, raw ids of nuScenes.
    camera, world_from_camera ((4, 4) float64, metres): what took the image, and from where.
    """

    rgb: np.ndarray
    material: np.ndarray
    normal: np.ndarray
    depth: np.ndarray
    region: np.ndarray
    height: np.ndarray
    extent: np.ndarray
    semantic: np.ndarray
    nuscenes: np.ndarray
    camera: Pinhole
    world_from_camera: np.ndarray


def random_view(seed: int, width: int, height: int) -> RenderedView:
    """One view, `width` x `height` pixels, of the randomised world with this seed."""
    return next(random_views(seed, 1, width, height))


def random_views(
    seed: int,
    views: int,
    width: int,
    height: int,
    *,
    ranges: Ranges = RANDOM_RANGES,
    appearance: str = "first",
    threads: int = 1,
) -> Iterator[RenderedView]:
    """Render `views` views of the randomised world with this seed, along its street and at different times.

    Building a world costs as much as several views, so render four or more views of each world.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,)))
    length = 12.0 * views
    world = build_world(rng, ranges, length, length / EGO_SPEED, appearance)
    scene, ids = Scene(world, threads=threads), NuScenesIds(world)
    for index in range(views):
        scene.set_time((12.0 * index + rng.uniform(0, 6)) / EGO_SPEED)
        camera, pose = _draw_camera(rng, world, ranges, 12.0 * index / EGO_SPEED, width, height)
        while not _is_free(scene, pose[:3, 3]):
            camera, pose = _draw_camera(rng, world, ranges, 12.0 * index / EGO_SPEED, width, height)
        yield _view(photograph(scene, camera, pose, rng), camera, pose, world.road, ids)


def _draw_camera(
    rng: np.random.Generator, world: World, ranges: Ranges, time: float, width: int, height: int
) -> tuple[Pinhole, np.ndarray]:
    """A random camera, and its pose world_from_camera (4, 4).

    It is at most 6 metres ahead of the ego vehicle's place at `time`, seconds.
    """
    time += rng.uniform(0, 6) / EGO_SPEED
    focal = width / 2 / np.tan(np.radians(rng.uniform(*ranges.horizontal_fov)) / 2)
    pitch, yaw = np.radians(rng.uniform(*ranges.camera_pitch)), np.radians(rng.uniform(*ranges.camera_yaw))
    cos, sin = np.cos([pitch, yaw]), np.sin([pitch, yaw])
    turn = np.array([[cos[1], -sin[1], 0], [sin[1], cos[1], 0], [0, 0, 1]])
    tilt = np.array([[cos[0], 0, -sin[0]], [0, 1, 0], [sin[0], 0, cos[0]]])
    place = np.eye(4)
    place[:3, :3] = turn @ tilt @ _CAMERA_FROM_FORWARD.T
    place[1:3, 3] = rng.uniform(*ranges.camera_lateral), rng.uniform(*ranges.camera_height)
    return Pinhole(width, height, focal, focal, width / 2, height / 2), world.ego(time) @ place


def _is_free(scene: Scene, place: np.ndarray) -> bool:
    """Whether one metre around `place` (3,) is free, for example of a vehicle in the other lane."""
    turn = np.arange(24) * np.pi / 12
    around = np.stack([np.cos(turn), np.sin(turn), np.repeat([0.0, -0.5], 12)], 1)
    return bool(scene.distance(place, around).min() > 1.0)


def _view(
    picture: Photograph, camera: Pinhole, world_from_camera: np.ndarray, road: Centreline, ids: NuScenesIds
) -> RenderedView:
    region = regions(picture)
    points = camera.directions().reshape(*picture.depth.shape, 3) * picture.depth[..., None]
    points = points @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]
    solid = picture.depth > 0
    height = np.zeros(picture.depth.shape, np.float32)
    _, nearest = KDTree(np.stack([road.x, road.y], 1)).query(points[solid][:, :2])
    height[solid] = points[solid][:, 2] - road.z[nearest]
    return RenderedView(
        rgb=picture.rgb,
        material=picture.material,
        normal=picture.normal,
        depth=picture.depth,
        region=region,
        height=height,
        extent=_extent(region, points[..., :2], height),
        semantic=picture.semantic,
        nuscenes=ids.raw(picture.semantic, picture.instance),
        camera=camera,
        world_from_camera=world_from_camera,
    )


def _extent(region: np.ndarray, ground: np.ndarray, height: np.ndarray) -> np.ndarray:
    """`RenderedView.extent`. ground: (H, W, 2), horizontal world coordinates (x, y) of the pixels, metres."""
    ids = np.arange(region.max() + 1)
    top = ndimage.maximum(height, region, ids)
    low, high = (
        np.stack([limit(ground[..., k], region, ids) for k in range(2)]) for limit in (ndimage.minimum, ndimage.maximum)
    )
    sizes = np.stack([top, np.hypot(*(high - low))], 1).astype(np.float32)
    sizes[0] = 0
    return sizes[region]


def regions(picture: Photograph) -> np.ndarray:
    """Class-agnostic regions (H, W) uint16 of a photograph, numbered from 1. The sky is 0."""
    thing = picture.instance > 0
    key = np.where(thing, -picture.instance.astype(np.int64), picture.part)
    ground = (picture.part > 0) & (picture.part < 32)
    for part in np.unique(picture.part[ground]):
        # One ground class may lie in several places: two separate sidewalks are two regions.
        pieces = np.asarray(ndimage.label(picture.part == part)[0])  # type: ignore[index]
        key = np.where(pieces > 0, -(int(part) << 20) - pieces, key)
    solid = picture.depth > 0
    region = np.zeros(key.shape, np.uint16)
    region[solid] = np.unique(key[solid], return_inverse=True)[1] + 1
    return region
