"""Writes a simulated scene in nuScenes' layout, plus dense truth that no real data set has.

The ego frame is that of nuScenes: on the ground below the rear axle, x forward, y left, z up.
"""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from elite_pipeline.config import SensorNoise, SimulateDrive
from elite_pipeline.marker import replacing
from elite_pipeline.progress import progress
from elite_pipeline.simulation.camera import Photograph, photograph, pinhole
from elite_pipeline.simulation.drive import about, drive_seeds, drive_world, unoccluded
from elite_pipeline.simulation.lidar import Scan, column_poses, scan_over_time
from elite_pipeline.simulation.noise import misjudged_labels, misjudged_poses, moved_a_little
from elite_pipeline.simulation.nuscenes_rig import (
    EGO,
    LIDAR,
    ColumnLidar,
    NuScenesIds,
    RigCamera,
    lidar_mount,
    rig_cameras,
)
from elite_pipeline.simulation.scene import Scene
from elite_pipeline.simulation.scene_tables import LABELS, RigSensor, SceneLog, Taken, scene_rows
from elite_pipeline.simulation.site import EGO_SPEED

EPOCH = 1_893_456_000_000_000
"""Beginning of the scene with the number 0, microseconds: the year 2030, which no recording shows."""

ORIGIN = (600.0, 1600.0, 0.0)
"""Where the simulated world's origin lies on the map, metres: far away, as in real data."""

QUALITY = 92
"""Of the JPEG images."""


@dataclass(frozen=True)
class Turn:
    """One scan as its file has it: an entry for each of the N rays, column by column, also where nothing returned.

    points: (N, 5) float32: x, y, z (metres, sensor's frame), intensity 0 to 255, ring. scan: the M returns from the
    world; `scan.ray` is the row of each in `points`. All other rays hit the vehicle itself, or nothing.
    """

    points: np.ndarray
    scan: Scan

    def spread(self, values: np.ndarray, fill: int) -> np.ndarray:
        """Values (N,) of all rays from those of the returns (M,); other rays have `fill`."""
        result = np.full(len(self.points), fill, values.dtype)
        result[self.scan.ray] = values
        return result


def write_nuscenes_drive(folder: Path, sequence: str, settings: SimulateDrive) -> None:
    """Simulate the scene `sequence` into `folder`, `<root>/sequences/<scene>`. It appears only when it is complete.

    `tables.json` has the rows of the scene; `scene_tables.join_tables` makes the data set's tables of them. Raises
    `InputError` where `folder` may hold real recordings (see `refuse_recordings`).

    With `settings.noise`, `tables.json` and the labels have wrong values: mounts of the cameras, ego poses, and when
    the shutters opened. The right ones are in `truth/`: there, the ego pose of an image is that of its exposure. Errors
    of the poses are the same for all sensors of a keyframe, so they do not move points in images.
    """
    with replacing(folder, "simulate_drive", about(sequence, settings)) as partial:
        _Writer(partial, sequence, settings).write()


