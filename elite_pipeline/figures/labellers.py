"""Figures that compare labellers: curves over the share of points, and the worst images of the default labeller."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.figures.canvas import INK, grid, overlay, paint, save
from elite_pipeline.figures.drives import plt
from elite_pipeline.labellers.painting import EMPTY

LABELLERS = {"default": "#1f6fb4", "paper": "#cc6600", "nearest": "#555555"}
"""Colour of a labeller's curves."""

WRONG = np.array([(0, 0, 0), (255, 60, 60), (60, 140, 255), (255, 255, 255)], np.uint8)
"""Colours of pixels where no labeller is wrong, only default, only nearest, or both."""


def plot_curves(path: Path, result: dict[str, Any]) -> None:
    """Draw the scores of the labellers at each share of points, and the reliability of their confidence.

    result: the JSON of evaluate_pseudo_labels.
    """
    shares = sorted(result["by_density"], key=float)
    at = [100 * float(share) for share in shares]
    figure, ((accuracy, miou), (coverage, reliability)) = plt.subplots(2, 2, figsize=(12, 8.4), layout="constrained")
    for name, colour in LABELLERS.items():
        values = [result["by_density"][share]["labellers"][name] for share in shares]
        for axis, key, style in (
            (accuracy, "accuracy", "-"),
            (miou, "miou", "-"),
            (miou, "miou_of_all", ":"),
            (coverage, "coverage", "-"),
        ):
            percent = [np.nan if v[key] is None else 100 * v[key] for v in values]
            line = "--" if (name, key) == ("nearest", "coverage") else style
            axis.plot(at, percent, line, color=colour, marker="o", markersize=4, label=name if style == "-" else None)
    for axis, title in (
        (accuracy, "accuracy of covered pixels, %"),
        (miou, "mIoU, %. Solid: covered pixels. Dotted: uncovered pixels count as wrong"),
        (coverage, "coverage, %: equal for nearest and default"),
    ):
        axis.set(xscale="log", xlabel="share of labelled points used, %")
        axis.set_xticks(at, [f"{value:g}" for value in at])
        axis.minorticks_off()
        axis.set_title(title, loc="left", fontsize=10)
        axis.legend(fontsize=8, frameon=False)
    _plot_reliability(reliability, result["by_density"])
    for axis in (accuracy, miou, coverage, reliability):
        axis.grid(color="#e5e5e5", linewidth=0.7)
        axis.set_axisbelow(True)
    figure.suptitle(
        f"pseudo-labels of {result['dataset']}: {result['frames']} images scored against {result['reference']},"
        f" encoder {result['encoder']}",
        x=0.01,
        ha="left",
        fontsize=11,
        color=INK,
    )
    save(figure, path)


def _plot_reliability(axis: Axes, by_density: dict[str, Any]) -> None:
    """Draw accuracy over confidence. Bins with less than 0.1 % of the pixels are left out."""
    axis.plot([0, 100], [0, 100], color="#bbbbbb", linewidth=1)
    for name in ("default", "paper"):
        for share, style in (("1", "-"), ("0.05", ":")):
            bins = [b for b in by_density[share]["labellers"][name]["reliability"] if b["share"] >= 0.001]
            confidence, accuracy = [50 * sum(b["confidence"]) for b in bins], [100 * b["accuracy"] for b in bins]
            label = f"{name}, {float(share):.0%} of the points"
            axis.plot(confidence, accuracy, style, color=LABELLERS[name], marker="o", markersize=4, label=label)
    axis.set(xlabel="confidence, %", xlim=(0, 100))
    axis.set_title("accuracy of pixels at each confidence, %", loc="left", fontsize=10)
    axis.legend(fontsize=8, frameon=False)


def plot_worst(path: Path, rows: Sequence[dict[str, Any]], classes: ClassTable) -> None:
    """Draw images with the labels of each labeller, their errors, and the confidence of the default labeller.

    rows: from `labellers.benchmark.read_gallery`. Each takes two lines of four pictures.
    """
    lines, seen = [], set()
    for row in rows:
        image, sparse, reference = row["image"], row["sparse"], row["reference"]
        known = np.where(sparse == EMPTY, IGNORE, sparse)
        truth = (
            ("dense truth", overlay(image, reference, classes))
            if row["dense"]
            else ("held-out points", _dots(image, reference, classes))
        )
        lines.append(
            [
                (f"{row['title']}, {float(row['share']):.0%} of the points", image),
                (f"{np.count_nonzero(known)} sparse labels", _dots(image, known, classes)),
                truth,
                ("errors: default red, nearest blue, both white", _errors(row)),
            ]
        )
        made = [
            (_accuracy(name, row, classes), overlay(image, row[name], classes))
            for name in ("paper", "default", "nearest")
        ]
        lines.append([*made, ("confidence of default", row["confidence"][..., None].repeat(3, axis=2))])
        seen.update(*(np.unique(row[name]) for name in ("reference", "paper", "default", "nearest")))
    grid(path, lines, sorted(seen), classes)


def _accuracy(name: str, row: dict[str, Any], classes: ClassTable) -> str:
    confusion = Confusion(classes)
    confusion.add(row["reference"], row[name])
    return f"{name}: {confusion.accuracy:.1%} correct of the {confusion.coverage:.0%} covered"


def _dots(image: np.ndarray, labels: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Draw a dot for each labelled pixel of `labels` (H, W)."""
    row, column = np.nonzero(labels)
    return paint(image, np.stack([column, row], 1) + 0.5, classes.palette[labels[row, column]], size=4)


def _errors(row: dict[str, Any]) -> np.ndarray:
    """Return the image with wrong labels in the colours of `WRONG`: areas, or dots if the reference is sparse."""
    default, nearest = (
        (row["reference"] != IGNORE) & (row[name] != IGNORE) & (row[name] != row["reference"])
        for name in ("default", "nearest")
    )
    which = default + 2 * nearest  # 0: neither
    if row["dense"]:
        return np.where(which[..., None] > 0, WRONG[which], 0.4 * row["image"]).astype(np.uint8)
    line, column = np.nonzero(which)
    return paint(row["image"], np.stack([column, line], 1) + 0.5, WRONG[which[line, column]], size=8)
