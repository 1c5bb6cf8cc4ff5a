"""Data sets: one module per format, behind the protocol `Recording`; which classes they have (`classes.py`)."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from elite_pipeline.choices import FORMATS, load
from elite_pipeline.datasets.classes import ClassTable

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What names of sequences, frames and cameras look like, whatever the format."""


@dataclass(frozen=True)
class Camera:
    """A calibrated pinhole camera."""

    name: str
    intrinsics: np.ndarray
    """(3, 3) float64, pixels."""
    camera_from_lidar: np.ndarray
    """(4, 4) float64, metres; the camera looks along +z, x right, y down."""

    def crc32(self) -> int:
        """Checksum of both matrices."""
        return zlib.crc32(self.camera_from_lidar.tobytes(), zlib.crc32(self.intrinsics.tobytes()))


class Recording(Protocol):
    """One recorded sequence. Frames are named by strings; every method raises `InputError` on a damaged file."""

    sequence: str
    classes: ClassTable
    cameras: Mapping[str, str]
    """Camera -> what its calibration is called in the format."""

    def __init__(self, root: Path, sequence: str, classes: ClassTable, cameras: Mapping[str, str]) -> None: ...

    @staticmethod
    def place(root: Path, sequence: str) -> Path:
        """The folder or file below the data set's folder `root` that is there if the sequence is."""
        ...

    @staticmethod
    def parts(root: Path, sequence: str, cameras: Mapping[str, str]) -> list[Path]:
        """Files and folders of the sequence that exist and that `index_frames` reads."""
        ...

    def frames(self) -> list[str]:
        """Frame names, sorted."""
        ...

    def scan_path(self, frame: str) -> Path:
        """The file of the points of `frame`, for errors."""
        ...

    def label_path(self, frame: str) -> Path:
        """The file of the labels of `frame`, for errors."""
        ...

    def image_path(self, frame: str, camera: str) -> Path:
        """The image that `camera` took of `frame`, for errors."""
        ...

    def points(self, frame: str) -> np.ndarray:
        """(N, 4) float32: x, y, z in metres (LiDAR frame: x forward, y left, z up) and remission."""
        ...

    def labels(self, frame: str, points: int) -> np.ndarray:
        """(N,) uint8 training ids, 0 = ignore, for a scan of `points` points."""
        ...

    def instances(self, frame: str, points: int) -> np.ndarray:
        """(N,) uint16 instance ids, 0 = none, for a scan of `points` points."""
        ...

    def image(self, frame: str, camera: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB; a grey image is repeated in its three channels."""
        ...

    def truth(self, frame: str, camera: str) -> np.ndarray | None:
        """(H, W) uint8 training ids of every pixel, 0 = none: dense truth, which only simulated drives have."""
        ...

    def has_image(self, frame: str, camera: str) -> bool:
        """Whether the camera took an image of this frame."""
        ...

    def has_labels(self, frame: str) -> bool:
        """Whether this frame's points are labelled."""
        ...

    def camera(self, name: str, frame: str) -> Camera:
        """The calibration of camera `name` when it took `frame`."""
        ...

    def timestamps(self) -> np.ndarray | None:
        """(F,) float64 seconds, of the scans; None where none are recorded."""
        ...

    def poses(self) -> np.ndarray | None:
        """(F, 4, 4) float64 world_from_lidar, metres; None where none are recorded."""
        ...


def open_recording(
    root: Path, sequence: str, format: str, classes: ClassTable, cameras: Mapping[str, str]
) -> Recording:
    """Sequence `sequence` of the data set whose files lie below `root`, in one of `choices.FORMATS`."""
    return load(FORMATS[format])(Path(root), sequence, classes, cameras)
