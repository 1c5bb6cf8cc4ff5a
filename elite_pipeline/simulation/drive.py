"""Writes a simulated sequence in SemanticKITTI's layout, plus dense truth that no real data set has."""

import json
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from elite_pipeline.config import SimulateDrive
from elite_pipeline.marker import MARKER, refuse_recordings
from elite_pipeline.progress import progress
from elite_pipeline.simulation.calibration import (
    SENSOR_HEIGHT,
    Calibration,
    kitti_calibration,
    numbers,
    surround_calibration,
)
from elite_pipeline.simulation.camera import Photograph, photograph, pinhole
from elite_pipeline.simulation.lidar import Lidar, Scan, scan
from elite_pipeline.simulation.ranges import DRIVE_RANGES
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
    """The world of (seed, sequence), and the random generator of the sensors' noise."""
    # A two-digit sequence is its own number. Any other name gets a number of 100 or more from its checksum.
    number = int(sequence) if re.fullmatch("[0-9]{2}", sequence) else 100 + zlib.crc32(sequence.encode())
    seeds = np.random.SeedSequence([settings.seed, number]).spawn(2)
    length = settings.frames * settings.spacing
    world = build_world(np.random.default_rng(seeds[0]), DRIVE_RANGES, length, length / EGO_SPEED)
    return world, np.random.default_rng(seeds[1])


def write_drive(folder: Path, sequence: str, settings: SimulateDrive) -> None:
    """Simulate the drive `sequence` into `folder`. The folder appears only when it is complete.

    The files are first written to `<folder>.partial`. Raises `InputError` where one of the two folders may hold real
    recordings (see `refuse_recordings`).
    """
    partial = folder.with_name(folder.name + ".partial")
    for place in (folder, partial):
        refuse_recordings(place, "simulate_drive")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    about = {"sequence": sequence, "settings": settings.model_dump(mode="json")}
    (partial / MARKER).write_text(json.dumps(about, indent=2) + "\n")
    cameras = SURROUND if settings.surround else AHEAD
    kinds = ("semantic", "instance", "visible")
    truth = [f"truth/{images}/{kind}" for images in cameras for kind in kinds]
    for name in ("velodyne", "labels", *cameras, *truth):
        (partial / name).mkdir(parents=True)

    world, rng = drive_world(sequence, settings)
    scene = Scene(world)
    lidar = Lidar(beams=settings.beams, columns=settings.columns)
    calibrate = surround_calibration if settings.surround else kitti_calibration
    calibration = calibrate(settings.image_width, settings.image_height)
    camera = pinhole(calibration.intrinsics, settings.image_width, settings.image_height)
    velodyne_from_camera0 = np.linalg.inv(calibration.camera0_from_velodyne)

    times = np.arange(settings.frames) * settings.spacing / EGO_SPEED
    poses = []
    for frame, time in enumerate(progress(times, label=f"simulate_drive {sequence}")):
        scene.set_time(time)
        world_from_velodyne = velodyne_pose(world, time)
        poses.append(world_from_velodyne @ velodyne_from_camera0)
        pictures = {
            images: photograph(scene, camera, poses[-1] @ calibration.camera0_from_camera(name), rng)
            for images, name in cameras.items()
        }
        turn = scan(scene, lidar, world_from_velodyne, rng)
        _write_scan(partial, f"{frame:06d}", turn)
        for images, name in cameras.items():
            visible = seen_by_camera(scene, turn, world_from_velodyne, calibration, name)
            _write_image(partial, images, f"{frame:06d}", pictures[images], visible)

    first = np.linalg.inv(poses[0])
    (partial / "calib.txt").write_text(calibration.text())
    (partial / "times.txt").write_text("".join(f"{time:.6e}\n" for time in times))
    (partial / "poses.txt").write_text("".join(numbers((first @ pose)[:3]) + "\n" for pose in poses))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def velodyne_pose(world: World, time: float) -> np.ndarray:
    """Pose world_from_velodyne (4, 4) of the LiDAR at `time`, seconds."""
    mount = np.eye(4)
    mount[2, 3] = SENSOR_HEIGHT
    return world.ego(time) @ mount


def seen_by_camera(
    scene: Scene, turn: Scan, world_from_velodyne: np.ndarray, calibration: Calibration, camera: str
) -> np.ndarray:
    """(N,) bool: whether each point projects into the image of `camera` and nothing occludes it."""
    camera0_from_camera = calibration.camera0_from_camera(camera)
    camera_from_velodyne = np.linalg.inv(camera0_from_camera) @ calibration.camera0_from_velodyne
    visible = np.zeros(len(turn.surface), bool)
    measured = in_camera(turn.points[:, :3], camera_from_velodyne)
    rows = np.flatnonzero(measured[:, 2] > 0.1)
    pixel = (measured[rows] / measured[rows, 2:]) @ calibration.intrinsics.T
    size = (calibration.width, calibration.height)
    rows = rows[((pixel[:, :2] >= 0) & (pixel[:, :2] < size)).all(1)]
    world_from_camera = world_from_velodyne @ np.linalg.inv(camera_from_velodyne)
    directions = in_camera(turn.surface[rows], camera_from_velodyne) @ world_from_camera[:3, :3].T
    reached = scene.distance(world_from_camera[:3, 3], directions)
    distance = np.linalg.norm(directions, axis=1)
    visible[rows] = reached * distance > 0.99 * distance - TOLERANCE
    return visible


def in_camera(points: np.ndarray, camera_from_velodyne: np.ndarray) -> np.ndarray:
    """Transform points (N, 3) from the velodyne frame to the camera frame, float64."""
    return points @ camera_from_velodyne[:3, :3].T + camera_from_velodyne[:3, 3]


def _write_scan(folder: Path, name: str, turn: Scan) -> None:
    turn.points.tofile(folder / "velodyne" / f"{name}.bin")
    (turn.semantic | turn.instance.astype(np.uint32) << 16).tofile(folder / "labels" / f"{name}.label")


def _write_image(folder: Path, images: str, name: str, picture: Photograph, visible: np.ndarray) -> None:
    truth = folder / "truth" / images
    Image.fromarray(picture.rgb).save(folder / images / f"{name}.png", compress_level=3)
    Image.fromarray(picture.semantic).save(truth / "semantic" / f"{name}.png")
    Image.fromarray(picture.instance).save(truth / "instance" / f"{name}.png")
    np.save(truth / "visible" / f"{name}.npy", visible)
