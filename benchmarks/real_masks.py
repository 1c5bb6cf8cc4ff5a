"""Test whether labels spread through masks of a *real* SAM beat the nearest label, on the one real frame with masks.

    python benchmarks/real_masks.py --sample data/sample

Half of the projected labelled points of 00/000000 is held out and scored. Of the other half 100, 20, 5 and 1 % are
spread over the image, five times each. Labellers: the nearest label; the vote of SAM-PLG; and `nearest_through` the
masks in which at least 80 % of the points agree, as the labeller `regions` does with the masks that it prompts for. The
masks in `sam_masks/` were not made with our prompts, so this benchmark measures the spreading, not the prompting.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from elite_pipeline.datasets import open_recording
from elite_pipeline.datasets.classes import IGNORE, class_table
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.labellers.painting import EMPTY, nearest, paint, vote
from elite_pipeline.labellers.regions import nearest_through
from elite_pipeline.provenance import commit, device_name, versions
from elite_pipeline.recordings.projection import project

CLASSES = class_table("semantickitti")
SHARES = (1, 0.2, 0.05, 0.01)
SEEDS = range(5)
PURITY, DETOUR, EVERYWHERE = 0.8, 4.0, 1e4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=Path, default=Path("data/sample"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/real_masks.json")
    args = parser.parse_args()
    if not (args.sample / "sam_masks").is_dir():
        print(f"{args.sample}/sam_masks: no masks of a real SAM found, nothing to measure")
        return

    frame = read(args.sample)
    result = {"labellers": {str(share): compare(*frame, share) for share in SHARES}, "masks": len(frame[-1])}
    print("| points | labeller | coverage | accuracy | mIoU | mIoU, uncovered = wrong |\n|---|---|---|---|---|---|")
    for share, rows in result["labellers"].items():
        for name, row in rows.items():
            print(f"| {float(share):.0%} | {name} | {' | '.join(f'{value:.3f}' for value in row.values())} |")
    result |= {"device": device_name(), "commit": commit(), "versions": versions()}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def read(sample):
    """Return (image size, pixels (N, 2), depths (N,), labels (N,), instances (N,), masks (H, W), largest first)."""
    recording = open_recording(sample, "00", "semantickitti", CLASSES, {"image_2": "P2"})
    size, points = recording.image("000000", "image_2").shape[:2], recording.points("000000")
    labels, instances = recording.labels("000000", len(points)), recording.instances("000000", len(points))
    point, pixel, depth = project(points, recording.camera("image_2", "000000"), size, 0.5)
    paths = sorted((sample / "sam_masks/00_000000_image_2").glob("*.png"))
    masks = sorted((np.asarray(Image.open(path)) > 0 for path in paths), key=np.sum, reverse=True)
    return size, pixel, depth, labels[point], instances[point], masks


def compare(size, pixel, depth, label, instance, masks, share):
    """Return labeller -> scores at the held-out points, with `share` of the other points known."""
    confusions = {name: Confusion(CLASSES) for name in ("nearest", "vote", "through masks")}
    for seed in SEEDS:
        chance = np.random.default_rng(seed).random(len(pixel))
        known, held_out = chance < 0.5 * share, chance >= 0.5
        sparse, _ = paint(pixel[known], depth[known], label[known], instance[known], size)
        made = {
            "nearest": nearest(sparse, radius=EVERYWHERE).label,
            "vote": vote(sparse, masks).label,
            "through masks": nearest_through(pure(sparse, masks), sparse, DETOUR, EVERYWHERE)[0],
        }
        column, row = pixel[held_out].astype(int).T
        for name, confusion in confusions.items():
            confusion.add(label[held_out], made[name][row, column])
    keys = ("coverage", "accuracy", "miou", "miou_of_all")
    return {name: {key: getattr(confusion, key) for key in keys} for name, confusion in confusions.items()}


def pure(sparse, masks):
    """Yield (majority label, mask) of the masks whose labelled pixels agree."""
    for mask in masks:
        votes = np.bincount(sparse[mask], minlength=EMPTY + 1)[IGNORE + 1 : EMPTY]
        if votes.sum() and votes.max() >= PURITY * votes.sum():
            yield votes.argmax() + IGNORE + 1, mask


if __name__ == "__main__":
    main()
