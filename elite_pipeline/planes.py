"""Distances, connected components and borders in images. Typed wrappers of SciPy functions, whose types are open."""

from typing import Any

import numpy as np


def distance_to(points: np.ndarray) -> np.ndarray:
    """Returns each pixel's distance to the nearest true pixel of `points`: (H, W) float64, in pixels.

    points: (H, W) bool, with at least one true pixel.
    """
    from scipy.ndimage import distance_transform_edt

    found: Any = distance_transform_edt(~points)
    return found


def nearest_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns `distance_to(points)`, and the row and the column of that nearest pixel, (H, W) int32 each."""
    from scipy.ndimage import distance_transform_edt

    found: Any = distance_transform_edt(~points, return_indices=True)
    distance, (row, column) = found
    return distance, row, column


def connected(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the components of `mask` (H, W) bool, numbered from 1 (0: outside) as (H, W) int32, and their number.

    Pixels of one component touch at edges (4-connectivity).
    """
    from scipy.ndimage import label

    found: Any = label(mask)
    return found


def bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """Returns the rows and columns of the smallest box around `mask` (H, W) bool, which has at least one true pixel."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def border(region: np.ndarray) -> np.ndarray:
    """Returns the pixels of `region` (H, W) with one of their four neighbours in another region: (H, W) bool."""
    result = np.zeros(region.shape, bool)
    vertical = region[1:] != region[:-1]
    horizontal = region[:, 1:] != region[:, :-1]
    result[1:] |= vertical
    result[:-1] |= vertical
    result[:, 1:] |= horizontal
    result[:, :-1] |= horizontal
    return result
