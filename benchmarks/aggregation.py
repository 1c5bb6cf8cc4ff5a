"""Time of aggregation per frame, and its memory, along a drive of any length.

    python benchmarks/aggregation.py [--frames 300] [--columns 2048] [--out benchmarks/results/aggregation.json]

One simulated scan of 64 beams is driven along, one metre per frame, with random soft labels at the points that a camera
ahead sees. So windows are as full as on a real drive. CPU time of one thread, because other programs may run beside it.
The first half of the frames fills the window.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from elite_pipeline import provenance
from elite_pipeline.aggregation.soft_targets import Aggregation, Seen
from elite_pipeline.config import SimulateDrive, read
from elite_pipeline.datasets import open_recording
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.simulation import write_drive


def scan(columns):
    """(points (N, 4), visible points (M,)) of one simulated scan."""
    settings = {"seed": 0, "frames": 1, "spacing": 4.0, "image_width": 64, "image_height": 32}
    with tempfile.TemporaryDirectory() as folder:
        write_drive(Path(folder, "sequences/00"), "00", SimulateDrive(beams=64, columns=columns, **settings))
        recording = open_recording(Path(folder), "00", "semantickitti", class_table("semantickitti"), {"image_2": "P2"})
        points = recording.points("000000").copy()
    angle = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    return points, np.flatnonzero(np.abs(angle) < 30)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--frames", type=int, default=300)
    arguments.add_argument("--columns", type=int, default=2048)
    arguments.add_argument("--out", type=Path)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    classes, settings = class_table("semantickitti"), read(Path("config.yaml")).aggregate_targets
    points, visible = scan(options.columns)
    poses = np.tile(np.eye(4), (options.frames, 1, 1))
    poses[:, 0, 3] = np.arange(options.frames)
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 3, (len(visible), len(classes))).astype(np.float32))
    logits[:, 0] = -30
    probabilities = logits.softmax(1)
    depth, camera = points[visible, 0], np.zeros(len(visible), int)
    aggregation = Aggregation(settings, classes, poses, lambda f: Seen(points, visible, probabilities, depth, camera))
    seconds, memory, reached = [], [], []
    for f in range(options.frames):
        began = time.process_time()
        reached.append(len(aggregation.found(f).point))
        seconds.append(time.process_time() - began)
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    half = len(seconds) // 2
    result = {
        "points": len(points),
        "visible": len(visible),
        "frames": options.frames,
        "reached": float(np.mean(reached[half:])),
        "milliseconds": 1000 * float(np.median(seconds[half:])),
        "milliseconds_per_120000_points": 1000 * float(np.median(seconds[half:])) * 120_000 / len(points),
        "gib_after_half": memory[half],
        "gib_at_the_end": memory[-1],
        "settings": settings.model_dump(mode="json"),
        "device": provenance.device_name(),
        "commit": provenance.commit(),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
