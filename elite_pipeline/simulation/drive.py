"""Writes a simulated sequence in SemanticKITTI's layout, plus dense truth that no real data set has."""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from elite_pipeline.config import SensorNoise, SimulateDrive
from elite_pipeline.marker import replacing
from elite_pipeline.progress import progress
from elite_pipeline.simulation.calibration import (
    SENSOR_HEIGHT,
    Calibration,
    kitti_calibration,
    numbers,
    surround_calibration,
)
from elite_pipeline.simulation.camera import Photograph, photograph, pinhole
from elite_pipeline.simulation.lidar import Lidar, Scan, column_poses, column_times, scan, scan_over_time
from elite_pipeline.simulation.noise import misjudged_calibration, misjudged_labels, misjudged_poses
from elite_pipeline.simulation.ranges import WORLDS
from elite_pipeline.simulation.scene import Scene
from elite_pipeline.simulation.site import EGO_SPEED
from elite_pipeline.simulation.world import World, build_world

AHEAD = {"image_2": "P2"}
SURROUND = {**AHEAD, "image_0": "P0", "image_1": "P1", "image_3": "P3"}
"""Image folder -> camera that takes the images."""

TOLERANCE = 0.05
"""Tolerance of the visibility test, metres; 1 % of the point's distance is added.

A point still counts as visible if the camera's ray ends this much before it.
"""


def drive_world(sequence: str, settings: SimulateDrive) -> tuple[World, np.random.Generator]:
    """The world of (seed, sequence), and the random generator of the sensors."""
    seeds = drive_seeds(sequence, settings)
    rng, length = np.random.default_rng(seeds[0]), settings.frames * settings.spacing
    world = build_world(rng, WORLDS[settings.world], length, length / EGO_SPEED, settings.appearance)
    return world, np.random.default_rng(seeds[1])


def drive_seeds(sequence: str, settings: SimulateDrive) -> list[np.random.SeedSequence]:
    """Seeds of a drive: of its world, its sensors, and the errors that the pipeline does not know of."""
    # A two-digit sequence is its own number. Any other name gets a number of 100 or more from its checksum.
    number = int(sequence) if re.fullmatch("[0-9]{2}", sequence) else 100 + zlib.crc32(sequence.encode())
    return np.random.SeedSequence([settings.seed, number]).spawn(3)


def write_drive(folder: Path, sequence: str, settings: SimulateDrive) -> None:
    """Simulate the drive `sequence` into `folder`. The folder appears only when it is complete.

    The files are first written to `<folder>.partial`. Raises `InputError` where one of the two folders may hold real
    recordings (see `refuse_recordings`).

    With `settings.noise`, `calib.txt`, `poses.txt` and `labels/` hold wrong values. The right ones are in `truth/`.
    `truth/<images>/times.txt` holds the times of the camera's shutter. Dense truth and visibility are always right.
    """
    with replacing(folder, "simulate_drive", about(sequence, settings)) as partial:
        _write_files(partial, sequence, settings)


def about(sequence: str, settings: SimulateDrive) -> dict[str, Any]:
    """The content of a drive's marker file: what determines the drive."""
    return {"sequence": sequence, "settings": settings.model_dump(mode="json")}


