"""mIoU results on disk, for tests of comparisons."""

import json

import numpy as np

from elite_pipeline.datasets.classes import class_table

CLASSES = class_table("semantickitti").names


def confusions(right):
    """Confusion matrices of two places: 300 points of cars and 900 of road, `right` of the road's rightly predicted."""
    places = {"08": np.zeros((20, 20), dtype=int), "09": np.zeros((20, 20), dtype=int)}
    places["08"][1, 1], places["08"][0, 9] = 300, 50
    places["09"][9, 9], places["09"][9, 1] = right, 900 - right
    return places


def write_miou(folder, experiment, seed, miou):
    """Writes an mIoU result: 10 of 100 scans labelled; IoU of road is `miou`, of car 0.1 more; no other classes."""
    places = confusions(850 if experiment == "taught" else 800)
    path = folder / f"{experiment}-seed{seed}_miou.json"
    result = {
        "experiment": f"{experiment}-seed{seed}",
        "dataset": "streets_10",
        **{"labels_seed": None, "split": "val", "sequences": ["08", "09"]},
        "miou": miou,
        "iou": dict.fromkeys(CLASSES[1:], 0.0) | {"car": miou + 0.1, "road": miou},
        **{"accuracy": miou + 0.5, "miou_frequent": miou + 0.2, "frequent_classes": ["road"], "presentations": 600},
        **{"miou_seen": miou + 0.05, "miou_unseen": miou - 0.05},
        "confusion": sum(places.values()).tolist(),
        "places": {place: counts.tolist() for place, counts in places.items()},
        **{"points": 1250, "scans": 6, "tta": False, "steps": 1200, "labelled_scans": 10, "training_scans": 100},
        "taught": experiment == "taught",
        "config": {"network": {"width": 8}, "train_student": {"seed": seed, "steps": 1200}},
        **{"commit": "abc", "device": "a machine"},
    }
    path.write_text(json.dumps(result))
    return path


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
