"""Score soft labels that are means over passes of the teacher (`cache_teacher.views`), at points that it never saw.

    snakemake --cores 2 results/demo_10_sam_tiny_points.json
    python benchmarks/views.py [--every 2] [--folder .] [--out ...]

The first command tunes the demo's teacher on 12 of 120 scans. The second one reads every second one of the other scans,
and scores each pass alone and means of several, of probabilities and of their logarithms, at visible labelled points:
mIoU, accuracy, and the mean of -log(probability of the true class), which is lower where probabilities fit the truth.
Each is the mean over the teacher's stages. Prints a table and writes `benchmarks/results/views.json`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from elite_pipeline import config, store
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.datasets.classes import IGNORE, class_table
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.progress import progress
from elite_pipeline.provenance import commit, device_name, versions
from elite_pipeline.recordings import index
from elite_pipeline.teacher import storage, targets

ROOT = Path(__file__).parents[1]
CLASSES = class_table("semantickitti")
PASSES = ("plain", "mirrored", "0.75", "1.25")
MEANS = [[name] for name in PASSES]
MEANS += [["plain", name] for name in PASSES[1:]] + [["plain", "mirrored", "1.25"], list(PASSES)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=2, help="of the scans, use every k-th one")
    parser.add_argument("--dataset", default="demo_10")
    parser.add_argument("--folder", type=Path, default=ROOT, help="holds config.yaml, config/, data/ and cache/")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/views.json")
    args = parser.parse_args()
    settings = config.read(args.folder / "config.yaml", args.folder / COMPARISONS)
    adapter = args.folder / f"cache/{args.dataset}/sam_tiny/adapter"
    if not adapter.exists():
        print(f"{adapter} is missing, nothing was scored. {__doc__}")
        return
    teacher, view = storage.load(adapter, settings.teachers["sam_tiny"], CLASSES)
    labels, passes, scans = run_passes(teacher, view, settings.datasets[args.dataset], args)
    rows = {" + ".join(names): score(labels, [passes[name] for name in names]) for names in MEANS}
    print("| mean over | of probabilities: mIoU, accuracy, loss | of logarithms |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(', '.join(f'{v:.3f}' for v in of.values()) for of in row.values())} |")
    about = {"device": device_name(), "commit": commit(), "versions": versions()}
    result = {"dataset": args.dataset, "scans": scans, "points": len(labels), "views": rows, **about}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def run_passes(teacher, view, dataset, args):
    """Return labels (n,), pass -> log-probabilities (n, S, K), and the number of scans, all of them unlabelled ones."""
    labels, passes, scans = [], {name: [] for name in PASSES}, 0
    root = dataset.of or args.dataset
    for sequence in progress(dataset.train, label="passes", unit="sequence"):
        frames = index.read(args.folder / f"cache/{args.dataset}/labelled/{sequence}.parquet")
        recording = frames.source.open(args.folder / f"data/{root}")
        projection = store.Projection(args.folder / f"cache/{root}/projection/{sequence}.zarr")
        for f in range(0, len(frames.frames), args.every):
            if frames.labelled[f]:
                continue
            scans += 1
            of_scan = recording.labels(frames.frames[f], int(frames.points[f]))
            for c, camera in enumerate(projection.cameras):
                rows = projection.rows(f, c)
                visible = np.flatnonzero(projection.read("visible", rows))
                label = of_scan[projection.read("point", rows)[visible]]
                known = label != IGNORE
                labels.append(label[known])
                image, pixel = recording.image(frames.frames[f], camera), projection.read("pixel", rows)[visible[known]]
                for name, found in log_probabilities(teacher, view, image, pixel).items():
                    passes[name].append(found)
    return np.concatenate(labels), {name: torch.cat(found) for name, found in passes.items()}, scans


@torch.no_grad()
def log_probabilities(teacher, view, image, pixel):
    """Return pass -> (n, S, K) at `pixel` of one image."""
    plain = (view, [image], [pixel])
    of_size = {f"{scale:g}": (replace(view, longest_side=int(scale * view.longest_side)),) for scale in (0.75, 1.25)}
    passes = {"plain": plain, "mirrored": targets.mirrored(*plain)}
    passes |= {name: (*other, [image], [pixel]) for name, other in of_size.items()}
    return {name: targets.logits_in(teacher, each, "cpu").float().log_softmax(-1) for name, each in passes.items()}


def score(labels, passes):
    """Return kind of mean -> {"miou", "accuracy", "loss"}, means over the stages."""
    kinds = {"probabilities": targets.mean_logits(passes), "logarithms": torch.stack(passes).mean(0).log_softmax(-1)}
    return {kind: score_mean(labels, mean.log_softmax(-1).numpy()) for kind, mean in kinds.items()}


def score_mean(labels, mean):
    scores = []
    for stage in np.moveaxis(mean, 1, 0):
        confusion = Confusion(CLASSES)
        confusion.add(labels, stage[:, 1:].argmax(1) + 1)
        loss = -stage[np.arange(len(labels)), labels].mean()
        scores.append([confusion.miou, confusion.accuracy, loss])
    return dict(zip(("miou", "accuracy", "loss"), np.mean(scores, axis=0).round(4).tolist(), strict=True))


if __name__ == "__main__":
    main()