def _write_files(partial: Path, sequence: str, settings: SimulateDrive) -> None:
    cameras = SURROUND if settings.surround else AHEAD
    kinds = ("semantic", "instance", "visible")
    truth = [f"truth/{images}/{kind}" for images in cameras for kind in kinds]
    for name in ("velodyne", "labels", *cameras, *truth):
        (partial / name).mkdir(parents=True)

    noise = settings.noise or SensorNoise()
    # One generator for each kind of error, so that one kind can be switched on without changing another.
    errors = [np.random.default_rng(seed) for seed in drive_seeds(sequence, settings)[2].spawn(4)]
    world, rng = drive_world(sequence, settings)
    scene = Scene(world)
    calibration = rig(settings)
    times = np.arange(settings.frames) * settings.spacing / EGO_SPEED
    shutters = times[:, None] + errors[0].normal(0, noise.camera_time, (len(times), len(cameras)))
    turns = []
    for frame, time in enumerate(progress(times, label=f"simulate_drive {sequence}")):
        view = Instant(scene, calibration, cameras, time, shutters[frame])
        pictures = view.photographs(rng)
        turns.append(view.turn(settings, rng))
        _write_scan(partial, f"{frame:06d}", turns[-1])
        for images, visible in view.visible(turns[-1]).items():
            _write_image(partial, images, f"{frame:06d}", pictures[images], visible)

    poses = np.stack([velodyne_pose(world, time) for time in times])
    (partial / "times.txt").write_text("".join(f"{time:.6e}\n" for time in times))
    _write_geometry(partial, calibration, poses)
    if settings.noise is not None:
        _write_geometry(partial / "truth", calibration, poses)
        wrong = misjudged_calibration(errors[1], calibration, noise.calibration)
        _write_geometry(partial, wrong, misjudged_poses(errors[2], poses, noise.poses))
        (partial / "labels").rename(partial / "truth" / "labels")
        (partial / "labels").mkdir()
        for frame, labels in enumerate(misjudged_labels(errors[3], turns, poses, noise.labels)):
            labels.tofile(partial / "labels" / f"{frame:06d}.label")
        for number, images in enumerate(cameras):
            lines = "".join(f"{time:.6e}\n" for time in shutters[:, number])
            (partial / "truth" / images / "times.txt").write_text(lines)


def rig(settings: SimulateDrive) -> Calibration:
    """The true calibration of a drive's cameras."""
    size = (settings.image_width, settings.image_height)
    return surround_calibration(*size, settings.apart) if settings.surround else kitti_calibration(*size)


@dataclass(frozen=True)
class Instant:
    """What the sensors record at one time stamp. shutters: (cameras,), seconds, when each camera takes its image."""

    scene: Scene
    calibration: Calibration
    cameras: dict[str, str]
    time: float
    shutters: np.ndarray

    def photographs(self, rng: np.random.Generator) -> dict[str, Photograph]:
        """Image folder -> its image."""
        calibration, pictures = self.calibration, {}
        camera = pinhole(calibration.intrinsics, calibration.width, calibration.height)
        for (images, name), shutter in zip(self.cameras.items(), self.shutters, strict=True):
            self.scene.set_time(shutter)
            camera0 = velodyne_pose(self.scene.world, shutter) @ np.linalg.inv(calibration.camera0_from_velodyne)
            pictures[images] = photograph(self.scene, camera, camera0 @ calibration.camera0_from_camera(name), rng)
        return pictures

    def turn(self, settings: SimulateDrive, rng: np.random.Generator) -> Scan:
        """The scan."""
        lidar, world = Lidar(beams=settings.beams, columns=settings.columns), self.scene.world
        reference = velodyne_pose(world, self.time)
        if not settings.scan_seconds:
            self.scene.set_time(self.time)
            return scan(self.scene, lidar, reference, rng)
        times = column_times(lidar, self.time, settings.scan_seconds)
        poses = column_poses(lambda time: velodyne_pose(world, time), times, settings.scan_seconds)
        return scan_over_time(self.scene, lidar, poses, times, reference, rng)

    def visible(self, turn: Scan) -> dict[str, np.ndarray]:
        """Image folder -> which points of the scan it shows, (N,) bool."""
        seen, pose = {}, velodyne_pose(self.scene.world, self.time)
        for (images, name), shutter in zip(self.cameras.items(), self.shutters, strict=True):
            self.scene.set_time(shutter)
            then = velodyne_pose(self.scene.world, shutter)
            seen[images] = seen_by_camera(self.scene, turn, pose, self.calibration, name, then)
        return seen


def velodyne_pose(world: World, time: float) -> np.ndarray:
    """Pose world_from_velodyne (4, 4) of the LiDAR at `time`, seconds."""
    mount = np.eye(4)
    mount[2, 3] = SENSOR_HEIGHT
    return world.ego(time) @ mount


