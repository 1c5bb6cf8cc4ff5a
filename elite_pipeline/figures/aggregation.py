"""Figure of aggregation: one scan from above."""

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.figures.canvas import INK, legend, plt, save

RANGE = 40.0
"""Distance in metres from the sensor to the edge of the picture."""

REACH = {
    "seen": ("seen in this frame", "#4cc9f0"),
    "reached": ("seen in another frame: reached by aggregation", "#f9c74f"),
    "never": ("never seen by a camera", "#5a5a5a"),
}
"""Kind of point -> its title and colour."""

NONE = np.array([70, 70, 70], np.uint8)
"""Colour of points without a class."""


def plot_aggregation(
    path: Path,
    title: str,
    points: np.ndarray,
    frame: np.ndarray,
    aggregated: np.ndarray,
    truth: np.ndarray | None,
    classes: ClassTable,
) -> None:
    """Draw a scan of N points from above: how its points are reached, and their classes.

    points: (N, >=3) metres, LiDAR frame. frame, aggregated: (N,) training ids, the likeliest class in this frame and
    aggregated, 0 where there is none. truth: (N,) training ids; None where the scan is unlabelled.
    """
    seen, reached = frame != IGNORE, (aggregated != IGNORE) & (frame == IGNORE)
    shares = {"seen": seen.mean(), "reached": reached.mean(), "never": 1 - seen.mean() - reached.mean()}
    kind = np.full((len(points), 3), 0.0)
    for mask, name in ((~seen & ~reached, "never"), (reached, "reached"), (seen, "seen")):
        kind[mask] = to_rgb(REACH[name][1])
    panels = [(f"{title}: which points the teacher reaches", kind)]
    panels += [
        (name, np.where((ids == IGNORE)[:, None], NONE, classes.palette[ids]) / 255)
        for name, ids in (("class, this frame alone", frame), ("class, aggregated", aggregated), ("truth", truth))
        if ids is not None
    ]
    figure, axes = plt.subplots(2, 2, figsize=(12, 12.9), layout="constrained")
    # Points with an answer are drawn over the others, and high points over low ones.
    order = np.lexsort([points[:, 2], seen * 2 + reached])
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (name, colours) in zip(axes.flat, panels, strict=False):
        # Forward (x) points up, left (y) points left.
        axis.scatter(-points[order, 1], points[order, 0], c=colours[order], s=0.8, linewidths=0)
        axis.set(xlim=(-RANGE, RANGE), ylim=(-RANGE, RANGE), aspect="equal", facecolor="black", xticks=[], yticks=[])
        axis.set_title(name, fontsize=11, color=INK, loc="left")
    first = axes.flat[0]
    first.plot([-RANGE + 4, -RANGE + 14], [-RANGE + 4] * 2, color="white", linewidth=2)
    first.text(-RANGE + 9, -RANGE + 6, "10 m", color="white", fontsize=9, ha="center")
    first.plot([0], [0], marker="^", color="white", markersize=9)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=f"{text}: {shares[name]:.0%}")
        for name, (text, colour) in REACH.items()
    ]
    first.legend(handles=handles, loc="upper left", fontsize=9, framealpha=0.8)
    shown = np.unique(aggregated) if truth is None else np.union1d(aggregated, truth)
    legend(figure, shown, classes)
    save(figure, path)
