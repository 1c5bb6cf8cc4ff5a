"""Scans of one's own, which lie in no data set and come with no index: read and checked before they are predicted."""

from pathlib import Path

import numpy as np

from elite_pipeline.errors import InputError

POINT_BYTES = 16
"""Of a point in a file: x, y, z and remission as float32."""


def read_scan(path: Path) -> np.ndarray:
    """(N, 4) float32 of a `.bin`: x, y, z in metres, remission. N may be 0.

    Raises `InputError` where the file is unreadable or truncated, and where a number is not finite.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}). Check the path, or who may read it.") from None
    if len(data) % POINT_BYTES:
        raise InputError(
            f"{path}: {len(data)} bytes are not a multiple of {POINT_BYTES} (x, y, z, remission as float32)."
            " The scan is truncated or of another format: copy or convert it again."
        )
    points = np.frombuffer(data, "<f4").reshape(-1, 4)
    if bad := int((~np.isfinite(points)).any(axis=1).sum()):
        raise InputError(f"{path}: {bad} of {len(points)} points are NaN or infinite. Remove them: they have no place.")
    return points
