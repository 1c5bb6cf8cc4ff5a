"""SemanticKITTI's layout: `sequences/<name>/` with `velodyne/`, `labels/`, folders of images, and `calib.txt`.

SemanticKITTI's own names are 00 to 21 for drives, 000000 and up for frames, and P0 to P3 for camera matrices. Other
names work too.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from elite_pipeline.datasets import Camera, Records
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.datasets.raw_files import known_labels, read_bytes, read_rgb, read_truth
from elite_pipeline.errors import InputError

BENCHMARK = [str(number) for number in range(11, 22)]
"""The sequences that a submission to SemanticKITTI's benchmark must contain: exactly these."""


class SemanticKitti:
    """One sequence in this layout. See `datasets.Recording`. Methods raise `InputError` for a damaged file."""

    nearest = 0.0

    def __init__(
        self,
        root: Path,
        sequence: str,
        classes: ClassTable,
        cameras: Mapping[str, str],
        records: Records | None = None,
    ) -> None:
        self.folder = self.place(root, sequence)
        self.sequence, self.classes, self.cameras = sequence, classes, cameras

    @staticmethod
    def place(root: Path, sequence: str) -> Path:
        """Returns the sequence's folder."""
        return Path(root, "sequences", sequence)

    @classmethod
    def parts(cls, root: Path, sequence: str, cameras: Mapping[str, str]) -> list[Path]:
        """Returns the existing files and folders of the sequence that `index_frames` reads."""
        folder = cls.place(root, sequence)
        parts = (folder / part for part in ("velodyne", "labels", "calib.txt", "times.txt", "poses.txt", *cameras))
        return [part for part in parts if part.exists()]

    def frames(self) -> list[str]:
        return sorted(path.stem for path in (self.folder / "velodyne").glob("*.bin"))

    def record(self, frame: str) -> None:
        return None

    def scan_path(self, frame: str) -> Path:
        """Returns the file of the points of `frame`."""
        return self.folder / "velodyne" / f"{frame}.bin"

    def label_path(self, frame: str) -> Path:
        """Returns the file of the labels of `frame`."""
        return self.folder / "labels" / f"{frame}.label"

    def image_path(self, frame: str, camera: str) -> Path:
        """Returns the file of the image of `frame` from `camera` (a folder name)."""
        return self.folder / camera / f"{frame}.png"

    def times_path(self) -> Path:
        """Returns the file of the times of the scans."""
        return self.folder / "times.txt"

    def poses_path(self) -> Path:
        """Returns the file of the poses of camera 0."""
        return self.folder / "poses.txt"

    def points(self, frame: str) -> np.ndarray:
        path = self.scan_path(frame)
        values = np.frombuffer(read_bytes(path, 4), np.float32)
        if values.size == 0 or values.size % 4:
            raise InputError(
                f"{path}: {values.nbytes} bytes are not a positive multiple of 16 (x, y, z, remission as float32)."
                " The scan is truncated or has another format. Copy it again."
            )
        return values.reshape(-1, 4)

    def raw_labels(self, frame: str, points: int) -> np.ndarray:
        """Returns (N,) uint32 as stored: the semantic id in the low 16 bits, the instance id in the high 16 bits."""
        path = self.label_path(frame)
        raw = np.frombuffer(read_bytes(path, 4), np.uint32)
        if len(raw) != points:
            raise InputError(
                f"{path}: {len(raw)} labels for the {points} points of {self.scan_path(frame)}."
                " Copy both again, or remove the label file if the scan is unlabelled."
            )
        return raw

    def labels(self, frame: str, points: int) -> np.ndarray:
        return known_labels(self.raw_labels(frame, points) & 0xFFFF, self.classes, self.label_path(frame))

    def moving(self, frame: str, points: int) -> np.ndarray:
        return np.isin(self.raw_labels(frame, points) & 0xFFFF, self.classes.moving)

    def instances(self, frame: str, points: int) -> np.ndarray:
        return (self.raw_labels(frame, points) >> 16).astype(np.uint16)

    def image(self, frame: str, camera: str) -> np.ndarray:
        return read_rgb(self.image_path(frame, camera), "missing. Copy the image, or set missing_images: true.")

    def truth(self, frame: str, camera: str) -> np.ndarray | None:
        return read_truth(self.folder / "truth" / camera / "semantic" / f"{frame}.png", self.classes)

    def has_image(self, frame: str, camera: str) -> bool:
        return self.image_path(frame, camera).exists()

    def has_labels(self, frame: str) -> bool:
        return self.label_path(frame).exists()

    def camera(self, name: str, frame: str) -> Camera:
        """Returns the calibration of image folder `name`. It is the same for all frames."""
        return self._calibrated[name]

    @cached_property
    def _calibrated(self) -> dict[str, Camera]:
        """Image folder -> its camera. Raises `InputError` where `calib.txt` is damaged."""
        path = self.folder / "calib.txt"
        matrices = read_matrices(path, list(self.cameras.values()))
        calibrated = {}
        for name, matrix in self.cameras.items():
            projection = matrices[matrix]
            intrinsics = projection[:, :3]
            if abs(np.linalg.det(intrinsics)) < 1e-6:
                raise InputError(f"{path}: {matrix} is not a camera matrix. Restore the original file.")
            # P = K [I | t]: the fourth column is the baseline from camera 0, in pixels times metres.
            camera_from_camera0 = np.eye(4)
            camera_from_camera0[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
            calibrated[name] = Camera(name, intrinsics, camera_from_camera0 @ self._camera0_from_lidar)
        return calibrated

    @cached_property
    def _camera0_from_lidar(self) -> np.ndarray:
        """(4, 4) float64: Tr of `calib.txt`. Raises `InputError` where it is missing or no rigid motion."""
        path = self.folder / "calib.txt"
        camera0_from_lidar = np.vstack([read_matrices(path, ["Tr"])["Tr"], (0, 0, 0, 1)])
        if abs(np.linalg.det(camera0_from_lidar[:3, :3]) - 1) > 0.01:
            raise InputError(f"{path}: Tr is not a rigid motion. Restore the original file.")
        return camera0_from_lidar

    def timestamps(self) -> np.ndarray | None:
        """Returns (F,) float64 seconds from `times.txt`; None if the file is missing."""
        path = self.times_path()
        return self._per_frame(path, 1)[:, 0] if path.exists() else None

    def poses(self) -> np.ndarray | None:
        """Returns (F, 4, 4) float64 world_from_lidar; None if `poses.txt`, which has poses of camera 0, is missing."""
        path = self.poses_path()
        if not path.exists():
            return None
        world_from_camera0 = np.tile(np.eye(4), (len(self.frames()), 1, 1))
        world_from_camera0[:, :3] = self._per_frame(path, 12).reshape(-1, 3, 4)
        return world_from_camera0 @ self._camera0_from_lidar

    def _per_frame(self, path: Path, numbers: int) -> np.ndarray:
        """Returns (F, numbers) float64 from a text file with one line per scan. Raises `InputError` for other files."""
        lines, frames = _lines(path), len(self.frames())
        if len(lines) != frames:
            raise InputError(f"{path}: {len(lines)} lines for {frames} scans. Copy it again, together with velodyne/.")
        return np.stack([_numbers(path, k, line.split(), numbers) for k, line in enumerate(lines, 1)])


def read_matrices(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Returns {name: (3, 4) float64} from the lines `name: twelve numbers` in `path`. Other lines are ignored.

    Raises `InputError` where one of `names` is missing, duplicate or damaged.
    """
    found: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(_lines(path), 1):
        name, colon, text = line.partition(":")
        if colon and name.strip() in names:
            if name.strip() in found:
                raise InputError(f"{path}, line {number}: second line of {name.strip()}. Remove one of the two lines.")
            found[name.strip()] = (number, text.split())
    for name in names:
        if name not in found:
            have = ", ".join(line.partition(":")[0] for line in _lines(path) if ":" in line) or "none"
            raise InputError(f"{path}: has no line '{name}: ...', only {have}. Add the line.")
    return {name: _numbers(path, k, words, 12, name).reshape(3, 4) for name, (k, words) in found.items()}


def _lines(path: Path) -> list[str]:
    """Returns the lines of a text file. Raises `InputError` where it is missing or not text."""
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: is missing or not text ({type(error).__name__}). Copy the sequence's {path.name}."
        ) from None


def _numbers(path: Path, line: int, words: list[str], count: int, name: str = "the line") -> np.ndarray:
    """Returns (count,) float64 from the words of a line. Raises `InputError` unless they are `count` finite numbers."""
    if len(words) != count:
        raise InputError(f"{path}, line {line}: {name} has {len(words)} numbers instead of {count}. Restore it.")
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        raise InputError(
            f"{path}, line {line}: expected {count} numbers, found text. Restore the original file."
        ) from None
    if not np.isfinite(values).all():
        raise InputError(f"{path}, line {line}: {name} has non-finite numbers. Restore the original file.")
    return values
