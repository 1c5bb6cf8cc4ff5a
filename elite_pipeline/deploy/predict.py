"""Read and check a user's own scans: files that belong to no data set and have no index."""

from pathlib import Path

import numpy as np

from elite_pipeline.errors import InputError

POINT_BYTES = 16
"""Bytes per point in a file: x, y, z and remission as float32."""


def read_scan(path: Path) -> np.ndarray:
    """Return the points of a `.bin` file: (N, 4) float32, x, y, z in metres and remission. N may be 0.

    Raises `InputError` where the file is unreadable or truncated, or where a number is not finite.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}). Check the path and the read permission.") from None
    if len(data) % POINT_BYTES:
        raise InputError(
            f"{path}: the size of {len(data)} bytes is not a multiple of {POINT_BYTES} (x, y, z, remission as float32)."
            " The scan is truncated or has another format: copy or convert it again."
        )
    points = np.frombuffer(data, "<f4").reshape(-1, 4)
    if bad := int((~np.isfinite(points)).any(axis=1).sum()):
        raise InputError(f"{path}: {bad} of {len(points)} points are NaN or infinite. Remove these points.")
    return points
