"""Rigid motions from translations and unit quaternions."""

from collections.abc import Sequence

import numpy as np

TOLERANCE = 1e-3
"""How far the length of a unit quaternion may be from 1: those in files are rounded."""


def motion(translation: Sequence[float], rotation: Sequence[float]) -> np.ndarray:
    """Returns a (4, 4) float64 rigid motion.

    translation: 3 numbers, metres. rotation: a unit quaternion (w, x, y, z). Raises `ValueError` where they are not.
    """
    place, quaternion = _numbers("translation", translation, 3), _numbers("rotation", rotation, 4)
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1) > TOLERANCE:
        raise ValueError(f"rotation {list(rotation)} is no unit quaternion: its length is {length:.4g}")
    w, x, y, z = quaternion / length
    result = np.eye(4)
    result[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    result[:3, 3] = place
    return result


def inverse(motions: np.ndarray) -> np.ndarray:
    """Returns the inverse of rigid motions: (..., 4, 4). It is exact, where `np.linalg.inv` loses digits."""
    result = np.zeros_like(motions)
    rotation = np.swapaxes(motions[..., :3, :3], -1, -2)
    result[..., :3, :3] = rotation
    result[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, motions[..., :3, 3])
    result[..., 3, 3] = 1
    return result


def _numbers(name: str, values: Sequence[float], count: int) -> np.ndarray:
    """Returns (count,) float64. Raises `ValueError` unless `values` are `count` finite numbers."""
    numbers = len(values) == count and all(type(value) in (int, float) for value in values)
    if not numbers or not np.isfinite(np.array(values, dtype=np.float64)).all():
        raise ValueError(f"{name} {str(list(values))[:80]} is not {count} finite numbers")
    return np.array(values, dtype=np.float64)
