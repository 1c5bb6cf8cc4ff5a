"""A sequence with every kind of gap, taken through the first stages, and an encoder with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elite_pipeline import config
from elite_pipeline.stages import index_frames, label_images, project_points
from elite_pipeline.validation import flatten

CAMERAS = 'cameras={"image_2": "P2", "image_0": "P0"}'


@pytest.fixture(scope="session")
def projection_settings():
    """`config.yaml`'s settings of `project_points`, as `key=json`."""
    settings = config.read(Path(__file__).parent.parent.parent / "config.yaml").project_points
    return flatten({"project_points": settings.model_dump(mode="json")})


@pytest.fixture
def recorded(drive, projection_settings, tmp_path):
    """`drive` with gaps, indexed and projected: {"sequence-folder", "frames", "projection"} -> path.

    image_2 is colour, 80 x 40, black in frame 0 and missing in frame 1; image_0 is grey, 64 x 30, and exists in frames
    1 and 2 only. Frame 2 is not labelled. In frame 1 every point is of one class.
    """
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(drive / "image_2/000000.png")
    (drive / "image_2/000001.png").unlink()
    (drive / "image_0").mkdir()
    for frame in ("000001", "000002"):
        grey = np.random.default_rng(5).integers(0, 255, (30, 64), dtype=np.uint8)
        Image.fromarray(grey).save(drive / "image_0" / f"{frame}.png")
    np.full(500, 40, dtype=np.uint32).tofile(drive / "labels/000001.label")
    (drive / "labels/000002.label").unlink()
    paths = {"sequence-folder": drive, "frames": tmp_path / "00.parquet", "projection": tmp_path / "projection.zarr"}
    needs = ["missing_images=true", "labels=false", "images=true"]
    index_frames.main([*options(paths, "sequence-folder"), "--out", str(paths["frames"]), CAMERAS, *needs])
    known = options(paths, "sequence-folder", "frames")
    project_points.main([*known, "--out", str(paths["projection"]), CAMERAS, *projection_settings])
    return paths


@pytest.fixture
def labelled(recorded, tmp_path):
    """`recorded` with "pseudo-labels"."""
    out = tmp_path / "pseudo_labels.zarr"
    label_images.main([*options(recorded), "--out", str(out), 'labeller="nearest"', "nearest.radius=4.0"])
    return {**recorded, "pseudo-labels": out}


@pytest.fixture(scope="session")
def random_sam(tmp_path_factory):
    """Settings (`key=json`) of `sam_tiny` with random weights: the packaged ones may be retrained any time."""
    import torch
    from safetensors.torch import save_file

    from elite_pipeline.teacher.sam import untrained_sam

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam") / "random.safetensors"
    save_file({name: value.contiguous() for name, value in untrained_sam("sam_tiny").state_dict().items()}, path)
    return ['encoder="sam_tiny"', f"checkpoint={json.dumps(str(path))}"]


def options(paths, *names):
    """Command line words for `names` (all by default) of `paths`."""
    return [word for name in names or paths for word in (f"--{name}", str(paths[name]))]
