"""Fixtures that several tests share: a tiny drive on disk, and the real sample frames where they lie."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent

CALIBRATION = """\
P0: 100 0 40 0 0 100 20 0 0 0 1 0
P1: 100 0 40 -50 0 100 20 0 0 0 1 0
P2: 100 0 40 10 0 100 20 -1 0 0 1 0.01
P3: 100 0 40 -30 0 100 20 2 0 0 1 0.005
Tr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""


@pytest.fixture
def drive(tmp_path):
    """A sequence folder in SemanticKITTI's layout: 3 scans of 500 points around the sensor, images of 80 x 40."""
    folder = tmp_path / "sequences" / "00"
    rng = np.random.default_rng(0)
    for name in ("velodyne", "labels", "image_2"):
        (folder / name).mkdir(parents=True)
    (folder / "calib.txt").write_text(CALIBRATION)
    for k in range(3):
        points = rng.uniform((-20, -20, -2, 0), (20, 20, 2, 1), size=(500, 4)).astype(np.float32)
        points.tofile(folder / "velodyne" / f"{k:06d}.bin")
        raw = rng.choice([0, 10, 40, 48, 50, 70, 252], size=500).astype(np.uint32) | (7 << 16)
        raw.tofile(folder / "labels" / f"{k:06d}.label")
        image = rng.integers(0, 255, size=(40, 80, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "image_2" / f"{k:06d}.png")
    return folder


@pytest.fixture(scope="session")
def sample():
    """The folder with four real SemanticKITTI frames; it is not part of the repository."""
    places = [os.environ.get("ELITE_SAMPLE"), ROOT / "data/sample", ROOT.parent / "shared/data/semantickitti_sample"]
    for place in filter(None, places):
        if (Path(place) / "sequences/00/velodyne/000000.bin").exists():
            return Path(place)
    pytest.skip("no real frames: link a folder with sequences/00 and 08 as data/sample, or set ELITE_SAMPLE")


@pytest.fixture(scope="session")
def simulated_drive(tmp_path_factory):
    """A sequence folder of the demo's simulated world: 4 frames at the demo's size, with truth."""
    from elite_pipeline.config import SimulateDrive
    from elite_pipeline.simulation.drive import write_drive

    folder = tmp_path_factory.mktemp("demo") / "sequences" / "00"
    settings = SimulateDrive(seed=0, frames=4, spacing=8.0, beams=64, columns=1024, image_width=512, image_height=160)
    write_drive(folder, "00", settings)
    return folder
