"""Figures of a comparison: a dot for each seed, and the 95 % intervals of each difference.

All functions take the JSON of compare_experiments and draw percent.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from elite_pipeline.comparison.runs import curves, evaluated
from elite_pipeline.comparison.table import SPLITS
from elite_pipeline.figures.canvas import INK, save
from elite_pipeline.figures.comparison_curves import Panel, arms, arms_panel, curve_panels, oracle_gains, oracle_panel
from elite_pipeline.figures.comparison_marks import (
    GRID,
    colour_of,
    colour_of_difference,
    difference_marks,
    difference_name,
    experiment_marks,
    interval_text,
    intervals_of,
    legend_below,
    line,
    row_height,
    spread_text,
    wrapped,
)
from elite_pipeline.figures.drives import plt

WIDTH = 10.0
"""Width of a figure in inches: 1300 pixels."""

BESIDE: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
"""Position of a note right of a row: an offset in points from the edge of the axis, whatever its width."""


def plot_comparison(path: Path, result: Mapping[str, Any]) -> None:
    """Draw the mIoU of the experiments and their paired differences, in the form that `figure` of the comparison names.

    rows: one row per experiment. oracles: the same, plus the gain over the oracles' accuracy. curves: curves over
    labelled scans, with and without distillation. arms: arms side by side in each setting.
    """
    panels: list[Panel]
    experiments, kind = result["experiments"], result["figure"]
    if kind == "curves":
        panels = curve_panels(experiments, curves(experiments))
    elif kind == "arms":
        panels = [(4.8, lambda axis: arms_panel(axis, experiments, arms(experiments)))]
    else:
        height = row_height(_numbered(experiments), 0.43)
        panels = [(height * len(experiments) + 1.2, lambda axis: _experiment_rows(axis, experiments))]
    if (differences := result["differences"]) and kind != "curves":
        height = row_height(map(difference_name, differences), 0.46)
        panels.append((height * len(differences) + 1.1, lambda axis: _difference_rows(axis, differences)))
    if kind == "oracles" and oracle_gains(experiments):
        names = {label: f"#{k}" for k, label in enumerate(experiments, 1)}
        panels.append((3.8, lambda axis: oracle_panel(axis, experiments, names)))
    heights = [height for height, _ in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(WIDTH, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        gridspec_kw={"hspace": 0.08},
        layout="constrained",
    )
    for axis, (_, draw) in zip(axes[:, 0], panels, strict=True):
        draw(axis)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    points, seeds = evaluated(result), next(iter(experiments.values()))["seeds"]
    sequences = f"{len(points['sequences'])} {SPLITS[points['split']]} sequences"
    figure.suptitle(
        f"{result['comparison']}: {points['scans']} scans of {sequences},"
        f" {len(seeds)} seed{'s' * (len(seeds) > 1)} each",
        x=0.01,
        ha="left",
        fontsize=11,
        color=INK,
    )
    save(figure, path)


def plot_classes(path: Path, result: Mapping[str, Any]) -> None:
    """Draw the differences per class as a coloured table; without differences, the IoU of the experiments."""
    experiments = result["experiments"]
    classes = [name for name, points in evaluated(result)["class_points"].items() if points]
    rows = result["differences"] or experiments
    values = 100 * np.array([[row["mean"], *(row["iou"][name] for name in classes)] for row in rows.values()])
    if result["differences"]:
        names, sign, limit = list(map(difference_name, rows)), "+", max(np.abs(values).max(), 1.0)
        colours = {"cmap": "RdBu", "vmin": -limit, "vmax": limit}
        title = "difference of IoU per class, mean over seeds, percentage points"
    else:
        names, sign = list(map(wrapped, rows)), ""
        colours, title = {"cmap": "Blues", "vmin": 0, "vmax": 100}, "IoU per class, mean over seeds, %"
    size = WIDTH + 1.5, row_height(names, 0.46) * len(rows) + 1.7
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    picture = axis.imshow(values, aspect="auto", **colours)
    axis.set_xticks(range(len(classes) + 1), ["mIoU", *classes], rotation=50, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), names)
    axis.tick_params(labelsize=8, length=0)
    axis.axvline(0.5, color="white", linewidth=4)
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = picture.to_rgba(value)
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        digits = 1 if abs(value) < 9.95 else 0
        axis.text(
            column,
            row,
            f"{value:{sign}.{digits}f}",
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if dark else INK,
        )
    axis.set_title(f"{result['comparison']}: {title}", loc="left", fontsize=10, color=INK)
    axis.spines[:].set_visible(False)
    save(figure, path)


# One row for each experiment. ---------------------------------------------------------------------------------------


def _experiment_rows(axis: Axes, experiments: Mapping[str, Any]) -> None:
    for row, experiment in enumerate(experiments.values()):
        colour = colour_of(experiment)
        _dots(axis, experiment["miou"], row, colour)
        _mean_bar(axis, experiment, row, colour)
        points = experiment["teacher_points"]
        knows = f", teacher {100 * points['miou']:.0f}" if points else ""
        scans = experiment["labelled_scans"]
        labels = f"{scans:,} scan{'s' * (scans != 1)}" if scans else "no labels"
        _note(axis, row, spread_text(experiment, ".1f"), labels + knows)
    _name_rows(axis, _numbered(experiments))
    axis.set_title(
        "mIoU, %. Bars: mean ± standard deviation (sd). Right: labelled scans, teacher's mIoU at projected points",
        loc="left",
        fontsize=9.5,
    )
    legend_below(axis, experiment_marks(experiments), 0.03)


def _difference_rows(axis: Axes, differences: Mapping[str, Any]) -> None:
    axis.use_sticky_edges = False
    for row, found in enumerate(differences.values()):
        colour = colour_of_difference(found)
        _dots(axis, found["seeds"], row, colour)
        seeds, places = intervals_of(found)
        axis.plot(100 * found["mean"], row, "|", color=colour, markersize=14, mew=2.0)
        if seeds is not None:
            axis.plot(100 * np.array(seeds), [row] * 2, "-", color=colour, linewidth=1.8)
        if places is not None:
            axis.plot(100 * np.array(places), [row + 0.22] * 2, ":", color=colour, linewidth=1.4)
        _note(axis, row, interval_text(found))
    axis.axvline(0, color=INK, linewidth=1, zorder=1)
    _name_rows(axis, list(map(difference_name, differences)))
    axis.set_title(
        "difference of mIoU, percentage points (paired by seed). Right: mean, 95 % interval over seeds",
        loc="left",
        fontsize=9.5,
    )
    legend_below(axis, difference_marks(differences.values()), 0.03)


def _numbered(experiments: Mapping[str, Any]) -> list[str]:
    return [wrapped(f"#{k} {label}") for k, label in enumerate(experiments, 1)]


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names, fontsize=8.5)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8.5)
    axis.grid(axis="x", **GRID)


def _dots(axis: Axes, values: Sequence[float], row: int, colour: str) -> None:
    axis.plot(100 * np.array(values), [row] * len(values), "o", color=colour, markersize=5, alpha=0.45, mew=0)


def _mean_bar(axis: Axes, values: Mapping[str, Any], row: int, colour: str) -> None:
    sd = None if values["sd"] is None else 100 * values["sd"]
    axis.errorbar(100 * values["mean"], row, xerr=sd, fmt="|", markersize=14, capsize=3, **line(colour))


def _note(axis: Axes, row: int, number: str, more: str = "") -> None:
    axis.annotate(number, (1, row), xytext=(5, 0), fontsize=8.5, color=INK, **BESIDE)
    if more:
        axis.annotate(more, (1, row), xytext=(62, 0), fontsize=8, color="#666666", **BESIDE)
