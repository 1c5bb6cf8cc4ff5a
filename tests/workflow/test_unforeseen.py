"""A user's own data set, from files to mIoU, predictions and model card, without any new Python code.

The data set is a warehouse. Its five classes come from its own YAML file, its drives are drive-a and drive-b, frames
are named by time, and a grey camera `front` has the matrix K_front.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]

CLASSES = {
    "labels": {0: "void", 7: "floor", 8: "wet-floor", 300: "rack", 301: "pallet", 512: "person", 600: "forklift"},
    "color_map": {0: [0, 0, 0], 7: [9, 99, 200], 300: [200, 9, 9], 301: [9, 200, 9], 512: [0, 0, 255], 600: [9, 9, 9]},
    "learning_map": {0: 0, 7: 1, 8: 1, 300: 2, 301: 3, 512: 4, 600: 5},
    "learning_map_inv": {0: 0, 1: 7, 2: 300, 3: 301, 4: 512, 5: 600},
    "learning_ignore": {0: True, 1: False, 2: False, 3: False, 4: False, 5: False},
    "things": ["pallet", "person", "forklift"],
}
CALIBRATION = "K_front: 60 0 64 0 0 60 32 0 0 0 1 0\nmount: this line is not for us\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
FRAMES = ["1700000000.0", "1700000000.5", "1700000001.0"]

CONFIG = {
    "experiments": {"own": {"dataset": "warehouse", "teacher": "small", "student": "small"}},
    "datasets": {
        "warehouse": {
            "format": "semantickitti",
            "classes": "classes.yaml",
            "cameras": {"front": "K_front"},
            "poses": "none",
            "train": ["drive-a"],
            "val": ["drive-b"],
            "label_images": {"labeller": "nearest", "nearest": {"radius": 6.0}},
        }
    },
}


def write_drive(folder, rng):
    """Writes three labelled scans of a floor with objects on it, and the images of a grey camera."""
    for part in ("velodyne", "labels", "front"):
        (folder / part).mkdir(parents=True)
    (folder / "calib.txt").write_text(CALIBRATION)
    for frame in FRAMES:
        floor = rng.uniform((-12, -12, -1.5), (12, 12, -1.45), (1500, 3))
        ids = [np.where(rng.random(1500) < 0.2, 8, 7)]
        points = [floor]
        for raw, size in ((300, (1, 3, 3)), (301, (1, 1, 0.3)), (512, (0.4, 0.4, 1.7)), (600, (2, 1, 2))):
            place = np.append(rng.uniform(3, 10), rng.uniform(-4, 4))
            thing = rng.uniform(0, 1, (300, 3)) * size + np.append(place, -1.5)
            points.append(thing)
            ids.append(np.full(300, raw))
        points, raw = np.concatenate(points), np.concatenate(ids).astype(np.uint32)
        instance = np.where(raw >= 300, raw, 0).astype(np.uint32)
        scan = np.column_stack([points, rng.uniform(0, 1, len(points))]).astype(np.float32)
        scan.tofile(folder / "velodyne" / f"{frame}.bin")
        (raw | instance << 16).tofile(folder / "labels" / f"{frame}.label")
        grey = rng.integers(0, 255, (64, 128), dtype=np.uint8)
        Image.fromarray(grey, "L").save(folder / "front" / f"{frame}.png")


@pytest.fixture
def warehouse(tmp_path):
    """A working directory with the data set, its class table and its configuration."""
    rng = np.random.default_rng(0)
    for sequence in ("drive-a", "drive-b"):
        write_drive(tmp_path / "data/warehouse/sequences" / sequence, rng)
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(CLASSES))
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    small = config["teachers"]["sam_tiny"] | {"longest_side": 128, "cache_teacher": {"targets": ["logits"], "batch": 2}}
    small["tune_teacher"] = small["tune_teacher"] | {"steps": 4, "batch": 2, "warmup": 1}
    student = config["students"]["elite_demo"]
    student["network"] |= {"volume": [[-16.0, 16.0], [-16.0, 16.0], [-4.0, 4.0]], "scales": [2, 4, 8, 16]}
    student["train_student"] |= {"epochs": 20, "batch": 2, "warmup": 2}
    student["augmentation"] |= {"polar_mix": 0.5}
    student["losses"] |= {"targets": "frame"}
    config["teachers"]["small"], config["students"]["small"] = small, student
    config["measure_latency"] |= {"warmup": 1, "scans": 2}
    config |= {section: config[section] | entries for section, entries in CONFIG.items()}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


TARGETS = ["results/own_miou.json", "results/own_predictions", "models/own/README.md"]


def test_five_classes_of_a_warehouse(warehouse, snakemake):
    given = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(warehouse)]
    output = snakemake(warehouse, *given, *TARGETS)
    assert "100%" in output, output
    miou = json.loads((warehouse / "results/own_miou.json").read_text())
    assert list(miou["iou"]) == ["floor", "rack", "pallet", "person", "forklift"]
    assert miou["sequences"] == ["drive-b"]
    assert miou["trained_on"] == ["drive-a"]
    assert miou["iou"]["floor"] > 0.8, "the floor is easy to recognise"
    assert miou["colours"]["floor"] == "#c86309", "the table's colours are BGR"
    assert len(miou["confusion"]) == 6
    model = json.loads((warehouse / "models/own/config.json").read_text())
    assert model["classes"]["names"] == ["void", "floor", "rack", "pallet", "person", "forklift"]
    card = (warehouse / "models/own/README.md").read_text()
    assert "1 floor, 2 rack, 3 pallet, 4 person, 5 forklift" in card
    written = sorted(warehouse.glob("results/own_predictions/sequences/drive-b/predictions/*.label"))
    assert [path.stem for path in written] == FRAMES
    predicted = np.concatenate([np.fromfile(path, np.uint32) for path in written])
    assert set(np.unique(predicted)) <= {7, 300, 301, 512, 600}
    truth = np.fromfile(warehouse / "data/warehouse/sequences/drive-b/labels" / f"{FRAMES[0]}.label", np.uint32)
    assert len(truth) == written[0].stat().st_size // 4
    assert "Nothing to be done" in snakemake(warehouse, *given, *TARGETS)

    # With another class table the labels mean other classes: the index and everything after it is made again.
    without_wet_floor = CLASSES | {"learning_map": CLASSES["learning_map"] | {8: 0}}
    (warehouse / "classes.yaml").write_text(yaml.safe_dump(without_wet_floor))
    rules = set(re.findall(r"^rule (\w+):$", snakemake(warehouse, *given, "-n", TARGETS[0]), re.MULTILINE))
    assert {"index_frames", "project_points", "train_student", "evaluate_miou"} <= rules


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"learning_map": {0: 0, 7: 1}},
            "learning_map_inv: maps 2 to 300, but learning_map maps that to another class",
        ),
        ({"things": ["crane"]}, "things: 'crane' is not a class"),
        ({"color_map": {}}, "color_map: missing, or not a mapping"),
    ],
)
def test_a_wrong_class_table_is_refused_before_any_job(warehouse, snakemake, change, message):
    (warehouse / "classes.yaml").write_text(yaml.safe_dump(CLASSES | change))
    output = snakemake(warehouse, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(warehouse), TARGETS[0])
    assert f"config.yaml: datasets.warehouse.classes: classes.yaml: {message}" in output
    assert "Traceback" not in output
    assert not (warehouse / "cache").exists()
