"""Time a training step of the student and its wait for scans, with and without readers, in each precision.

    snakemake --cores 8 --until cache_teacher models/full_size/student.safetensors
    python benchmarks/training.py [experiment] [--steps 60]

Trains the experiment's student for some steps, after a warm-up run, on the data that the first command writes to data/
and cache/. The default experiment `full_size` is the paper's student on scans of KITTI's size. Prints medians per step
and ratios to the first row; writes `benchmarks/results/training_<device>.json`.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from elite_pipeline import config as configuration
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.provenance import commit, device_name, file_of_device, versions
from elite_pipeline.recordings.sequence import open_recorded
from elite_pipeline.training import loop
from elite_pipeline.training.examples import Examples
from elite_pipeline.training.segmentation import Segmentation

ROOT = Path(__file__).parent.parent
SKIPPED = 10
"""Warm-up steps of each run, which do not count: kernels are selected and readers start."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?", default="full_size")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=ROOT, help="holds config.yaml, config/, data/ and cache/")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/training_<device>.json")
    args = parser.parse_args()
    config = configuration.read(args.folder / "config.yaml", args.folder / COMPARISONS)
    experiment = config.experiments[args.experiment]
    settings = config.students[experiment.student]
    if not experiment.teacher or experiment.pretraining:
        raise SystemExit(f"{args.experiment}: choose an experiment with a teacher and without pre-training")
    dataset = config.datasets[experiment.dataset]
    examples = read(args.folder, experiment, dataset, settings.losses)
    if examples is None:
        return
    threads = settings.train_student.threads
    variants = [("32-true", 0), ("32-true", threads), ("16-mixed", 0), ("16-mixed", threads)]
    variants = variants if torch.cuda.is_available() else [("32-true", 0)]
    measure(settings, examples, *variants[0], SKIPPED)
    rows = [measure(settings, examples, *variant, args.steps) for variant in variants]
    result = {
        "experiment": args.experiment,
        "batch": settings.train_student.batch,
        "points": int(np.median([n for recorded in examples.sequences for n in recorded.index.points])),
        "runs": rows,
        "device": device_name(),
        "versions": versions(),
        "commit": commit(),
    }
    show(result)
    out = args.out or file_of_device(ROOT / "benchmarks/results", "training")
    out.write_text(json.dumps(result, indent=2) + "\n")


def read(folder, experiment, dataset, losses):
    """Return the `Examples` of an experiment from the files of the DAG; if a file is missing, say so, return None."""
    root = dataset.of or experiment.dataset
    names = (f"{experiment.dataset}/labelled/{{}}.parquet", f"{root}/projection/{{}}.zarr")
    names = (*names, f"{experiment.dataset}/{experiment.teacher}/targets/{{}}.zarr")
    if losses.targets == "aggregated":
        names = (*names, f"{experiment.dataset}/{experiment.teacher}/aggregated/{{}}.zarr")
    cached = [[folder / "cache" / name.format(sequence) for sequence in dataset.train] for name in names]
    if missing := [path for paths in cached for path in paths if not path.exists()]:
        print(f"{missing[0]} is missing, no training step was timed. {__doc__}")
        return None
    frames, projection, targets, *aggregated = cached
    recorded = open_recorded(folder / f"data/{root}", frames, projection, targets, aggregated=(*aggregated, ())[0])
    return Examples(recorded, features=losses.features > 0)


def measure(settings, examples, precision, readers, steps):
    """Return the medians of a run: seconds per step and seconds of waiting for scans; and the peak GPU memory."""
    loop.readers_for = lambda *_, **__: readers
    options = {"precision": precision, "steps": steps, "epochs": None, "checkpoint_every": steps}
    changed = {"train_student": settings.train_student.model_copy(update=options)}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as run:
        log = loop.train(Segmentation(examples, settings.model_copy(update=changed)), Path(run)).log
        lines = [json.loads(line) for line in log.read_text().splitlines()][SKIPPED:]
    row = {"precision": precision, "readers": readers}
    row |= {key: float(np.median([line[key] for line in lines] or [0])) for key in ("seconds", "waited")}
    return row | {"peak_mib": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None}


def show(result):
    print(f"\n{result['device']}, batches of {result['batch']} scans of {result['points']:,} points\n")
    print("| precision | readers | step, ms | waits, ms | times as fast | peak, MiB |\n|---|" + 5 * "---:|")
    first = result["runs"][0]["seconds"]
    for row in result["runs"]:
        ms = f"{1e3 * row['seconds']:.0f} | {1e3 * row['waited']:.0f}"
        peak = f"{row['peak_mib']:.0f}" if row["peak_mib"] else ""
        print(f"| {row['precision']} | {row['readers']} | {ms} | {first / row['seconds']:.2f} | {peak} |")


if __name__ == "__main__":
    main()
