"""Time the simulation on one thread: milliseconds of processor time per world, instant, image and scan.

python benchmarks/simulation.py [--quick]
"""

import argparse
import os
import time

os.environ["OMP_NUM_THREADS"] = "1"  # read when NumPy is imported

import numpy as np

from elite_pipeline.config import SimulateDrive
from elite_pipeline.simulation.calibration import kitti_calibration
from elite_pipeline.simulation.camera import photograph, pinhole
from elite_pipeline.simulation.drive import AHEAD, drive_world, seen_by_camera, velodyne_pose
from elite_pipeline.simulation.lidar import Lidar, scan
from elite_pipeline.simulation.scene import Scene
from elite_pipeline.simulation.views import random_views

(CAMERA,) = AHEAD.values()
SIZES = ((64, 1024, 512, 160), (64, 2048, 1241, 376))
FRAMES = 12
QUICK = ((8, 64, 64, 24),)
"""Beams, columns, width and height for `--quick`."""


def settle(scene: Scene, when: float) -> None:
    """Move the scene to the time `when` in seconds and cast a ray, which makes Embree build its trees."""
    scene.set_time(when)
    scene.distance(np.zeros(3), np.ones((1, 3), np.float32))


def main() -> None:
    """Print the median and the least time of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to see that this runs")
    quick = parser.parse_args().quick
    frames, worlds = (1, 1) if quick else (FRAMES, 4)
    next(random_views(0, 1, 64, 24))  # warm-up: imports Open3D, computes the noise tables
    for beams, columns, width, height in QUICK if quick else SIZES:
        settings = SimulateDrive(
            seed=1,
            frames=frames,
            spacing=6.0,
            beams=beams,
            columns=columns,
            image_width=width,
            image_height=height,
        )
        spent: dict[str, list[float]] = {}

        def timed(name, function, *arguments, spent=spent):
            start = time.process_time()
            result = function(*arguments)
            spent.setdefault(name, []).append(1000 * (time.process_time() - start))
            return result

        world, rng = timed("world", drive_world, "00", settings)
        scene = Scene(world)
        calibration = kitti_calibration(width, height)
        camera, lidar = pinhole(calibration.projection[CAMERA], width, height), Lidar(beams, columns)
        mount = np.linalg.inv(calibration.camera0_from_velodyne) @ calibration.camera0_from_camera(CAMERA)
        timed("standing geometry", settle, scene, 0.0)
        for frame in range(frames):
            pose = velodyne_pose(world, 0.75 * frame)
            timed("instant", settle, scene, 0.75 * frame)
            timed(f"image {width} x {height}", photograph, scene, camera, pose @ mount, rng)
            turn = timed(f"scan {beams} x {columns}", scan, scene, lidar, pose, rng)
            timed("visibility", seen_by_camera, scene, turn, pose, calibration, CAMERA)
        for name, values in spent.items():
            print(f"{name:20s} {np.median(values):7.1f} ms, fastest {np.min(values):7.1f}")
    start = time.process_time()
    views = sum(1 for seed in range(worlds) for _ in random_views(seed, 4, 512, 160))
    print(f"random_views 512 x 160, 4 per world: {1000 * (time.process_time() - start) / views:.0f} ms per view")


if __name__ == "__main__":
    main()
