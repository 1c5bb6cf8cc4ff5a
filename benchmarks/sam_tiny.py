"""Measure the packaged `sam_tiny`: the numbers of its model card, in about two minutes on two cores.

    python benchmarks/sam_tiny.py [--checkpoint X.safetensors] [--names Y.safetensors] [--quick] [--out ...]

1. A two-layer head on the frozen, standardised features. It is trained at the LiDAR points of 10 labelled frames of the
   demo's drives and their mirror images, and scored on two other drives. For comparison, the same head on the features
   of a *random* encoder and, with `--names`, of an encoder that was pre-trained with the 19 class names
   (`class_names=true`).
2. Masks for single clicks on held-out random worlds: IoU of the best of the three masks, and of the mask ranked first.
   Clicks are spread evenly over the regions, then over the pixels.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from elite_pipeline.config import read
from elite_pipeline.datasets import open_recording
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.provenance import commit, device_name, versions
from elite_pipeline.recordings.projection import project
from elite_pipeline.sam.build import build_sam, untrained_sam
from elite_pipeline.sam.tiny import DIM
from elite_pipeline.sam.view import View
from elite_pipeline.sam_pretraining.masks import score_clicks
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import sample

ROOT = Path(__file__).parents[1]
CLASSES = class_table("semantickitti")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    labelled: dict[str, tuple[int, ...]]
    """Sequence -> frames of the labelled images."""
    held_out: tuple[str, ...]
    frames: int
    """Frames of each drive."""
    steps: int
    """Training steps of the head."""
    worlds: range
    """Worlds whose views are clicked on."""


LABELLED = {"00": (2, 12), "01": (2, 12), "02": (2, 12), "03": (7,), "04": (7,), "05": (2, 12)}
WHOLE = Sizes(LABELLED, held_out=("08", "09"), frames=20, steps=600, worlds=range(29000, 29024))
QUICK = Sizes({"00": (0,)}, held_out=("08",), frames=1, steps=2, worlds=range(29000, 29001))
HIDDEN = 128
"""Hidden units of the head."""
CLICKS = 24
AREAS = (40, 200, 1000, np.inf)
"""Upper bounds of mask areas, in pixels at half the image size."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="instead of the packaged weights")
    parser.add_argument("--names", type=Path, help="weights of the control that was pre-trained with the class names")
    parser.add_argument("--drives", type=Path, default=Path("cache/benchmark_drives"), help="simulated drives")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to see that this runs; needs --out")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/sam_tiny.json")
    arguments = parser.parse_args()
    if arguments.quick and arguments.out is None:
        parser.error("--quick needs --out: its numbers mean nothing")
    out = arguments.out or Path("benchmarks/results/sam_tiny.json")
    sizes = QUICK if arguments.quick else WHOLE
    drives = simulate(arguments.drives / f"{sizes.frames}_frames", sizes)
    torch.manual_seed(0)
    encoders = {"sam_tiny": build_sam("sam_tiny", arguments.checkpoint), "random": untrained_sam("sam_tiny").eval()}
    if arguments.names:
        encoders["told the names"] = build_sam("sam_tiny", arguments.names)
    result = {name: score_features(sam, drives, sizes) for name, sam in encoders.items()}
    from elite_pipeline.simulation import random_view

    views = [random_view(world, 512, 160) for world in sizes.worlds]
    trained = encoders["sam_tiny"]
    result["sam_tiny"]["clicks_on_regions"] = score_masks(trained, views, "regions")
    result["sam_tiny"]["clicks_on_pixels"] = score_masks(trained, views, "pixels")
    result |= {"device": device_name(), "commit": commit(), "versions": versions()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in encoders}, indent=1))


def simulate(folder, sizes):
    """Return sequence -> `Recording` of the drives; missing drives are simulated first."""
    from elite_pipeline.simulation import write_drive

    settings = read(ROOT / "config.yaml").datasets["demo"].simulate_drive.model_copy(update={"frames": sizes.frames})
    sequences = (*sizes.labelled, *sizes.held_out)
    for sequence in sequences:
        if not (folder / "sequences" / sequence).exists():
            write_drive(folder / "sequences" / sequence, sequence, settings)
    return {
        sequence: open_recording(folder, sequence, "semantickitti", CLASSES, {"image_2": "P2"})
        for sequence in sequences
    }


def frame_truth(drive, frame):
    """Return (image, pixels (n, 2) of visible points, their labels (n,), dense labels (H, W)), as training ids."""
    image, points = drive.image(frame, "image_2"), drive.points(frame)
    point, pixel, _ = project(points, drive.camera("image_2", frame), image.shape[:2], 0.5)
    seen = np.load(drive.folder / f"truth/image_2/visible/{frame}.npy")[point]
    return image, pixel[seen], drive.labels(frame, len(points))[point[seen]], drive.truth(frame, "image_2")


