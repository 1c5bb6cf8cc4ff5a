"""Has nuscenes-devkit judge a data set and predictions for it. Runs in the devkit's own environment, not in ours:

    .venv-judge/bin/python tests/judge/devkit.py data/demo_nuscenes v1.0-mini --split mini_val \\
        --results results/demo_nuscenes_predictions --pixels pixels.npz

Prints JSON: `scenes` (name -> number of keyframes) and, for each folder of `--results`, what its validator says
(`fault`, null if it is valid) and the scores of its evaluation, with null for NaN. A result with a fault is not scored.
`--pixels` gets an array for each keyframe of `--split` and each camera, named `<LIDAR_TOP token>/<channel>`: (3, n)
float64, u and v in pixels, and depth in metres, of the points that `map_pointcloud_to_image` shows, in their order.
"""

import argparse
import json
import math
import sys

import numpy as np
from nuscenes.eval.lidarseg.evaluate import LidarSegEval
from nuscenes.eval.lidarseg.utils import get_samples_in_eval_set
from nuscenes.eval.lidarseg.validate_submission import validate_submission
from nuscenes.nuscenes import NuScenes


def judged(tables, folder, split):
    """Return what the devkit says of the predictions in `folder`."""
    try:
        validate_submission(tables, folder, split)
    except AssertionError as error:
        return {"fault": str(error)}
    found = LidarSegEval(tables, folder, split).evaluate()
    iou = {name: None if math.isnan(value) else float(value) for name, value in found["iou_per_class"].items()}
    return {"fault": None, "iou": iou, "miou": float(found["miou"])}


def pixels(tables, samples):
    """Return {`<token>/<channel>`: (3, n)} of the keyframes in `samples`."""
    found = {}
    for token in samples:
        data = tables.get("sample", token)["data"]
        for channel in (name for name in data if name.startswith("CAM_")):
            shown, depth, _ = tables.explorer.map_pointcloud_to_image(data["LIDAR_TOP"], data[channel])
            found[f"{data['LIDAR_TOP']}/{channel}"] = np.vstack([shown[:2], depth])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot")
    parser.add_argument("version")
    parser.add_argument("--split", required=True)
    parser.add_argument("--results", nargs="*", default=[])
    parser.add_argument("--pixels")
    args = parser.parse_args()
    tables = NuScenes(args.version, args.dataroot, verbose=False)
    if args.pixels:
        np.savez(args.pixels, **pixels(tables, get_samples_in_eval_set(tables, args.split)))
    found = {
        "scenes": {scene["name"]: scene["nbr_samples"] for scene in tables.scene},
        "results": [judged(tables, folder, args.split) for folder in args.results],
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
