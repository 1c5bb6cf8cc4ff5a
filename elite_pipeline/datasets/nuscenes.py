"""nuScenes' layout: tables (`v1.0-*/*.json`) name the files in `samples/`, `lidarseg/` and `panoptic/`.

A sequence is a scene. A frame is a keyframe of LIDAR_TOP, and its name is the time of the scan in microseconds.
`read_tables` reads the tables once. All else comes from the records of the frames, which the index holds.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.datasets import Camera, Records
from elite_pipeline.datasets.classes import ClassTable, class_table
from elite_pipeline.datasets.raw_files import known_labels, read_bytes, read_rgb, read_truth
from elite_pipeline.errors import InputError

COLUMNS = 5
"""Numbers of a point in the files: x (right), y (forward), z (up), intensity and ring."""

BRIGHTEST = 255.0
"""The largest intensity. Some files have values outside of 0 to 255."""

INSTANCES = 1000
"""A panoptic label is the raw id times this number, plus the instance id."""


def challenge_classes() -> list[str]:
    """Returns the names of the 16 classes of the lidar segmentation challenge, by training id from 1."""
    return class_table("nuscenes").evaluated


class NuScenes:
    """One scene in this layout. See `datasets.Recording`. Methods raise `InputError` for a damaged file."""

    nearest = 1.0

    def __init__(
        self,
        root: Path,
        sequence: str,
        classes: ClassTable,
        cameras: Mapping[str, str],
        records: Records | None = None,
    ) -> None:
        """records: those of `read_tables`. Without them, the scene has no frames."""
        self.root, self._records = root, records or {}
        self.sequence, self.classes, self.cameras = sequence, classes, cameras

    @staticmethod
    def read_tables(
        root: Path, sequences: Sequence[str], cameras: Mapping[str, str], classes: ClassTable, out: Path
    ) -> None:
        """See `datasets.Tables`."""
        from elite_pipeline.datasets import nuscenes_tables

        nuscenes_tables.read_tables(root, sequences, cameras, classes, out)

    @staticmethod
    def records(path: Path) -> Records:
        """See `datasets.Tables`."""
        from elite_pipeline.datasets.nuscenes_tables import read_records

        return read_records(path)

    @staticmethod
    def place(root: Path, sequence: str) -> Path:
        """Returns the folder of a simulated scene, else the data set's folder: recorded scenes share theirs."""
        folder = Path(root, "sequences", sequence)
        return folder if folder.exists() else Path(root)

    @staticmethod
    def parts(root: Path, sequence: str, cameras: Mapping[str, str]) -> list[Path]:
        """Returns nothing: all scenes share folders, of 34,000 files each, which would be listed for each scene.

        `index_frames` depends on the tables, which name the files.
        """
        return []

    def frames(self) -> list[str]:
        return sorted(self._records)

    def record(self, frame: str) -> Mapping[str, Any]:
        return self._records[frame]

    def scan_path(self, frame: str) -> Path:
        """Returns the file of the points of `frame`."""
        return self.root / self._records.get(frame, {"scan": f"samples/LIDAR_TOP/{frame}"})["scan"]

    def label_path(self, frame: str) -> Path:
        """Returns the file of the labels of `frame`; the table that should name it, if none does."""
        return self.root / (self._records[frame]["labels"] or f"{self._records[frame]['version']}/lidarseg.json")

    def image_path(self, frame: str, camera: str) -> Path:
        """Returns the file of the image of `frame` from `camera`."""
        channel, record = self.cameras[camera], self._records[frame]
        nowhere = f"samples/{channel}/(not in {record['version']}'s sample_data.json) {frame}"
        return self.root / record["images"].get(channel, nowhere)

    def times_path(self) -> Path:
        """Returns the table of the times of the scans."""
        return self._table("sample_data")

    def poses_path(self) -> Path:
        """Returns the table of the poses."""
        return self._table("ego_pose")

    def _table(self, name: str) -> Path:
        version = next((record["version"] for record in self._records.values()), "v1.0-*")
        return self.root / version / f"{name}.json"

    def points(self, frame: str) -> np.ndarray:
        """Returns (N, 4) float32. The axes are turned to ours, and the remission is the intensity / 255."""
        path = self._named(self.scan_path(frame), "sample_data.json")
        values = np.frombuffer(read_bytes(path, 4), "<f4")
        if values.size == 0 or values.size % COLUMNS:
            raise InputError(
                f"{path}: {values.nbytes} bytes are not a positive multiple of 20 (x, y, z, intensity, ring as"
                " float32). The scan is truncated or has another format. Copy it again."
            )
        x, y, z, intensity, _ = values.reshape(-1, COLUMNS).T
        return np.stack([y, -x, z, np.clip(intensity, 0, BRIGHTEST) / np.float32(BRIGHTEST)], axis=1)

    def labels(self, frame: str, points: int) -> np.ndarray:
        path = self._named(self.label_path(frame), "lidarseg.json")
        raw = np.frombuffer(read_bytes(path, 1), np.uint8)
        self._check_length(path, frame, len(raw), points)
        return known_labels(raw, self.classes, path)

    def instances(self, frame: str, points: int) -> np.ndarray:
        """Returns (N,) uint16 instance ids; all 0 where there is no panoptic file."""
        name = self._records[frame]["panoptic"]
        if name is None:
            return np.zeros(points, np.uint16)
        path = self._named(self.root / name, "panoptic.json")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                values = arrays["data"]
        except (OSError, KeyError, EOFError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: no .npz file with an array `data` ({error}). Copy it again.") from None
        if values.dtype != np.uint16 or values.ndim != 1:
            shape = f"{values.ndim} dimensions and {values.dtype}"
            raise InputError(f"{path}: `data` has {shape}, not one uint16 per point. Copy it again.")
        self._check_length(path, frame, len(values), points)
        return values % np.uint16(INSTANCES)

    def _check_length(self, path: Path, frame: str, labels: int, points: int) -> None:
        if labels != points:
            raise InputError(
                f"{path}: {labels} labels for the {points} points of {self.scan_path(frame)}. Copy both again."
            )

    def moving(self, frame: str, points: int) -> np.ndarray:
        """Returns (N,) bool, all False: the labels do not distinguish what moves."""
        return np.zeros(points, bool)

    def image(self, frame: str, camera: str) -> np.ndarray:
        return read_rgb(self._named(self.image_path(frame, camera), "sample_data.json"), "missing. Copy the image.")

    def truth(self, frame: str, camera: str) -> np.ndarray | None:
        """Returns (H, W) uint8 training ids of all pixels; None for recorded scenes."""
        folder = self.scan_path(frame).parents[2] / "truth" / self.cameras[camera] / "semantic"
        return read_truth(folder / f"{frame}.png", self.classes)

    def has_image(self, frame: str, camera: str) -> bool:
        """Returns whether the tables name an image of `frame` from `camera`. That its file is missing is a fault."""
        return self.cameras[camera] in self._records[frame]["images"]

    def has_labels(self, frame: str) -> bool:
        """Returns whether the tables name labels of `frame`. That their file is missing is a fault."""
        return self._records[frame]["labels"] is not None

    def _named(self, path: Path, table: str) -> Path:
        """Returns `path`. Raises `InputError` where the file, which `table` names, is missing."""
        if not path.exists():
            raise InputError(
                f"{path}: missing, but {table} names it. Unpack the archive that has it, or take {self.sequence} out of"
                " the splits."
            )
        return path

    def camera(self, name: str, frame: str) -> Camera:
        """Returns the calibration of camera `name`. It is that of `frame`: the car drives between scan and image."""
        channel, record = self.cameras[name], self._records[frame]
        if channel not in record["intrinsics"]:
            raise InputError(
                f"{self._table('sample_data')}: has no keyframe of {channel} in {self.sequence}, so there is no"
                " calibration of it. Copy the table again, or name another camera in `cameras:`."
            )
        intrinsics, camera_from_lidar = record["intrinsics"][channel], record["camera_from_lidar"][channel]
        return Camera(name, np.array(intrinsics, np.float64), np.array(camera_from_lidar, np.float64))

    def timestamps(self) -> np.ndarray:
        """Returns (F,) float64 seconds since the first frame."""
        times = np.array([self._records[frame]["timestamp"] for frame in self.frames()], np.int64)
        return (times - times[0]) / 1e6

    def poses(self) -> np.ndarray:
        """Returns (F, 4, 4) float64 world_from_lidar. The world is the map of the city."""
        return np.array([self._records[frame]["world_from_lidar"] for frame in self.frames()], np.float64)