@torch.no_grad()
def features(encoder, image, pixel):
    """Return, at `pixel` (n, 2), the fine map that all stages share and its mean over 36 x 36 pixels: (n, D)."""
    view = View(512, encoder.patch)
    x = view.prepare(image)
    at = torch.from_numpy(view.pixels(pixel, image.shape[:2])).float()
    fine = F.pixel_shuffle(encoder(x[None])[-1][:, DIM:], 2)
    around = F.avg_pool2d(fine, 9, 1, 4, count_include_pad=False)
    return sample(torch.cat([fine, around], 1)[0], at, x.shape[1:])


def score_features(sam, drives, sizes):
    """Return the mIoU of a small head on the held-out drives, at visible LiDAR points and at every fourth pixel."""
    encoder = StageEncoder(sam.image_encoder).eval()
    points, labels = [], []
    for sequence, frames in sizes.labelled.items():
        for frame in frames:
            image, pixel, label, _ = frame_truth(drives[sequence], f"{frame:06d}")
            mirrored = (image.shape[1] - pixel[:, 0], pixel[:, 1])
            points.append(features(encoder, image, pixel))
            points.append(features(encoder, image[:, ::-1], np.stack(mirrored, 1).astype(np.float32)))
            labels += 2 * [torch.from_numpy(label.astype(np.int64))]
    x, y = torch.cat(points), torch.cat(labels)
    x, y = x[y > 0], y[y > 0]
    mean, std = x.mean(0), x.std(0) + 1e-6
    head = fit_head((x - mean) / std, y, sizes.steps)
    at_points, at_pixels, own = (Confusion(CLASSES) for _ in range(3))
    with torch.no_grad():
        own.add(y.numpy(), head((x - mean) / std)[:, 1:].argmax(1).numpy() + 1)
        for sequence in sizes.held_out:
            for frame in drives[sequence].frames():
                image, pixel, label, dense = frame_truth(drives[sequence], frame)
                rows, columns = np.mgrid[2 : image.shape[0] : 4, 2 : image.shape[1] : 4].reshape(2, -1)
                grid = np.stack([columns, rows], 1).astype(np.float32) + 0.5
                for confusion, at, truth in ((at_points, pixel, label), (at_pixels, grid, dense[rows, columns])):
                    logits = head((features(encoder, image, at) - mean) / std)
                    confusion.add(truth, logits[:, 1:].argmax(1).numpy() + 1)
    return {
        "miou_points": iou(at_points)[0],
        "miou_pixels": iou(at_pixels)[0],
        "miou_own_points": iou(own)[0],
        "iou_points": iou(at_points)[1],
    }


def fit_head(x, y, steps):
    """Train a small classifier on standardised features x (n, D) and classes y (n,). Rare classes weigh more."""
    torch.manual_seed(0)
    head = torch.nn.Sequential(
        torch.nn.Dropout(0.3),
        torch.nn.Linear(x.shape[1], HIDDEN),
        torch.nn.GELU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(HIDDEN, len(CLASSES)),
    )
    counts = torch.bincount(y, minlength=len(CLASSES)).float()
    weight = torch.where(counts > 0, (counts.max() / counts.clamp(min=1)) ** (1 / 3), 0)
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        some = torch.randint(len(x), (2048,))
        optimiser.zero_grad()
        F.cross_entropy(head(x[some]), y[some], weight=weight).backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def iou(confusion, least=50):
    """Return (mean, per class) IoU over the classes with at least `least` true samples, without unlabelled samples."""
    truth = dict(zip(CLASSES.names, confusion.counts.sum(1), strict=True))
    values = {name: round(value, 3) for name, value in confusion.iou.items() if truth[name] >= least}
    return round(float(np.mean(list(values.values()))), 4), values


def score_masks(sam, views, over):
    """Return the IoU of masks for clicks on `views` of places outside the pre-training. over: see `draw_clicks`."""
    rng = np.random.default_rng(0)
    found, predicted, area = [], [], []
    for view in views:
        scores = score_clicks(sam, view.rgb, view.region, rng, CLICKS, over=over)
        for values, new in zip((found, predicted, area), scores, strict=True):
            values.append(new)
    found, predicted, area = (np.concatenate(values) for values in (found, predicted, area))
    best = found.max(1)
    size = np.searchsorted(AREAS, area, side="right")
    return {
        "best_of_3": round(float(best.mean()), 4),
        "ranked_first": round(float(found[np.arange(len(found)), predicted.argmax(1)].mean()), 4),
        "each": [round(float(v), 4) for v in found.mean(0)],
        "best_by_area": {f"<{AREAS[i]:g} px": round(float(best[size == i].mean()), 3) for i in range(len(AREAS))},
        "share_by_area": [round(float((size == i).mean()), 2) for i in range(len(AREAS))],
        "predicted_iou_error": round(float(np.abs(predicted - found).mean()), 3),
    }


if __name__ == "__main__":
    main()
