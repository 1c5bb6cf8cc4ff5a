"""Time the projection and its z-buffer in ms per frame, on one core and a scan of real size (120,000 points)."""

import time

import numpy as np

from elite_pipeline.datasets import Camera
from elite_pipeline.recordings.projection import project, visible

INTRINSICS = np.array([[718.856, 0, 607.1928], [0, 718.856, 185.2157], [0, 0, 1]])
CAMERA_FROM_LIDAR = np.array([[0.0, -1, 0, 0.05], [0, 0, -1, -0.055], [1, 0, 0, -0.288], [0, 0, 0, 1]])
SIZE = (376, 1241)


def scan(points=120_000):
    """Return a scan of 64 beams over the full turn, at distances from 4 to 60 m."""
    rng = np.random.default_rng(0)
    azimuth = np.tile(np.linspace(-np.pi, np.pi, points // 64, endpoint=False), 64)
    elevation = np.repeat(np.radians(np.linspace(2, -24.8, 64)), points // 64)
    distance = rng.uniform(4, 60, len(azimuth))
    flat = distance * np.cos(elevation)
    return np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation), np.ones(len(azimuth))], axis=1
    ).astype(np.float32)


def milliseconds(function, repeats=50):
    """Return the median over `repeats` calls in ms."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def main():
    """Print the table."""
    points, camera = scan(), Camera("image_2", INTRINSICS, CAMERA_FROM_LIDAR)
    _, pixel, depth = project(points, camera, SIZE, 0.5)
    first = milliseconds(lambda: project(points, camera, SIZE, 0.5))
    second = milliseconds(lambda: visible(pixel, depth, SIZE, 2.5, 0.1))
    print(f"project {len(points)} points: {first:.2f} ms; z-buffer of {len(pixel)} in the image: {second:.2f} ms")
    print(f"together {first + second:.2f} ms of the 5 ms that a frame may take ({(first + second) / 5:.2f} of it)")


if __name__ == "__main__":
    main()
