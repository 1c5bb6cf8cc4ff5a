"""Which labeller makes the better pseudo-labels? Both against the simulator's dense truth, on the same frames.

    python benchmarks/labellers.py --sequences 00 03 --frames 5

Needs `data/demo` with `cache/demo/frames` and `cache/demo/projection` (`snakemake` makes them). Prints a table and
writes `benchmarks/results/labellers.json`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from elite_pipeline import index, store
from elite_pipeline.config import LabelImages, NearestLabeller, SamLabeller
from elite_pipeline.datasets import open_recording
from elite_pipeline.datasets.semantickitti import training_ids
from elite_pipeline.progress import progress
from elite_pipeline.provenance import commit, device_name, versions
from elite_pipeline.teacher.agreement import Agreement
from elite_pipeline.teacher.pseudo_labels import build_labeller, paint

CAMERA = "image_2"
SAM = SamLabeller(
    encoder="sam_tiny",
    longest_side=512,
    predicted_iou=0.0,
    stability=0.9,
    stability_offset=1.0,
    box_nms=0.7,
    prompts_per_batch=128,
)
LABELLERS = {
    **{
        f"nearest, radius {radius}": LabelImages(labeller="nearest", nearest=NearestLabeller(radius=radius))
        for radius in (6, 12, 24)
    },
    # The published thresholds are SAM's own: hardly any mask of sam_tiny, whose logits are flatter, passes 0.9.
    **{
        f"sam (sam_tiny), stability {stability}": LabelImages(
            labeller="sam", sam=SAM.model_copy(update={"stability": stability})
        )
        for stability in (0.9, 0.6, 0.3, 0.0)
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--cache", type=Path, default=Path("cache/demo"))
    parser.add_argument("--sequences", nargs="+", default=["00", "03"])
    parser.add_argument("--frames", type=int, default=5, help="evenly spaced frames of each sequence")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/labellers.json")
    args = parser.parse_args()

    frames = [frame for sequence in args.sequences for frame in read(args.data, args.cache, sequence, args.frames)]
    rows = {}
    for name, settings in LABELLERS.items():
        label_image, agreement = build_labeller(settings), Agreement()
        sparse, instances, image, _ = frames[0]
        label_image(sparse, instances, lambda image=image: image)  # imports and first allocations
        start = time.perf_counter()
        for sparse, instances, image, truth in progress(frames, label=name):
            agreement.add(truth, label_image(sparse, instances, lambda image=image: image)[0])
        rows[name] = {
            "coverage": agreement.coverage,
            "accuracy": agreement.accuracy,
            "miou": agreement.miou,
            "miou_of_all": agreement.miou_of_all,
            "iou": agreement.iou,
            "seconds_per_frame": (time.perf_counter() - start) / len(frames),
        }

    print("| labeller | coverage | accuracy | mIoU where covered | mIoU | s/frame |\n|---|---|---|---|---|---|")
    for name, row in rows.items():
        values = [f"{row[key]:.3f}" for key in ("coverage", "accuracy", "miou", "miou_of_all", "seconds_per_frame")]
        print(f"| {name} | {' | '.join(values)} |")
    result = {
        "labellers": rows,
        "sequences": args.sequences,
        "frames": len(frames),
        "sam": SAM.model_dump(),
        "device": device_name(),
        "versions": versions(),
        "commit": commit(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


def read(data, cache, sequence, count):
    """(sparse, instances, image, truth) of `count` evenly spaced frames: see `paint`; truth (H, W) training ids."""
    recording = open_recording(data / "sequences" / sequence)
    known, projection = (
        index.read(cache / f"frames/{sequence}.parquet"),
        store.Projection(cache / f"projection/{sequence}.zarr"),
    )
    camera = projection.cameras.index(CAMERA)
    for f in np.unique(np.linspace(0, len(known.frames) - 1, count).astype(int)):
        frame, rows = known.frames[f], projection.rows(f, camera)
        seen = projection.read("visible", rows)
        pixel, depth, point = (projection.read(name, rows)[seen] for name in ("pixel", "depth", "point"))
        image = recording.image(frame, CAMERA)
        points = int(known.points[f])
        labels, instances = recording.labels(frame, points)[point], recording.instances(frame, points)[point]
        truth = training_ids(np.asarray(Image.open(recording.folder / "truth" / CAMERA / "semantic" / f"{frame}.png")))
        yield *paint(pixel, depth, labels, instances, image.shape[:2]), image, truth


if __name__ == "__main__":
    main()