def seen_by_camera(
    scene: Scene,
    turn: Scan,
    world_from_velodyne: np.ndarray,
    calibration: Calibration,
    camera: str,
    at_shutter: np.ndarray | None = None,
) -> np.ndarray:
    """(N,) bool: whether each point projects into the image of `camera` and nothing occludes it.

    world_from_velodyne: (4, 4), pose of the scan. at_shutter: (4, 4), pose of the LiDAR when the image is taken, if
    that is at another time. The scene must be set to that time.
    """
    camera0_from_camera = calibration.camera0_from_camera(camera)
    camera_from_velodyne = np.linalg.inv(camera0_from_camera) @ calibration.camera0_from_velodyne
    if at_shutter is not None and not np.array_equal(at_shutter, world_from_velodyne):
        camera_from_velodyne = camera_from_velodyne @ np.linalg.inv(at_shutter) @ world_from_velodyne
    size = (calibration.width, calibration.height)
    return unoccluded(scene, turn, world_from_velodyne, camera_from_velodyne, calibration.intrinsics, size)


def unoccluded(
    scene: Scene,
    turn: Scan,
    world_from_lidar: np.ndarray,
    camera_from_lidar: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """(N,) bool: whether each point projects into an image of `size` (width, height) and nothing occludes it.

    world_from_lidar: (4, 4), pose of the scan. camera_from_lidar: (4, 4), from the LiDAR's frame at the scan to the
    camera's frame at the image. intrinsics: (3, 3). The scene must be set to the time of the image.
    """
    visible = np.zeros(len(turn.surface), bool)
    measured = in_camera(turn.points[:, :3], camera_from_lidar)
    rows = np.flatnonzero(measured[:, 2] > 0.1)
    pixel = (measured[rows] / measured[rows, 2:]) @ intrinsics.T
    rows = rows[((pixel[:, :2] >= 0) & (pixel[:, :2] < size)).all(1)]
    world_from_camera = world_from_lidar @ np.linalg.inv(camera_from_lidar)
    directions = in_camera(turn.surface[rows], camera_from_lidar) @ world_from_camera[:3, :3].T
    reached = scene.distance(world_from_camera[:3, 3], directions)
    distance = np.linalg.norm(directions, axis=1)
    visible[rows] = reached * distance > 0.99 * distance - TOLERANCE
    return visible


def in_camera(points: np.ndarray, camera_from_velodyne: np.ndarray) -> np.ndarray:
    """Transform points (N, 3) from the velodyne frame to the camera frame, float64."""
    return points @ camera_from_velodyne[:3, :3].T + camera_from_velodyne[:3, 3]


def _write_geometry(folder: Path, calibration: Calibration, poses: np.ndarray) -> None:
    """Write `calib.txt` and `poses.txt`, which holds poses of camera 0. poses: (F, 4, 4) world_from_velodyne."""
    (folder / "calib.txt").write_text(calibration.text())
    camera0 = [pose @ np.linalg.inv(calibration.camera0_from_velodyne) for pose in poses]
    first = np.linalg.inv(camera0[0])
    (folder / "poses.txt").write_text("".join(numbers((first @ pose)[:3]) + "\n" for pose in camera0))


def _write_scan(folder: Path, name: str, turn: Scan) -> None:
    turn.points.tofile(folder / "velodyne" / f"{name}.bin")
    (turn.semantic | turn.instance.astype(np.uint32) << 16).tofile(folder / "labels" / f"{name}.label")


def _write_image(folder: Path, images: str, name: str, picture: Photograph, visible: np.ndarray) -> None:
    truth = folder / "truth" / images
    Image.fromarray(picture.rgb).save(folder / images / f"{name}.png", compress_level=3)
    Image.fromarray(picture.semantic).save(truth / "semantic" / f"{name}.png")
    Image.fromarray(picture.instance).save(truth / "instance" / f"{name}.png")
    np.save(truth / "visible" / f"{name}.npy", visible)
