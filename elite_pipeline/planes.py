"""Distances, connected pieces and borders in images: SciPy's, with the types that its signatures leave open."""

from typing import Any

import numpy as np


def distance_to(points: np.ndarray) -> np.ndarray:
    """(H, W) float64 pixels to the nearest pixel of `points`, (H, W) bool, which has one at least."""
    from scipy.ndimage import distance_transform_edt

    found: Any = distance_transform_edt(~points)
    return found


def nearest_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`distance_to` the nearest pixel of `points`, and that pixel's row and column, (H, W) int32 each."""
    from scipy.ndimage import distance_transform_edt

    found: Any = distance_transform_edt(~points, return_indices=True)
    distance, (row, column) = found
    return distance, row, column


def connected(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """(H, W) int32 numbers of the pieces of `mask`, (H, W) bool, that touch at edges, from 1 on, and how many."""
    from scipy.ndimage import label

    found: Any = label(mask)
    return found


def bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around `mask`, (H, W) bool, which has a pixel at least."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def border(region: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of `region` (H, W) with a neighbour, of four, in another region."""
    result = np.zeros(region.shape, bool)
    vertical = region[1:] != region[:-1]
    horizontal = region[:, 1:] != region[:, :-1]
    result[1:] |= vertical
    result[:-1] |= vertical
    result[:, 1:] |= horizontal
    result[:, :-1] |= horizontal
    return result
