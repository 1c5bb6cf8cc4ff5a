"""Data sets: one module per format, all behind the protocol `Recording`, and class tables (`classes.py`)."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from elite_pipeline.choices import FORMATS, load
from elite_pipeline.datasets.classes import ClassTable

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""Regular expression of the names of sequences, frames and cameras, in every format."""

Records = Mapping[str, Mapping[str, Any]]
"""Frame -> what the tables of a data set say of it, as JSON values: its files, its calibration, its pose."""


@dataclass(frozen=True)
class Camera:
    """A calibrated pinhole camera."""

    name: str
    intrinsics: np.ndarray
    """(3, 3) float64, pixels."""
    camera_from_lidar: np.ndarray
    """(4, 4) float64, metres. Camera frame: z forward, x right, y down."""

    def crc32(self) -> int:
        """Returns the checksum of both matrices."""
        return zlib.crc32(self.camera_from_lidar.tobytes(), zlib.crc32(self.intrinsics.tobytes()))


class Recording(Protocol):
    """One recorded sequence. Frame names are strings. Every method raises `InputError` for a damaged file."""

    sequence: str
    classes: ClassTable
    cameras: Mapping[str, str]
    """Camera -> the name of its calibration in the format."""
    nearest: float
    """Points within this distance of the LiDAR, metres, are the vehicle itself, or invalid. They are not projected into
    images and do not teach a student; 0: there are none. Predictions and scores are of all points."""

    def __init__(
        self,
        root: Path,
        sequence: str,
        classes: ClassTable,
        cameras: Mapping[str, str],
        records: Records | None = None,
    ) -> None:
        """records: of a format with tables (`choices.Format.tables`), else None."""
        ...

    @staticmethod
    def place(root: Path, sequence: str) -> Path:
        """Returns the folder or file below the data set's folder `root` that exists if the sequence exists."""
        ...

    @staticmethod
    def parts(root: Path, sequence: str, cameras: Mapping[str, str]) -> list[Path]:
        """Returns the existing files and folders of the sequence that `index_frames` reads."""
        ...

    def frames(self) -> list[str]:
        """Returns the frame names, sorted. Their order is that of time."""
        ...

    def record(self, frame: str) -> Mapping[str, Any] | None:
        """Returns the entry of `frame` in `records`; None in a format without tables."""
        ...

    def scan_path(self, frame: str) -> Path:
        """Returns the file of the points of `frame`, for error messages."""
        ...

    def label_path(self, frame: str) -> Path:
        """Returns the file of the labels of `frame`, for error messages."""
        ...

    def image_path(self, frame: str, camera: str) -> Path:
        """Returns the file of the image of `frame` from `camera`, for error messages."""
        ...

    def times_path(self) -> Path:
        """Returns the file of the times of the scans, for error messages."""
        ...

    def poses_path(self) -> Path:
        """Returns the file of the poses, for error messages."""
        ...

    def points(self, frame: str) -> np.ndarray:
        """Returns (N, 4) float32: x, y, z in metres (LiDAR frame: x forward, y left, z up) and remission."""
        ...

    def labels(self, frame: str, points: int) -> np.ndarray:
        """Returns (N,) uint8 training ids, 0 = ignore. points: N, the number of points of the scan."""
        ...

    def instances(self, frame: str, points: int) -> np.ndarray:
        """Returns (N,) uint16 instance ids, 0 = none. points: N, the number of points of the scan."""
        ...

    def moving(self, frame: str, points: int) -> np.ndarray:
        """Returns (N,) bool: whether each point belongs to a thing that moves while it is recorded.

        points: N, the number of points of the scan. All False where the files do not distinguish it.
        """
        ...

    def image(self, frame: str, camera: str) -> np.ndarray:
        """Returns (H, W, 3) uint8 RGB. A grey image is repeated in the three channels."""
        ...

    def truth(self, frame: str, camera: str) -> np.ndarray | None:
        """Returns (H, W) uint8 training ids of all pixels, 0 = none. Only simulated drives have them; others: None."""
        ...

    def has_image(self, frame: str, camera: str) -> bool:
        """Returns whether there is an image of `frame` from `camera`."""
        ...

    def has_labels(self, frame: str) -> bool:
        """Returns whether the points of `frame` are labelled."""
        ...

    def camera(self, name: str, frame: str) -> Camera:
        """Returns the calibration of camera `name` for `frame`."""
        ...

    def timestamps(self) -> np.ndarray | None:
        """Returns (F,) float64 seconds, the times of the scans; None if they are not recorded."""
        ...

    def poses(self) -> np.ndarray | None:
        """Returns (F, 4, 4) float64 world_from_lidar, metres; None if they are not recorded."""
        ...


class Tables(Protocol):
    """What the class of a format with tables offers besides `Recording`."""

    @staticmethod
    def read_tables(
        root: Path, sequences: Sequence[str], cameras: Mapping[str, str], classes: ClassTable, out: Path
    ) -> None:
        """Read the tables in folder `root` once, and write one file for each of `sequences` into the folder `out`.

        cameras: as in `Recording`. classes: its `raw_names` must be those of the tables. Raises `InputError` with all
        faults of the tables.
        """
        ...

    @staticmethod
    def records(path: Path) -> Records:
        """Returns the records in a file that `read_tables` wrote, in the order of time."""
        ...


def open_recording(
    root: Path,
    sequence: str,
    format: str,
    classes: ClassTable,
    cameras: Mapping[str, str],
    records: Records | None = None,
) -> Recording:
    """Returns sequence `sequence` of the data set in folder `root`.

    format: one of `choices.FORMATS`. records: of the frames, in a format with tables.
    """
    return load(FORMATS[format].recording)(Path(root), sequence, classes, cameras, records)
