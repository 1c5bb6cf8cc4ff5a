"""SemanticKITTI's layout: `sequences/<name>/` with `velodyne/`, `labels/`, folders of images, and `calib.txt`.

Its own drives are called 00 to 21, its frames 000000 on, and its cameras' matrices P0 to P3. The layout works with any
names.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from elite_pipeline.datasets import Camera
from elite_pipeline.datasets.classes import UNKNOWN, ClassTable
from elite_pipeline.errors import InputError

BENCHMARK = [str(number) for number in range(11, 22)]
"""The sequences that SemanticKITTI's benchmark wants, all of them and no other."""


class SemanticKitti:
    """One sequence in this layout. See `datasets.Recording`: methods raise `InputError` on a damaged file."""

    def __init__(self, root: Path, sequence: str, classes: ClassTable, cameras: Mapping[str, str]) -> None:
        self.folder = self.place(root, sequence)
        self.sequence, self.classes, self.cameras = sequence, classes, cameras

    @staticmethod
    def place(root: Path, sequence: str) -> Path:
        """The sequence's folder."""
        return Path(root, "sequences", sequence)

    @classmethod
    def parts(cls, root: Path, sequence: str, cameras: Mapping[str, str]) -> list[Path]:
        """Files and folders of the sequence that exist and that `index_frames` reads."""
        folder = cls.place(root, sequence)
        parts = (folder / part for part in ("velodyne", "labels", "calib.txt", *cameras))
        return [part for part in parts if part.exists()]

    def frames(self) -> list[str]:
        return sorted(path.stem for path in (self.folder / "velodyne").glob("*.bin"))

    def scan_path(self, frame: str) -> Path:
        """The file of the points of `frame`."""
        return self.folder / "velodyne" / f"{frame}.bin"

    def label_path(self, frame: str) -> Path:
        """The file of the labels of `frame`."""
        return self.folder / "labels" / f"{frame}.label"

    def image_path(self, frame: str, camera: str) -> Path:
        """The image that `camera` (a folder name) took of `frame`."""
        return self.folder / camera / f"{frame}.png"

    def points(self, frame: str) -> np.ndarray:
        path = self.scan_path(frame)
        values = np.frombuffer(_read(path, 4), np.float32)
        if values.size == 0 or values.size % 4:
            raise InputError(
                f"{path}: {values.nbytes} bytes are not a positive multiple of 16 (x, y, z, remission as float32)."
                " The scan is truncated or of another format: copy it again."
            )
        return values.reshape(-1, 4)

    def raw_labels(self, frame: str, points: int) -> np.ndarray:
        """(N,) uint32 as stored: semantic id in the low 16 bits, instance id in the high ones."""
        path = self.label_path(frame)
        raw = np.frombuffer(_read(path, 4), np.uint32)
        if len(raw) != points:
            raise InputError(
                f"{path}: {len(raw)} labels for the {points} points of {self.scan_path(frame)}."
                " Copy both again, or remove the label file if the scan is unlabelled."
            )
        return raw

    def labels(self, frame: str, points: int) -> np.ndarray:
        return self._known(self.raw_labels(frame, points) & 0xFFFF, self.label_path(frame))

    def _known(self, raw: np.ndarray, path: Path) -> np.ndarray:
        """Training ids of the raw ids in the file `path`."""
        labels = self.classes.of_raw(raw)
        if (labels == UNKNOWN).any():
            unknown = sorted(set(raw[labels == UNKNOWN].tolist()))
            raise InputError(
                f"{path}: raw label ids {unknown[:10]} are not in the class table"
                f" {self.classes.name}. Add them to a table of your own, or correct the file."
            )
        return labels

    def instances(self, frame: str, points: int) -> np.ndarray:
        return (self.raw_labels(frame, points) >> 16).astype(np.uint16)

    def image(self, frame: str, camera: str) -> np.ndarray:
        from PIL import Image

        path = self.image_path(frame, camera)
        try:
            with Image.open(path) as image:
                return np.array(image.convert("RGB"))
        except FileNotFoundError:
            raise InputError(f"{path}: missing. Copy the image, or set missing_images: true.") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{path}: unreadable image ({error}). Copy it again.") from None

    def truth(self, frame: str, camera: str) -> np.ndarray | None:
        from PIL import Image

        path = self.folder / "truth" / camera / "semantic" / f"{frame}.png"
        if not path.exists():
            return None
        try:
            with Image.open(path) as image:
                raw = np.asarray(image).astype(np.uint16)
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{path}: unreadable image ({error}). Simulate the drive again.") from None
        return self._known(raw, path)

    def has_image(self, frame: str, camera: str) -> bool:
        return self.image_path(frame, camera).exists()

    def has_labels(self, frame: str) -> bool:
        return self.label_path(frame).exists()

    def camera(self, name: str, frame: str) -> Camera:
        """The calibration of image folder `name`, the same for all frames."""
        return self._calibrated[name]

    @cached_property
    def _calibrated(self) -> dict[str, Camera]:
        """Image folder -> its camera. Raises `InputError` where `calib.txt` is damaged."""
        path = self.folder / "calib.txt"
        matrices = read_matrices(path, [*self.cameras.values(), "Tr"])
        camera0_from_lidar = np.vstack([matrices["Tr"], (0, 0, 0, 1)])
        if abs(np.linalg.det(camera0_from_lidar[:3, :3]) - 1) > 0.01:
            raise InputError(f"{path}: Tr is no rigid motion. Restore the original file.")
        calibrated = {}
        for name, matrix in self.cameras.items():
            projection = matrices[matrix]
            intrinsics = projection[:, :3]
            if abs(np.linalg.det(intrinsics)) < 1e-6:
                raise InputError(f"{path}: {matrix} is no camera. Restore the original file.")
            # P = K [I | t]: its fourth column holds the baseline from camera 0, in pixels times metres.
            camera_from_camera0 = np.eye(4)
            camera_from_camera0[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
            calibrated[name] = Camera(name, intrinsics, camera_from_camera0 @ camera0_from_lidar)
        return calibrated

    def timestamps(self) -> np.ndarray | None:
        """(F,) float64 seconds of `times.txt`; None where the file is missing."""
        path = self.folder / "times.txt"
        return self._per_frame(path, 1)[:, 0] if path.exists() else None

    def poses(self) -> np.ndarray | None:
        """(F, 4, 4) float64 world_from_lidar; None where `poses.txt` is missing. The file's own are of camera 0."""
        path = self.folder / "poses.txt"
        if not path.exists():
            return None
        world_from_camera0 = np.tile(np.eye(4), (len(self.frames()), 1, 1))
        world_from_camera0[:, :3] = self._per_frame(path, 12).reshape(-1, 3, 4)
        camera0_from_lidar = np.vstack([read_matrices(self.folder / "calib.txt", ["Tr"])["Tr"], (0, 0, 0, 1)])
        return world_from_camera0 @ camera0_from_lidar

    def _per_frame(self, path: Path, numbers: int) -> np.ndarray:
        """(F, numbers) float64 of a text file with a line for each scan. Raises `InputError` where it has not."""
        lines, frames = _lines(path), len(self.frames())
        if len(lines) != frames:
            raise InputError(f"{path}: {len(lines)} lines for {frames} scans. Copy it again, together with velodyne/.")
        return np.stack([_numbers(path, k, line.split(), numbers) for k, line in enumerate(lines, 1)])


def read_matrices(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """{name: (3, 4) float64} of the lines `name: twelve numbers` in `path`. Lines of other names are not looked at.

    Raises `InputError` where one of `names` is missing, there twice, or damaged.
    """
    found: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(_lines(path), 1):
        name, colon, text = line.partition(":")
        if colon and name.strip() in names:
            if name.strip() in found:
                raise InputError(f"{path}, line {number}: {name.strip()} a second time. Remove one of the two lines.")
            found[name.strip()] = (number, text.split())
    for name in names:
        if name not in found:
            have = ", ".join(line.partition(":")[0] for line in _lines(path) if ":" in line) or "none"
            raise InputError(f"{path}: no line '{name}: ...' (it has {have}). Add it.")
    return {name: _numbers(path, k, words, 12, name).reshape(3, 4) for name, (k, words) in found.items()}


def _lines(path: Path) -> list[str]:
    """The lines of a text file. Raises `InputError` where it is missing or not text."""
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: missing or not text ({type(error).__name__}). Copy the sequence's {path.name}."
        ) from None


def _numbers(path: Path, line: int, words: list[str], count: int, name: str = "the line") -> np.ndarray:
    """(count,) float64 of the words of a line. Raises `InputError` where they are not `count` finite numbers."""
    if len(words) != count:
        raise InputError(f"{path}, line {line}: {name} has {len(words)} numbers instead of {count}. Restore it.")
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        raise InputError(f"{path}, line {line}: not {count} numbers. Restore the original file.") from None
    if not np.isfinite(values).all():
        raise InputError(f"{path}, line {line}: {name} has non-finite numbers. Restore the original file.")
    return values


def _read(path: Path, item_bytes: int) -> bytes:
    """The content of a file of whole items. Raises `InputError` where it is unreadable or truncated."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}). Copy the file, or give it to its readers.") from None
    if len(data) % item_bytes:
        raise InputError(f"{path}: {len(data)} bytes are not a multiple of {item_bytes}: truncated. Copy it again.")
    return data
