"""Time the student on one core and a scan of real size: voxelisation, forward, backward, and their ratios.

python benchmarks/student.py [scan.bin]
"""

import sys
import time

import numpy as np
import torch

from elite_pipeline.student.spvcnn import SPVCNN
from elite_pipeline.student.voxels import Pyramid

VOLUME = ((-50.0, 50.0), (-50.0, 50.0), (-4.0, 2.0))


def scan(points=120_000):
    """Return a scan of 64 beams over a plane and walls, (N, 4) float32."""
    rng = np.random.default_rng(0)
    azimuth = np.tile(np.linspace(-np.pi, np.pi, points // 64, endpoint=False), 64)
    elevation = np.repeat(np.radians(np.linspace(2, -24.8, 64)), points // 64)
    wall = 8 + 30 * np.abs(np.sin(3 * azimuth)) + rng.normal(0, 0.02, len(azimuth))
    ground = np.where(elevation < 0, -1.73 / np.sin(np.minimum(elevation, -1e-6)), np.inf)
    distance = np.minimum(ground, wall / np.cos(elevation))
    flat = distance * np.cos(elevation)
    xyz = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)], axis=1)
    return np.column_stack([xyz, rng.random(len(xyz))]).astype(np.float32)


def unique_rows(points, voxel_size, strides):
    """Voxelise in the usual way: `torch.unique` of coordinate rows at every stride."""
    low, high = torch.tensor(VOLUME).T
    cells = ((torch.minimum(torch.maximum(points[:, :3], low), high) - low) / voxel_size).long()
    return [torch.unique(cells // stride, dim=0, return_inverse=True, return_counts=True) for stride in strides]


def milliseconds(function, repeats=5):
    """Return the least CPU time over `repeats` calls in ms, which excludes other work on the machine."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - start))
    return min(times)


def main():
    """Print the tables."""
    torch.set_num_threads(1)
    points = scan() if len(sys.argv) == 1 else np.fromfile(sys.argv[1], np.float32).reshape(-1, 4)
    points, strides = torch.from_numpy(points), [2, 4, 8, 16]
    whose = torch.zeros(len(points), dtype=torch.int64)
    packed = milliseconds(lambda: Pyramid(points, whose, scans=1, voxel_size=0.1, volume=VOLUME, strides=strides))
    rows = milliseconds(lambda: unique_rows(points, 0.1, [1, *strides]), repeats=1)
    print(
        f"{len(points):,} points, 5 scales: packed keys {packed:.1f} ms, unique rows {rows:.0f} ({rows / packed:.0f} x)"
    )
    print(
        f"{'voxel':>6}{'width':>6}{'voxels':>8}{'infer, ms':>11}{'forward':>9}{'backward':>10}{'backward/forward':>18}"
    )
    for voxel_size in (0.1, 0.2):
        for width in (32, 64):
            network = SPVCNN(voxel_size=voxel_size, volume=VOLUME, scales=strides, width=width, classes=20)
            pyramid = network.voxelise(points)
            infer, forward, both = _network(network, pyramid)
            row = f"{voxel_size:6.1f}{width:6d}{len(pyramid[1]):8d}{infer:11.0f}{forward:9.0f}{both - forward:10.0f}"
            print(f"{row}{both / forward - 1:18.2f}")


def _network(network, pyramid):
    both = milliseconds(lambda: network(pyramid).logits.sum().backward(), repeats=3)
    forward = milliseconds(lambda: network(pyramid), repeats=3)
    network.eval()
    with torch.inference_mode():
        return milliseconds(lambda: network(pyramid), repeats=3), forward, both


if __name__ == "__main__":
    main()
