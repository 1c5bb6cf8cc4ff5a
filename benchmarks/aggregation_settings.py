"""How good aggregated soft labels are with other settings of aggregate_targets, against the labels of training scans.

    snakemake --cores 2 results/demo_sam_tiny_points.json
    python benchmarks/aggregation_settings.py [--dataset demo] [--teacher sam_tiny] [--out FILE]

Each row changes one setting of config.yaml. Scores are over the scans whose labels students do not use (or all).
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch

from elite_pipeline import provenance
from elite_pipeline.aggregation.soft_targets import Aggregation, read_seen
from elite_pipeline.config import AggregateTargets, read
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.config.seeds import entry
from elite_pipeline.evaluation.teacher_quality import Reach
from elite_pipeline.recordings import index
from elite_pipeline.recordings.poses import poses_of
from elite_pipeline.recordings.sequence import Recorded

VARIANTS = {
    "as configured": {},
    "voxel_size: 0.1": {"voxel_size": 0.1},
    "voxel_size: 0.3": {"voxel_size": 0.3},
    "voxel_size: 0.4": {"voxel_size": 0.4},
    "far: null": {"far": None},
    "far: {beyond: 20.0, voxel_size: 0.8}": {"far": {"beyond": 20.0, "voxel_size": 0.8}},
    "mean: probabilities": {"mean": "probabilities"},
    "confidence: 1.0": {"confidence": 1.0},
    "fade: 20.0": {"fade": 20.0},
    "views: 2": {"views": 2},
    "distance: 20.0": {"distance": 20.0},
    "distance: 40.0": {"distance": 40.0},
    "things.voxel_size: 0.1": {"things": {"voxel_size": 0.1}},
    "things.voxel_size: 0.2": {"things": {"voxel_size": 0.2}},
    "things.frames: 0": {"things": {"frames": 0}},
    "things.frames: 5": {"things": {"frames": 5}},
    "things.seen: 1": {"things": {"seen": 1}},
    "things.seen: 3": {"things": {"seen": 3}},
}


def changed(settings, changes):
    """`settings` (JSON values) with `changes`; those of `things` are merged."""
    merged = settings | changes
    if "things" in changes:
        merged["things"] = settings["things"] | changes["things"]
    return AggregateTargets(**merged)


def sequences(dataset, teacher, names):
    """[(recorded, frames to score, {frame: what the teacher said})] of the sequences `names`."""
    config = read(Path("config.yaml"), COMPARISONS)
    root = config.datasets[entry(dataset)].of or entry(dataset)
    opened = []
    for name in names or config.datasets[entry(dataset)].train:
        paths = (f"frames/{name}.parquet", f"projection/{name}.zarr", f"{teacher}/targets/{name}.zarr")
        recorded = Recorded(
            Path("data", root), *(Path("cache", dataset if "targets" in path else root, path) for path in paths)
        )
        selected = index.read(Path(f"cache/{dataset}/labelled/{name}.parquet"))
        hidden = np.flatnonzero(recorded.index.labelled & ~selected.labelled)
        opened.append((recorded, hidden, {f: read_seen(recorded, f) for f in range(len(recorded.index.frames))}))
    if not any(len(hidden) for _, hidden, _ in opened):
        opened = [(recorded, np.flatnonzero(recorded.index.labelled), seen) for recorded, _, seen in opened]
    return opened


def score(settings, opened):
    """`Reach.summary` of aggregation with `settings`."""
    reach = Reach(opened[0][0].index.classes)
    for recorded, frames, seen in opened:
        known = recorded.index
        if not len(frames):
            continue
        aggregation = Aggregation(settings, known.classes, poses_of(known), seen.__getitem__)
        for f in frames.tolist():
            found, labels = aggregation.found(f), recorded.labels(f)
            predicted, own = np.zeros(len(labels), np.int64), np.zeros(len(labels), bool)
            predicted[found.point], own[seen[f].point] = found.predicted, True
            reach.add(labels, predicted, own, recorded.recording.moving(known.frames[f], len(labels)))
    return reach.summary()


def percent(share):
    return "-" if share is None else f"{100 * share:.1f}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--dataset", default="demo")
    arguments.add_argument("--teacher", default="sam_tiny")
    arguments.add_argument("--sequences", nargs="*", help="default: all training sequences")
    arguments.add_argument("--variants", nargs="*", default=list(VARIANTS), help="rows of the table")
    arguments.add_argument("--folder", type=Path, default=Path(), help="the checkout with data/ and cache/")
    arguments.add_argument("--out", type=Path)
    options = arguments.parse_args()
    os.chdir(options.folder)
    torch.set_num_threads(1)
    config = read(Path("config.yaml"), COMPARISONS)
    configured = config.datasets[entry(options.dataset)].aggregate_targets or config.aggregate_targets
    settings = configured.model_dump(mode="json")
    opened = sequences(options.dataset, options.teacher, options.sequences)
    print("| setting | all: coverage, accuracy, mIoU | own: accuracy, mIoU | unseen: the same | moving: accuracy |")
    print("|---|---:|---:|---:|---:|")
    rows = {}
    for name in options.variants:
        found = rows[name] = score(changed(settings, VARIANTS[name]), opened)
        cells = [("all", ("coverage", "accuracy", "miou")), ("own", ("accuracy", "miou"))]
        cells += [("unseen", ("accuracy", "miou")), ("moving", ("accuracy",))]
        shown = (", ".join(percent(found[group][key]) for key in keys) for group, keys in cells)
        print(f"| {name} | {' | '.join(shown)} |", flush=True)
    if options.out:
        about = {"dataset": options.dataset, "teacher": options.teacher, "settings": settings}
        scans = sum(len(frames) for _, frames, _ in opened)
        made = {"scans": scans, "device": provenance.device_name(), "commit": provenance.commit()}
        options.out.write_text(json.dumps(about | made | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
