"""The official nuscenes-devkit loads simulated tables of nuImages, and composes the same labels as our reader."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from small_nuimages import edit

from elite_pipeline.config.validation import flatten
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.nuimages import open_nuimages
from elite_pipeline.datasets.run_lengths import counts_of, decode, encode
from elite_pipeline.stages import simulate_images

CLASSES = class_table("nuscenes")
WIDTH, HEIGHT = 160, 90
SETTINGS = {"seed": 6, "worlds": 2, "views_per_world": 2, "image_width": WIDTH, "image_height": HEIGHT}
WRITTEN = {"classes": "nuscenes", "format": "nuimages", "held_out": 0.5}
GROWN = 6
"""Pixels."""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A data set of the stage. In v1.0-val, objects are made larger, so that they overlap, and the last has no mask."""
    folder = tmp_path_factory.mktemp("data") / "nuimages"
    simulate_images.main(["--out", str(folder), *flatten(SETTINGS | WRITTEN)])
    edit(folder / "v1.0-val/object_ann.json", grow)
    return folder


def grow(rows):
    shown = sum(binary_dilation(mask(row), iterations=GROWN).astype(int) for row in rows)
    assert (shown > 1).any()
    for row in rows:
        row["mask"] = encode(binary_dilation(mask(row), iterations=GROWN))
    rows[-1]["mask"] = None


def mask(row):
    return decode(counts_of(row["mask"], HEIGHT, WIDTH), HEIGHT, WIDTH)


def test_labels_are_the_devkits(simulated, devkit_images, tmp_path):
    found = devkit_images(simulated, "v1.0-train", "v1.0-val", "--masks", tmp_path / "masks.npz")
    images = open_nuimages(simulated, CLASSES)
    assert [str(file.relative_to(simulated)) for file in images.files] == [
        file for files in found["images"].values() for file in sorted(files)
    ]
    assert [len(files) for files in found["images"].values()] == [2, 2]
    raw_ids = {name: raw for raw, name in CLASSES.raw_names.items()}
    training_ids = np.zeros(256, np.uint8)
    for value, name in found["categories"].items():
        training_ids[int(value)] = CLASSES.training_ids[raw_ids[name]]
    assert len(found["categories"]) == 25
    with np.load(tmp_path / "masks.npz") as masks:
        theirs = [training_ids[masks[str(file.relative_to(simulated))]] for file in images.files]
    for k, labels in enumerate(theirs):
        assert labels.shape == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(images.labels(k), labels, images.files[k].name)
    classes = np.unique(theirs)
    print(f"\n{len(theirs)} images, {', '.join(CLASSES.names[k] for k in classes)}")
    assert len(classes) > 3
