"""What all figures share: points and labels painted onto images, pictures side by side, the PNG."""

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from elite_pipeline.datasets.semantickitti import CLASSES, COLOURS, IGNORE

DPI = 130


INK = "#222222"


PAINTED_WIDTH = 1241
"""Pixels: about the width of a picture with points on it."""


def paint(image, pixel, colours, size=3):
    """A copy of `image` (H, W, 3) uint8, darkened, with a square of `size` pixels per point.

    An image narrower than `PAINTED_WIDTH` is enlarged by a whole factor: points stay small beside what they show.
    pixel: (M, 2) float, (u, v) in `image`. colours: (M, 3) uint8. Later points cover earlier ones: pass far ones first.
    """
    factor = max(1, round(PAINTED_WIDTH / image.shape[1]))
    canvas = (image * 0.6).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = canvas.shape[:2]
    column, row = (pixel * factor).astype(int).T
    for dv in range(-(size // 2), size - size // 2):
        for du in range(-(size // 2), size - size // 2):
            canvas[np.clip(row + dv, 0, height - 1), np.clip(column + du, 0, width - 1)] = colours
    return canvas


def overlay(image, labels):
    """Labels as a wash of colour over the image; unlabelled pixels stay dark."""
    known = (labels != IGNORE)[..., None]
    washed = np.where(known, 0.35 * image + 0.65 * COLOURS[labels], 0.3 * image)
    return washed.astype(np.uint8)


def grid(path, lines, classes):
    """Lines of (name, picture) side by side, and below them the colours of `classes`."""
    shape, columns, width = lines[0][0][1].shape, len(lines[0]), 4.6
    figure, axes = plt.subplots(
        len(lines),
        columns,
        figsize=(width * columns, width * shape[0] / shape[1] * len(lines) + 1.1),
        squeeze=False,
        layout="constrained",
    )
    for line, pictures in zip(axes, lines, strict=True):
        for axis, (name, picture) in zip(line, pictures, strict=True):
            axis.imshow(picture)
            axis.set_title(name, fontsize=8, color=INK, loc="left")
            axis.axis("off")
    legend(figure, classes)
    save(figure, path)


def legend(figure, labels):
    handles = [
        Patch(facecolor=tuple(COLOURS[k] / 255), edgecolor="#666666", label=CLASSES[k]) for k in labels if k != IGNORE
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=10, fontsize=8, frameon=False)


def save(figure, path):
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
