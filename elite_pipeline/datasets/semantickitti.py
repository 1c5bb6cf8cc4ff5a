"""The SemanticKITTI format: its classes, and how a sequence lies on disk.

Class tables and colours follow the configuration file of the official tool
(github.com/PRBonn/semantic-kitti-api, config/semantic-kitti.yaml).
"""

from pathlib import Path

import numpy as np

from elite_pipeline.datasets import Camera
from elite_pipeline.errors import InputError

IGNORE = 0
"""Training id of what is not evaluated."""

CLASSES = (
    "unlabeled",
    "car",
    "bicycle",
    "motorcycle",
    "truck",
    "other-vehicle",
    "person",
    "bicyclist",
    "motorcyclist",
    "road",
    "parking",
    "sidewalk",
    "other-ground",
    "building",
    "fence",
    "vegetation",
    "trunk",
    "terrain",
    "pole",
    "traffic-sign",
)
"""Class names in the official order; the index is the training id."""

RAW_IDS = (0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
"""Training id -> the raw id that a submission writes (`learning_map_inv`)."""

TRAINING_IDS = {
    **{raw: training for training, raw in enumerate(RAW_IDS)},
    **dict.fromkeys((1, 52, 99), IGNORE),
    **{13: 5, 16: 5, 60: 9},
    # Moving objects count as their class in the single-scan task.
    **{252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5},
}
"""Raw id -> training id (`learning_map`)."""

COLOURS = np.array(
    [
        (0, 0, 0),
        (100, 150, 245),
        (100, 230, 245),
        (30, 60, 150),
        (80, 30, 180),
        (0, 0, 255),
        (255, 30, 30),
        (255, 40, 200),
        (150, 30, 90),
        (255, 0, 255),
        (255, 150, 255),
        (75, 0, 75),
        (175, 0, 75),
        (255, 200, 0),
        (255, 120, 50),
        (0, 175, 0),
        (135, 60, 0),
        (150, 240, 80),
        (255, 240, 150),
        (255, 0, 0),
    ],
    dtype=np.uint8,
)
"""(20, 3) uint8 RGB by training id, the colours of the official visualiser."""

UNKNOWN = 255
_LOOKUP = np.full(1 << 16, UNKNOWN, dtype=np.uint8)
_LOOKUP[list(TRAINING_IDS)] = list(TRAINING_IDS.values())


def training_ids(raw):
    """Training ids (uint8) of raw semantic ids (any shape, unsigned); `UNKNOWN` where the format has no such id."""
    return _LOOKUP[raw]


class SemanticKitti:
    """One sequence in SemanticKITTI's layout: `velodyne/`, `labels/`, image folders, `calib.txt`. See `Recording`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.sequence = folder.name

    def frames(self):
        return sorted(path.stem for path in (self.folder / "velodyne").glob("*.bin"))

    def scan_path(self, frame):
        """The file of the points of `frame`."""
        return self.folder / "velodyne" / f"{frame}.bin"

    def label_path(self, frame):
        """The file of the labels of `frame`."""
        return self.folder / "labels" / f"{frame}.label"

    def image_path(self, frame, camera):
        """The image that `camera` (a folder name) took of `frame`."""
        return self.folder / camera / f"{frame}.png"

    def points(self, frame):
        path = self.scan_path(frame)
        values = np.frombuffer(_read(path, 4), np.float32)
        if values.size == 0 or values.size % 4:
            raise InputError(
                f"{path}: {values.nbytes} bytes are not a positive multiple of 16 (x, y, z, remission as float32)."
                " The scan is truncated or of another format: copy it again."
            )
        return values.reshape(-1, 4)

    def raw_labels(self, frame, points):
        """(N,) uint32 as stored: semantic id in the low 16 bits, instance id in the high ones."""
        path = self.label_path(frame)
        raw = np.frombuffer(_read(path, 4), np.uint32)
        if len(raw) != points:
            raise InputError(
                f"{path}: {len(raw)} labels for the {points} points of {self.scan_path(frame)}."
                " Copy both again, or remove the label file if the scan is unlabelled."
            )
        return raw

    def labels(self, frame, points):
        raw = self.raw_labels(frame, points)
        labels = training_ids(raw & 0xFFFF)
        if (labels == UNKNOWN).any():
            unknown = sorted(set((raw & 0xFFFF)[labels == UNKNOWN].tolist()))
            raise InputError(
                f"{self.label_path(frame)}: raw label ids {unknown[:10]} are not SemanticKITTI's."
                " Map them to its ids, or correct the file."
            )
        return labels

    def instances(self, frame, points):
        return (self.raw_labels(frame, points) >> 16).astype(np.uint16)

    def image(self, frame, camera):
        from PIL import Image

        path = self.image_path(frame, camera)
        try:
            with Image.open(path) as image:
                return np.array(image.convert("RGB"))
        except FileNotFoundError:
            raise InputError(f"{path}: missing. Copy the image, or set missing_images: true.") from None
        except (OSError, SyntaxError) as error:
            raise InputError(f"{path}: unreadable image ({error}). Copy it again.") from None

    def truth(self, frame, camera):
        from PIL import Image

        path = self.folder / "truth" / camera / "semantic" / f"{frame}.png"
        if not path.exists():
            return None
        with Image.open(path) as image:
            return training_ids(np.asarray(image).astype(np.uint16))

    def has_image(self, frame, camera):
        return self.image_path(frame, camera).exists()

    def has_labels(self, frame):
        return self.label_path(frame).exists()

    def camera(self, name, matrix):
        matrices = read_calibration(self.folder / "calib.txt")
        path = self.folder / "calib.txt"
        for key in (matrix, "Tr"):
            if key not in matrices:
                raise InputError(f"{path}: no line '{key}: ...' (it has {', '.join(matrices) or 'none'}). Add it.")
        projection, camera0_from_lidar = matrices[matrix], np.vstack([matrices["Tr"], (0, 0, 0, 1)])
        intrinsics = projection[:, :3]
        if abs(np.linalg.det(intrinsics)) < 1e-6 or abs(np.linalg.det(camera0_from_lidar[:3, :3]) - 1) > 0.01:
            raise InputError(f"{path}: {matrix} or Tr is no camera or no rigid motion. Restore the original file.")
        # P = K [I | t]: its fourth column holds the baseline from camera 0, in pixels times metres.
        camera_from_camera0 = np.eye(4)
        camera_from_camera0[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
        return Camera(name, intrinsics, camera_from_camera0 @ camera0_from_lidar)


def read_calibration(path):
    """`calib.txt` as {name: (3, 4) float64}; lines of other names are skipped, damaged ones refused."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: missing or not text ({type(error).__name__}). Copy the sequence's calib.txt."
        ) from None
    matrices = {}
    for number, line in enumerate(lines, 1):
        name, colon, text = line.partition(":")
        words = text.split()
        if not colon or len(words) != 12:
            if name.strip() in {"P0", "P1", "P2", "P3", "Tr"}:
                raise InputError(f"{path}, line {number}: {name} has {len(words)} numbers instead of 12. Restore it.")
            continue
        try:
            values = np.array(words, dtype=np.float64)
        except ValueError:
            raise InputError(f"{path}, line {number}: not 12 numbers. Restore the original file.") from None
        if not np.isfinite(values).all():
            raise InputError(f"{path}, line {number}: {name} has non-finite numbers. Restore the original file.")
        matrices[name.strip()] = values.reshape(3, 4)
    return matrices


def _read(path, item_bytes):
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}). Copy the file, or give it to its readers.") from None
    if len(data) % item_bytes:
        raise InputError(f"{path}: {len(data)} bytes are not a multiple of {item_bytes}: truncated. Copy it again.")
    return data
