"""Figures of an experiment's two results: mIoU and latency."""

from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.figures.canvas import INK, plt, save


def plot_miou(path: Path, result: dict[str, Any]) -> None:
    """Draw IoU per class as bars, and the confusion matrix. result: the JSON of evaluate_miou."""
    classes = list(result["iou"])
    confusion = np.array(result["confusion"], dtype=float)[1:]
    present = confusion.sum(axis=1)
    figure, (bars, matrix) = plt.subplots(1, 2, figsize=(14.5, 6.2), width_ratios=[1, 1.25], layout="constrained")
    values = [100 * (result["iou"][name] or 0) for name in classes]
    bars.barh(classes, values, color=[result["colours"][name] for name in classes], edgecolor="#666666", linewidth=0.5)
    for row, (value, points) in enumerate(zip(values, present, strict=True)):
        bars.text(value + 1, row, f"{value:.1f}" if points else "no points", va="center", fontsize=8, color=INK)
    bars.axvline(100 * result["miou"], color=INK, linestyle="--", linewidth=1)
    bars.set(xlim=(0, 108), xlabel="IoU, %")
    bars.invert_yaxis()
    bars.set_title(f"{result['experiment']}: mIoU {100 * result['miou']:.1f} %, {result['scans']} scans", loc="left")
    # Each row adds up to 100 % over the predictions.
    share = confusion[:, 1:] / np.maximum(present, 1)[:, None]
    picture = matrix.imshow(share, cmap="Blues", vmin=0, vmax=1)
    matrix.set_xticks(range(len(classes)), classes, rotation=60, ha="right", fontsize=8)
    matrix.set_yticks(range(len(classes)), classes, fontsize=8)
    for row, column in np.argwhere(share >= 0.1):
        dark = share[row, column] > 0.55
        text = f"{100 * share[row, column]:.0f}"
        matrix.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else INK)
    matrix.set(xlabel="prediction", ylabel="truth")
    matrix.set_title("confusion matrix: predictions for the points of each class, %", loc="left")
    figure.colorbar(picture, ax=matrix, fraction=0.04, pad=0.02)
    save(figure, path)


def plot_latency(path: Path, result: dict[str, Any]) -> None:
    """Draw the latency distribution of each phase, and the budget. result: the JSON of measure_latency."""
    phases = [name for name in ("read", "voxelise", "forward", "scatter_back", "total") if name in result["phases"]]
    figure, axis = plt.subplots(figsize=(10, 4.2), layout="constrained")
    samples = [result["samples"][name] for name in phases]
    axis.boxplot(
        samples,
        orientation="horizontal",
        whis=(5, 95),
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": "#9fc5e8", "edgecolor": INK},
        medianprops={"color": INK},
        flierprops={"marker": ".", "markersize": 4},
    )
    for row, name in enumerate(phases, 1):
        note = f"p50 {result['phases'][name]['p50']:.1f}, p99 {result['phases'][name]['p99']:.1f} ms"
        axis.annotate(note, (1.01, row), xycoords=("axes fraction", "data"), fontsize=8, va="center", color=INK)
    axis.axvline(result["budget_ms"], color="#cc0000", linestyle="--", linewidth=1)
    axis.text(result["budget_ms"], 0.42, f" {result['budget_hz']:.0f} Hz", color="#cc0000", fontsize=8, va="bottom")
    axis.set_xscale("log")
    axis.set_yticks(range(1, len(phases) + 1), [f"{n} (not in total)" if n == "read" else n for n in phases])
    axis.invert_yaxis()
    axis.set_xlabel("ms per scan")
    axis.set_title(
        f"{result['hz']:.1f} Hz at the median, batch 1, {result['precision']}, on {result['device']}",
        loc="left",
        fontsize=9,
    )
    save(figure, path)