class _Writer:
    """Writes one scene into a folder."""

    def __init__(self, folder: Path, sequence: str, settings: SimulateDrive) -> None:
        self.folder, self.sequence, self.settings = folder, sequence, settings
        digits = re.fullmatch("(?:scene-)?([0-9]{1,4})", sequence)
        number = int(digits[1]) if digits else 10_000 + zlib.crc32(sequence.encode()) % 1_000_000
        description = f"simulated: world {settings.world}, seed {settings.seed}"
        self.log = SceneLog(sequence, settings.seed, EPOCH + number * 1_000_000_000, description)
        self.world, self.rng = drive_world(sequence, settings)
        self.scene, self.ids = Scene(self.world), NuScenesIds(self.world)
        self.cameras = rig_cameras(settings.image_width, settings.image_height)
        self.lidar, self.mount = ColumnLidar(columns=settings.columns), lidar_mount()
        self.roof = self.lidar.roof()

    def write(self) -> None:
        settings, noise = self.settings, self.settings.noise or SensorNoise()
        # One generator for each kind of error, so that one kind can be switched on without changing another.
        errors = [np.random.default_rng(seed) for seed in drive_seeds(self.sequence, settings)[2].spawn(4)]
        times = np.arange(settings.frames) * settings.spacing / EGO_SPEED
        late = errors[0].normal(0, noise.camera_time, (len(times), len(self.cameras)))
        for channel in self.cameras:
            (self.folder / "samples" / channel).mkdir(parents=True)
            for kind in ("semantic", "instance", "visible"):
                (self.folder / "truth" / channel / kind).mkdir(parents=True)
        (self.folder / "samples" / LIDAR).mkdir()
        turns = []
        for frame, time in enumerate(progress(times, label=f"simulate_drive {self.sequence}")):
            turns.append(self._write_scan(time))
            for (channel, camera), delay in zip(self.cameras.items(), late[frame], strict=True):
                self._write_image(channel, camera, time, camera.trigger / 1e6 + delay, turns[-1])

        poses = np.stack([self.world.ego(time) @ self.mount for time in times])
        right = np.tile(np.eye(4), (len(times), 1, 1))
        self._write_tables(self.folder, self.cameras, times, right, late)
        self._write_labels(self.folder, times, turns, [(t.scan.semantic, t.scan.instance) for t in turns])
        if settings.noise is None:
            return
        for name in ("tables.json", *LABELS):
            (self.folder / name).rename(self.folder / "truth" / name)
        wrong = {channel: self._misjudged(errors[1], camera) for channel, camera in self.cameras.items()}
        mistakes = misjudged_poses(errors[2], poses, noise.poses) @ np.linalg.inv(poses)
        self._write_tables(self.folder, wrong, times, mistakes, np.zeros_like(late))
        labels = misjudged_labels(errors[3], [t.scan for t in turns], poses, noise.labels)
        self._write_labels(self.folder, times, turns, [(both & 0xFFFF, both >> 16) for both in labels])

    def _misjudged(self, rng: np.random.Generator, camera: RigCamera) -> RigCamera:
        """The camera with an error in its mount."""
        deviation = (self.settings.noise or SensorNoise()).calibration
        mount = camera.mount @ np.linalg.inv(moved_a_little(rng, deviation))
        return RigCamera(camera.width, camera.height, camera.intrinsics, mount, camera.trigger)

    def _timestamp(self, time: float) -> int:
        """Time stamp, microseconds, of the scan at `time`, seconds. The log begins a second before the first scan."""
        return self.log.start + 1_000_000 + round(1e6 * time)

    def _name(self, channel: str, timestamp: int) -> str:
        """The path of a file in `folder`."""
        end = "pcd.bin" if channel == LIDAR else "jpg"
        return f"samples/{channel}/{self.log.logfile}__{channel}__{timestamp}.{end}"

    def _write_scan(self, time: float) -> Turn:
        turn = self._turn(time)
        turn.points.tofile(self.folder / self._name(LIDAR, self._timestamp(time)))
        return turn

    def _turn(self, time: float) -> Turn:
        """The scan whose turn ends at `time`, seconds."""
        lidar, seconds, rng = self.lidar, self.settings.scan_seconds, self.rng

        def pose_at(when: float) -> np.ndarray:
            return self.world.ego(when) @ self.mount

        times, reference = lidar.times(time, seconds), pose_at(time)
        poses = column_poses(pose_at, times, seconds)
        scan = scan_over_time(self.scene, lidar, poses, times, reference, rng)
        free = np.isnan(self.roof[scan.ray, 0])
        scan = Scan(*(values[free] for values in (scan.points, scan.semantic, scan.instance, scan.surface, scan.ray)))

        # As in real files, rays without a return have range 0, and the motion is compensated for them and for the
        # roof as if they stood still in the world.
        rays = np.arange(len(self.roof))
        motion = (np.linalg.inv(reference) @ poses)[lidar.column(rays)]
        own = np.nan_to_num(self.roof) * (1 + 0.02 * rng.normal(size=(len(rays), 1)))
        points = np.empty((len(rays), 5), np.float32)
        points[:, :3] = np.einsum("nij,nj->ni", motion[:, :3, :3], own) + motion[:, :3, 3]
        points[:, 3] = np.round(60 * rng.random(len(rays)) ** 2)
        points[scan.ray, :3] = scan.points[:, :3]
        # These have about the percentiles of a real scan: 5, 25, 50, 75 and 95 % are below 3, 6, 12, 25 and 65.
        points[scan.ray, 3] = np.minimum(np.round(450 * scan.points[:, 3] ** 2), 255)
        points[:, 4] = rays % lidar.beams
        return Turn(points, scan)

    def _write_image(self, channel: str, camera: RigCamera, time: float, delay: float, turn: Turn) -> None:
        """Write the image that is exposed `delay` seconds after the scan at `time`, and its truth."""
        size = (camera.width, camera.height)
        self.scene.set_time(time + delay)
        world_from_camera = self.world.ego(time + delay) @ camera.mount
        picture = photograph(self.scene, pinhole(camera.intrinsics, *size), world_from_camera, self.rng)
        world_from_lidar = self.world.ego(time) @ self.mount
        camera_from_lidar = np.linalg.inv(world_from_camera) @ world_from_lidar
        seen = unoccluded(self.scene, turn.scan, world_from_lidar, camera_from_lidar, camera.intrinsics, size)
        name = self._timestamp(time)
        path = self.folder / self._name(channel, name + camera.trigger)
        Image.fromarray(picture.rgb).save(path, quality=QUALITY)
        self._write_truth(self.folder / "truth" / channel, str(name), picture, turn.spread(seen, 0))

    def _write_truth(self, truth: Path, name: str, picture: Photograph, visible: np.ndarray) -> None:
        """Write the truth of an image. name: that of the frame, which is the scan's time stamp."""
        raw = self.ids.raw(picture.semantic, picture.instance)
        Image.fromarray(raw).save(truth / "semantic" / f"{name}.png")
        Image.fromarray(self.ids.number(picture.instance)).save(truth / "instance" / f"{name}.png")
        np.save(truth / "visible" / f"{name}.npy", visible)

    def _write_tables(
        self, folder: Path, cameras: dict[str, RigCamera], times: np.ndarray, mistakes: np.ndarray, late: np.ndarray
    ) -> None:
        """Write `tables.json`.

        mistakes: (F, 4, 4), errors of the ego poses of each keyframe, in the world. late: (F, cameras), seconds from
        each camera's time stamp to when it is said to be.
        """
        origin = np.eye(4)
        origin[:3, 3] = ORIGIN
        place = f"sequences/{self.sequence}"
        keyframes = []
        for time, mistake, delays in zip(times, mistakes, late, strict=True):
            moments = {LIDAR: (0, 0.0)}
            moments |= {name: (cameras[name].trigger, delay) for name, delay in zip(cameras, delays, strict=True)}
            keyframes.append(
                [
                    Taken(
                        channel,
                        self._timestamp(time) + trigger,
                        origin @ mistake @ self.world.ego(time + trigger / 1e6 + delay),
                        f"{place}/{self._name(channel, self._timestamp(time) + trigger)}",
                    )
                    for channel, (trigger, delay) in moments.items()
                ]
            )
        sensors = {LIDAR: RigSensor(self.mount, None)}
        sensors |= {name: RigSensor(c.mount, c.intrinsics, c.width, c.height) for name, c in cameras.items()}
        rows = scene_rows(self.log, sensors, keyframes, LIDAR)
        (folder / "tables.json").write_text(json.dumps(rows) + "\n")

    def _write_labels(
        self, folder: Path, times: np.ndarray, turns: list[Turn], labels: list[tuple[np.ndarray, np.ndarray]]
    ) -> None:
        """Write `lidarseg/` and `panoptic/`. labels: the simulator's raw ids and instance ids of each scan."""
        for kind in LABELS:
            (folder / kind).mkdir()
        for time, turn, (semantic, instance) in zip(times, turns, labels, strict=True):
            raw = self.ids.raw(semantic, instance)
            panoptic = turn.spread(self.ids.panoptic(raw, instance), 1000 * EGO)
            token = self.log.token(LIDAR, self._timestamp(time))
            turn.spread(raw, EGO).tofile(folder / "lidarseg" / f"{token}{LABELS['lidarseg']}")
            np.savez_compressed(folder / "panoptic" / f"{token}{LABELS['panoptic']}", data=panoptic)
