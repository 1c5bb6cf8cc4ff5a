"""Figures of drives: points over images, labels and predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm

from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.figures.canvas import INK, grid, legend, overlay, paint, plt, save

RANGE = 50.0
"""Distance in metres from the sensor to the edge of a bird's-eye view."""

LabelRow = tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
"""(title, image (H, W, 3) uint8, pixel (M, 2), sparse (M,) uint8, pseudo (H, W) uint8, truth (H, W) uint8).

All labels are training ids.
"""

PredictionRow = tuple[str, np.ndarray, np.ndarray, np.ndarray]
"""(title, points (N, >=3) metres, prediction (N,) uint8, truth (N,) uint8), labels as training ids."""


def plot_projection(
    path: Path,
    image: np.ndarray,
    pixel: np.ndarray,
    depth: np.ndarray,
    labels: np.ndarray | None,
    title: str,
    classes: ClassTable,
) -> None:
    """Draw LiDAR points over an image, by class and by depth.

    image: (H, W, 3) uint8. For visible points: pixel (M, 2) float, depth (M,) float in metres, and labels (M,) uint8
    training ids.
    """
    order = np.argsort(-depth)
    pixel, depth = pixel[order], depth[order]
    # Log scale: the near range, where calibration errors are visible, gets most of the colour map.
    shade = np.log(np.clip(depth, 2, 80) / 2) / np.log(40)
    pictures = [(paint(image, pixel, (plt.get_cmap("turbo_r")(shade)[:, :3] * 255).astype(np.uint8)), "depth")]
    if labels is not None:
        pictures.insert(0, (paint(image, pixel, classes.palette[labels[order]]), "class"))
    height = 11 * image.shape[0] / image.shape[1] + 0.35
    figure, axes = plt.subplots(
        len(pictures), 1, figsize=(11, height * len(pictures) + 0.7), squeeze=False, layout="constrained"
    )
    for axis, (picture, name) in zip(axes[:, 0], pictures, strict=True):
        axis.imshow(picture)
        axis.set_title(f"{title}: {len(pixel)} visible points by {name}", fontsize=9, color=INK, loc="left")
        axis.axis("off")
    scale = plt.cm.ScalarMappable(LogNorm(2, 80), "turbo_r")
    bar = figure.colorbar(scale, ax=axes[-1, 0], orientation="horizontal", fraction=0.05, pad=0.02, aspect=60)
    bar.set_label("depth along the camera's axis, metres", fontsize=8)
    bar.set_ticks([2, 5, 10, 20, 40, 80], labels=["2", "5", "10", "20", "40", "80"], fontsize=8)
    bar.minorticks_off()
    if labels is not None:
        legend(figure, np.unique(labels), classes)
    save(figure, path)


def plot_labels(path: Path, rows: Sequence[LabelRow], classes: ClassTable) -> None:
    """Draw sparse labels, pseudo-labels and dense truth side by side."""
    with_truth = any(row[-1] is not None for row in rows)
    lines, seen = [], set()
    for title, image, pixel, sparse, pseudo, truth in rows:
        known = sparse != IGNORE
        line = [
            (title, image),
            (f"{known.sum()} sparse labels", paint(image, pixel[known], classes.palette[sparse[known]], size=4)),
            (f"pseudo-labels ({(pseudo != IGNORE).mean():.0%} of pixels)", overlay(image, pseudo, classes)),
        ]
        seen |= set(np.unique(pseudo)) | set(np.unique(sparse))
        if with_truth:
            line.append(("dense truth", overlay(image, truth if truth is not None else np.zeros_like(pseudo), classes)))
            seen |= set(np.unique(truth)) if truth is not None else set()
        lines.append(line)
    grid(path, lines, sorted(seen), classes)


def plot_predictions(path: Path, rows: Sequence[PredictionRow], classes: ClassTable) -> None:
    """Draw prediction, truth and errors in bird's-eye view."""
    figure, axes = plt.subplots(len(rows), 3, figsize=(15, 5.2 * len(rows) + 0.6), squeeze=False, layout="constrained")
    seen = set()
    for line, (title, points, prediction, truth) in zip(axes, rows, strict=True):
        evaluated = truth != IGNORE
        wrong = evaluated & (prediction != truth)
        agreement = 1 - wrong.sum() / max(evaluated.sum(), 1)
        errors = np.full((len(points), 3), 70, dtype=np.uint8)
        errors[wrong] = (255, 60, 60)
        order = np.argsort(points[:, 2])
        # Draw points over lower points, and errors over all points.
        by_error = np.argsort(wrong, kind="stable")
        for axis, colours, drawn, name in (
            (line[0], classes.palette[prediction], order, f"{title}: prediction"),
            (line[1], classes.palette[truth], order, "truth"),
            (line[2], errors, by_error, f"errors (red): {agreement:.1%} of evaluated points are correct"),
        ):
            # Forward (x) points up, left (y) points left.
            axis.scatter(-points[drawn, 1], points[drawn, 0], c=colours[drawn] / 255, s=0.6, linewidths=0)
            axis.set(
                xlim=(-RANGE, RANGE), ylim=(-RANGE, RANGE), aspect="equal", facecolor="black", xticks=[], yticks=[]
            )
            axis.set_title(name, fontsize=9, color=INK, loc="left")
        seen |= set(np.unique(prediction)) | set(np.unique(truth))
    line[0].plot([-RANGE + 4, -RANGE + 14], [-RANGE + 4] * 2, color="white", linewidth=2)
    line[0].text(-RANGE + 9, -RANGE + 6, "10 m", color="white", fontsize=8, ha="center")
    legend(figure, sorted(seen), classes)
    save(figure, path)
