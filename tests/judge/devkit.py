"""Has nuscenes-devkit judge a data set and predictions for it. Runs in the devkit's own environment, not in ours:

    .venv-judge/bin/python tests/judge/devkit.py data/demo_nuscenes v1.0-mini --split mini_val \\
        --results results/demo_nuscenes_predictions --pixels pixels.npz

Prints JSON:

- `scenes`: name -> number of keyframes
- `labels`: for `lidarseg` and `panoptic`, where they are: category -> number of points of the keyframes of `--split`
- `instances`: number of panoptic things in these keyframes; a thing counts in each of them
- `results`: for each folder or zip of `--results`, what the validator says (`fault`, null if it is valid), and the
  scores of the evaluation, with null for NaN. No scores where there is a fault, or where the data set has no labels

`--pixels` gets an array for each keyframe of `--split` and each camera, named `<LIDAR_TOP token>/<channel>`: (3, n)
float64, u and v in pixels, and depth in metres, of the points that `map_pointcloud_to_image` shows, in their order.
"""

import argparse
import json
import math
import os
import shutil
import sys
from tempfile import TemporaryDirectory

import numpy as np
from nuscenes.eval.lidarseg.evaluate import LidarSegEval
from nuscenes.eval.lidarseg.utils import get_samples_in_eval_set
from nuscenes.eval.lidarseg.validate_submission import validate_submission
from nuscenes.nuscenes import NuScenes
from nuscenes.panoptic.panoptic_utils import get_frame_panoptic_instances
from nuscenes.utils.data_io import load_bin_file, panoptic_to_lidarseg


def judged(tables, results, split):
    """Return what the devkit says of the predictions `results`, a folder or a zip."""
    if os.path.isfile(results):
        with TemporaryDirectory() as folder:
            shutil.unpack_archive(results, folder)
            return judged(tables, folder, split)
    try:
        validate_submission(tables, results, split)
    except AssertionError as error:
        return {"fault": str(error)}
    if not tables.lidarseg:
        return {"fault": None}
    found = LidarSegEval(tables, results, split).evaluate()
    iou = {name: None if math.isnan(value) else float(value) for name, value in found["iou_per_class"].items()}
    return {"fault": None, "iou": iou, "miou": float(found["miou"])}


def labels_of(tables, samples, kind):
    """Yield the labels (N,) of each keyframe in `samples` from the table `kind`; nothing where it has no rows."""
    for sample in samples if getattr(tables, kind, None) else ():
        record = tables.get(kind, tables.get("sample", sample)["data"]["LIDAR_TOP"])
        yield load_bin_file(os.path.join(tables.dataroot, record["filename"]), kind)


def points_of_categories(tables, samples):
    """Return {table of labels: {category: number of points}}."""
    names, found = getattr(tables, "lidarseg_idx2name_mapping", {}), {}
    for kind in ("lidarseg", "panoptic"):
        counts = np.zeros(256, int)
        for labels in labels_of(tables, samples, kind):
            counts += np.bincount(panoptic_to_lidarseg(labels) if kind == "panoptic" else labels, minlength=256)
        found[kind] = {names[index]: int(counts[index]) for index in np.flatnonzero(counts).tolist()}
    return found


def instances(tables, samples):
    """Return the number of panoptic things in the keyframes."""
    frames = map(get_frame_panoptic_instances, labels_of(tables, samples, "panoptic"))
    return sum(int((rows[:, 1] > 0).sum()) for rows in frames)


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
    samples = get_samples_in_eval_set(tables, args.split)
    if args.pixels:
        np.savez(args.pixels, **pixels(tables, samples))
    found = {
        "scenes": {scene["name"]: scene["nbr_samples"] for scene in tables.scene},
        "labels": points_of_categories(tables, samples),
        "instances": instances(tables, samples),
        "results": [judged(tables, results, args.split) for results in args.results],
    }
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
