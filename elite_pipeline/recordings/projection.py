"""LiDAR points in camera images: their pixels, their depth, and whether the camera really sees them."""

from collections.abc import Sequence

import numpy as np

from elite_pipeline.datasets import Camera

REFERENCE_WIDTH = 1241
"""Width of a KITTI image in pixels. The cell size of the z-buffer is given for this width."""


def project(
    points: np.ndarray, camera: Camera, size: Sequence[int], min_depth: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points of a scan that fall into an image.

    points: (N, >=3) float, metres, LiDAR frame. size: (height, width) of the image, pixels. min_depth: metres along the
    camera's z axis. Nearer points are left out.
    Returns (point, pixel, depth): (M,) uint32 indices into `points`, (M, 2) float32 (u right, v down) with
    0 <= u < width and 0 <= v < height, (M,) float32 metres along the camera's z axis.
    The result equals KITTI's `P @ Tr @ x` with the full P. The fourth column of P is part of `camera_from_lidar` (see
    `datasets.Camera`).
    """
    height, width = size
    image_from_lidar = (camera.intrinsics @ camera.camera_from_lidar[:3]).astype(np.float32)
    # One axis at a time on contiguous memory: three times faster than (N, 4) @ (4, 3) in float64.
    x, y, z = np.ascontiguousarray(points[:, :3].T, dtype=np.float32)
    depth = _row(image_from_lidar[2], x, y, z)
    ahead = np.flatnonzero(depth >= min_depth)
    x, y, z, depth = x[ahead], y[ahead], z[ahead], depth[ahead]
    u = _row(image_from_lidar[0], x, y, z) / depth
    v = _row(image_from_lidar[1], x, y, z) / depth
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return ahead[inside].astype(np.uint32), np.stack([u[inside], v[inside]], axis=1), depth[inside]


def _row(coefficients: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    a, b, c, d = coefficients
    return a * x + b * y + c * z + d


def visible(pixel: np.ndarray, depth: np.ndarray, size: Sequence[int], cell: float, tolerance: float) -> np.ndarray:
    """(M,) bool: whether each projected point is visible, that is, not hidden by a nearer surface. Uses a z-buffer.

    LiDAR points are sparse in an image: a near surface is like a net, and far points show through its holes. Therefore
    each point covers its own cell of the z-buffer and the eight cells around it. That is 1.5 cells to each side, which
    should be about the gap between rays.

    pixel: (M, 2) float32, (u, v). depth: (M,) float32, metres. size: (height, width) of the image in pixels.
    cell: edge of a cell in pixels, for an image of width `REFERENCE_WIDTH`.
    tolerance: a point is hidden if a surface in front of it is nearer than (1 - tolerance) times the depth of the
    point. Smaller differences in depth count as the slope of one surface.
    """
    height, width = size
    edge = cell * width / REFERENCE_WIDTH
    # With a border of one cell, every cell has eight neighbours.
    nearest = np.full((int(height / edge) + 3, int(width / edge) + 3), np.inf, dtype=np.float32)
    column, row = (pixel / edge).astype(np.intp).T + 1
    np.minimum.at(nearest, (row, column), depth)
    across = np.minimum(np.minimum(nearest[:, :-2], nearest[:, 1:-1]), nearest[:, 2:])
    around = np.minimum(np.minimum(across[:-2], across[1:-1]), across[2:])
    return around[row - 1, column - 1] >= depth * (1 - tolerance)
