"""Writes a small nuImages by hand, and nuScenes' class table, for tests."""

import json

import numpy as np
import yaml
from PIL import Image

from elite_pipeline.datasets.nuimages_tables import CATEGORIES
from elite_pipeline.datasets.run_lengths import encode

LOOKUP = [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]
"""nuScenes' raw id -> training id."""

NAMES = [
    *("ignore", "barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone"),
    *("trailer", "truck", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation"),
]
UNKNOWN = ["other_flat", "sidewalk", "terrain", "manmade", "vegetation"]

WIDTH, HEIGHT = 48, 32


def write_nuscenes_table(path):
    """Write nuScenes' 17 training classes as a class table."""
    inverse = {training: LOOKUP.index(training) for training in range(17)}
    table = {
        "labels": {raw: NAMES[training] for training, raw in inverse.items()},
        "color_map": {raw: [0, 0, training] for training, raw in inverse.items()},
        "learning_map": dict(enumerate(LOOKUP)),
        "learning_map_inv": inverse,
        "learning_ignore": {training: training == 0 for training in range(17)},
        "things": NAMES[1:11],
    }
    path.write_text(yaml.safe_dump(table))
    return path


def box(left, top, right, bottom, size=(HEIGHT, WIDTH)):
    """A mask (H, W) bool of a box."""
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def write_nuimages(folder, versions=("v1.0-train", "v1.0-val"), images=3, distortion=(0.0,) * 5):
    """Write `images` images in each version. Image k has road below row 16 and a car of 8 + k columns on it."""
    (folder / "samples/CAM_FRONT").mkdir(parents=True, exist_ok=True)
    category = [{"token": f"c{raw}", "name": name, "description": ""} for name, raw in CATEGORIES.items()]
    for version in versions:
        tables = {name: [] for name in ("sample", "sample_data", "object_ann", "surface_ann")}
        for k in range(images):
            name, picture = f"{version[5:]}-log__CAM_FRONT__{k:016d}", f"{version[5:]}p{k}"
            file = f"samples/CAM_FRONT/{name}.jpg"
            pixels = np.random.default_rng(k).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / file, quality=95)
            shared = {"calibrated_sensor_token": "k0", "height": HEIGHT, "width": WIDTH, "fileformat": "jpg"}
            # The table has its rows in another order than the names have.
            tables["sample"].insert(
                0, {"token": f"s{k}", "timestamp": k, "log_token": "l0", "key_camera_token": picture}
            )
            tables["sample_data"].insert(0, {"token": picture, "sample_token": f"s{k}", "filename": file, **shared})
            sweep = f"sweeps/CAM_FRONT/{name}.jpg"
            tables["sample_data"].insert(
                0, {"token": f"{picture}s", "sample_token": f"s{k}", "filename": sweep, **shared}
            )
            of = {"sample_data_token": picture}
            road, car = encode(box(0, 16, WIDTH, HEIGHT)), encode(box(4, 12, 12 + k, 24))
            tables["surface_ann"].append({"token": f"{picture}r", **of, "category_token": "c24", "mask": road})
            of |= {"attribute_tokens": [], "bbox": [4, 12, 12 + k, 24]}
            tables["object_ann"].append({"token": f"{picture}o", **of, "category_token": "c17", "mask": car})
        tables["category"] = category
        intrinsics = [[40.0, 0.0, 24.0], [0.0, 40.0, 16.0], [0.0, 0.0, 1.0]]
        tables["calibrated_sensor"] = [
            {"token": "k0", "sensor_token": "n0", "camera_intrinsic": intrinsics, "camera_distortion": list(distortion)}
        ]
        (folder / version).mkdir(exist_ok=True)
        for name, rows in tables.items():
            (folder / version / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return folder


def edit(table, change):
    """Give the rows of a table to `change`, and write what it returns, or the rows that it changed."""
    rows = json.loads(table.read_text())
    table.write_text(json.dumps(change(rows) or rows, indent=0))
