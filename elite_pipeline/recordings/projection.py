"""LiDAR points in camera images: pixels, depth, and which points the camera really sees."""

from collections.abc import Sequence

import numpy as np

from elite_pipeline.datasets import Camera

REFERENCE_WIDTH = 1241
"""Pixels: the width of a KITTI image, for which the cell of the z-buffer is given."""


def project(
    points: np.ndarray, camera: Camera, size: Sequence[int], min_depth: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of a scan that fall into an image.

    points: (N, >=3) float, metres, LiDAR frame. size: (height, width) of the image, pixels. min_depth: metres along the
    camera's z axis below which a point is left out.
    Returns (point, pixel, depth): (M,) uint32 indices into `points`, (M, 2) float32 (u right, v down) with
    0 <= u < width and 0 <= v < height, (M,) float32 metres along the camera's z axis. Equal to KITTI's
    `P @ Tr @ x` with the full P, whose fourth column is part of `camera_from_lidar` (see `datasets.Camera`).
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
    """Which projected points no nearer surface hides, by a z-buffer.

    LiDAR points are sparse in an image, so a near surface is a net, and a far point shows through its meshes. Each
    point therefore covers its cell of the z-buffer and the eight around it: 1.5 cells to each side, which should be
    about the gap between rays.

    pixel: (M, 2) float32, (u, v). depth: (M,) float32, metres. size: (height, width) of the image in pixels. cell: edge
    of a cell in pixels of an image `REFERENCE_WIDTH` wide. tolerance: a point is hidden behind a surface that is nearer
    than (1 - tolerance) times its own depth; what slopes less is one surface. Returns (M,) bool.
    """
    height, width = size
    edge = cell * width / REFERENCE_WIDTH
    # A border of one cell: every cell has eight neighbours.
    nearest = np.full((int(height / edge) + 3, int(width / edge) + 3), np.inf, dtype=np.float32)
    column, row = (pixel / edge).astype(np.intp).T + 1
    np.minimum.at(nearest, (row, column), depth)
    across = np.minimum(np.minimum(nearest[:, :-2], nearest[:, 1:-1]), nearest[:, 2:])
    around = np.minimum(np.minimum(across[:-2], across[1:-1]), across[2:])
    return around[row - 1, column - 1] >= depth * (1 - tolerance)
