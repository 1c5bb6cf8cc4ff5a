"""Functions that all figures share: paint points and labels onto images, place pictures side by side, write the PNG."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from elite_pipeline.datasets.classes import IGNORE, ClassTable

DPI = 130


INK = "#222222"


PAINTED_WIDTH = 1241
"""Approximate width in pixels of a picture with points on it."""


def paint(image: np.ndarray, pixel: np.ndarray, colours: np.ndarray, size: int = 3) -> np.ndarray:
    """Return a darkened copy of `image` (H, W, 3) uint8 with a square of `size` pixels per point.

    An image narrower than `PAINTED_WIDTH` is enlarged by an integer factor, so that points stay small compared with
    objects. pixel: (M, 2) float, (u, v) in `image`. colours: (M, 3) uint8. Later points cover earlier points, so pass
    far points first.
    """
    factor = max(1, round(PAINTED_WIDTH / image.shape[1]))
    canvas = (image * 0.6).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = canvas.shape[:2]
    column, row = (pixel * factor).astype(int).T
    for dv in range(-(size // 2), size - size // 2):
        for du in range(-(size // 2), size - size // 2):
            canvas[np.clip(row + dv, 0, height - 1), np.clip(column + du, 0, width - 1)] = colours
    return canvas


def overlay(image: np.ndarray, labels: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Return the image (H, W, 3) uint8 tinted with the colours of `labels` (H, W). Unlabelled pixels are dark."""
    known = (labels != IGNORE)[..., None]
    washed = np.where(known, 0.35 * image + 0.65 * classes.palette[labels], 0.3 * image)
    return washed.astype(np.uint8)


def grid(
    path: Path, lines: Sequence[Sequence[tuple[str, np.ndarray]]], shown: Iterable[int], classes: ClassTable
) -> None:
    """Write a PNG with rows of pictures and, below them, a legend of the training ids `shown`.

    lines: the rows, each a list of (title, picture (H, W, 3) uint8).
    """
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
    legend(figure, shown, classes)
    save(figure, path)


def legend(figure: Figure, shown: Iterable[int], classes: ClassTable) -> None:
    """Add a legend below `figure`: the colours and names of the training ids `shown`."""
    handles = [
        Patch(facecolor=tuple(classes.palette[k] / 255), edgecolor="#666666", label=classes.names[k])
        for k in shown
        if k != IGNORE
    ]
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        inches = 0.65 + 0.065 * longest  # of one column, at this size of letters
        columns = max(1, min(10, int(figure.get_figwidth() / inches)))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def save(figure: Figure, path: Path) -> None:
    """Write `figure` to the PNG `path`, then close it."""
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
