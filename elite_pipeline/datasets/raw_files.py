"""Reads the files that several formats have in common. Each function raises `InputError` for a damaged file."""

from pathlib import Path

import numpy as np

from elite_pipeline.datasets.classes import UNKNOWN, ClassTable
from elite_pipeline.errors import InputError


def read_bytes(path: Path, item_bytes: int) -> bytes:
    """Returns the bytes of a file, whose length must be a multiple of `item_bytes`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}). Copy the file, or make it readable.") from None
    if len(data) % item_bytes:
        raise InputError(f"{path}: {len(data)} bytes are not a multiple of {item_bytes}: truncated. Copy it again.")
    return data


def read_rgb(path: Path, if_missing: str) -> np.ndarray:
    """Returns an image: (H, W, 3) uint8 RGB. if_missing: the fault and the remedy where there is no such file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"{path}: {if_missing}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: unreadable image ({error}). Copy it again.") from None


def read_truth(path: Path, classes: ClassTable) -> np.ndarray | None:
    """Returns (H, W) uint8 training ids from an image of raw ids, which a simulated drive has; None if it has none."""
    from PIL import Image

    if not path.exists():
        return None
    try:
        with Image.open(path) as image:
            raw = np.asarray(image).astype(np.uint16)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: unreadable image ({error}). Simulate the drive again.") from None
    return known_labels(raw, classes, path)


def known_labels(raw: np.ndarray, classes: ClassTable, path: Path) -> np.ndarray:
    """Returns the training ids (uint8, same shape) of the raw ids in the file `path`."""
    labels = classes.of_raw(raw)
    if (labels == UNKNOWN).any():
        unknown = sorted(set(raw[labels == UNKNOWN].tolist()))
        raise InputError(
            f"{path}: raw label ids {unknown[:10]} are not in the class table"
            f" {classes.name}. Add them to your own table, or correct the file."
        )
    return labels
