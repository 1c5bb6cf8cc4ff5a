"""Undoes the distortion of a lens in images and label maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image

CELL = 25
"""Side of a cell of the mesh, pixels. Inside a cell the distortion is interpolated: 0.06 pixels off at 1600 x 900."""

Mesh = list[tuple[tuple[int, int, int, int], tuple[float, ...]]]
"""For `PIL.Image.transform`: (box in the new image, its four corners in the old image)."""


@dataclass(frozen=True)
class Lens:
    """A camera with the radial and tangential distortion of the Caltech toolbox and of OpenCV."""

    intrinsics: tuple[float, float, float, float]
    """fx, fy, cx, cy in pixels. The undistorted image has the same."""
    coefficients: tuple[float, float, float, float, float]
    """k1, k2, p1, p2, k3, for distances from the centre in units of the focal length."""

    def distorted(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns where the pixels (u, v) of the undistorted image are in the image of the lens. Pixels, any shape."""
        fx, fy, cx, cy = self.intrinsics
        k1, k2, p1, p2, k3 = self.coefficients
        x, y = (u - cx) / fx, (v - cy) / fy
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return (
            fx * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)) + cx,
            fy * (y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y) + cy,
        )

    def undistort(self, picture: Image.Image, *, labels: bool = False) -> Image.Image:
        """Returns the picture without distortion, of the same size. Pixels that the lens did not see are 0.

        labels: the nearest pixel is taken, and not a mixture of four.
        """
        how = Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR
        return picture.transform(picture.size, Image.Transform.MESH, self._mesh(*picture.size), how)

    def _mesh(self, width: int, height: int) -> Mesh:
        columns, rows = _edges(width), _edges(height)
        corners = np.stack(self.distorted(*np.meshgrid(columns.astype(float), rows.astype(float))), axis=-1)
        # Pillow's order: upper left, lower left, lower right, upper right.
        quads = np.concatenate([corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]], axis=-1)
        return [
            ((int(left), int(top), int(right), int(bottom)), tuple(quads[i, j].tolist()))
            for i, (top, bottom) in enumerate(pairwise(rows))
            for j, (left, right) in enumerate(pairwise(columns))
        ]


def lens_of(intrinsics: Sequence[Sequence[float]], coefficients: Sequence[float]) -> Lens | None:
    """Returns the lens of a calibration; None if it has no distortion.

    intrinsics: 3x3, pixels. coefficients: k1, k2, p1, p2, k3; missing ones are 0, and further ones are not read (see
    `has_known_formula`). Raises `ValueError` for other values.
    """
    (fx, _, cx), (_, fy, cy), _ = intrinsics
    five = [float(value) for value in [*coefficients, 0, 0, 0, 0, 0][:5]]
    if not np.isfinite([*five, fx, fy, cx, cy]).all() or fx <= 0 or fy <= 0:
        raise ValueError("intrinsics or distortion are no numbers of a camera")
    k1, k2, p1, p2, k3 = five
    return Lens((float(fx), float(fy), float(cx), float(cy)), (k1, k2, p1, p2, k3)) if any(five) else None


def has_known_formula(coefficients: Sequence[float]) -> bool:
    """Returns whether `Lens` is the formula of these coefficients. nuImages does not publish that of a sixth one."""
    return not any(coefficients[5:])


@cache
def is_one_to_one(lens: Lens, width: int, height: int) -> bool:
    """Returns whether no two pixels of an image of this size come from one place. Wrong coefficients fold the image."""
    x, y = lens.distorted(*np.meshgrid(_edges(width), _edges(height)))
    return bool((np.diff(x, axis=1) > 0).all() and (np.diff(y, axis=0) > 0).all())


def _edges(length: int) -> np.ndarray:
    """The edges of the cells along a side of `length` pixels, int64."""
    return np.append(np.arange(0, length, CELL), length)
