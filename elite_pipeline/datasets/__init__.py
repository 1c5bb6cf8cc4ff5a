"""Data sets: one module per format, behind the small protocol `Recording`."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


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

    folder: Path
    sequence: str

    def frames(self) -> list[str]:
        """Frame names, sorted."""
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

    def camera(self, name: str, matrix: str) -> Camera:
        """The calibration of image folder `name`, whose projection matrix the format calls `matrix`."""
        ...


def open_recording(folder) -> Recording:
    """The sequence in `folder` (`.../sequences/NN`), in the only format known so far: SemanticKITTI."""
    from elite_pipeline.datasets.semantickitti import SemanticKitti

    return SemanticKitti(Path(folder))
