"""The reliability diagram of a teacher's soft labels: how often they are right, over how confident they are."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from elite_pipeline.figures.canvas import INK, plt, save

KINDS = {"targets": "of the frame's own images", "aggregated": "aggregated over the place"}
COLOURS = {"before": "#cc6600", "after": "#1f6fb4"}

FEW = 0.001
"""Bins with a smaller share of the points get no mark: their accuracy is chance."""


def plot_reliability(path: Path, result: dict[str, Any]) -> None:
    """Draw accuracy over confidence, and the points in each bin, before and after the temperature.

    result: the JSON of calibrate_targets. Both kinds of soft labels are side by side, where both were calibrated.
    """
    shown = {kind: title for kind, title in KINDS.items() if result[kind] is not None}
    figure, axes = plt.subplots(
        2,
        len(shown),
        figsize=(6.2 * len(shown), 7.4),
        height_ratios=[2.6, 1],
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for (kind, title), lines, bars in zip(shown.items(), axes[0], axes[1], strict=True):
        _plot_lines(lines, result[kind])
        _plot_bars(bars, result[kind])
        lines.set_title(f"soft labels {title}", loc="left", fontsize=10)
        bars.set_xlabel("confidence, %")
    axes[0, 0].set_ylabel("points that are right, %")
    axes[1, 0].set_ylabel("share of the points, %")
    scans = f"{result['scans']} labelled scans"
    where = f"{scans} that the teacher was not tuned on" if result["held_out"] else f"{scans}, none of them held out"
    oracle = ", an oracle" if result["oracle"] else ""
    figure.suptitle(
        f"confidence of {result['teacher']}{oracle} on {result['dataset']}: {where}",
        x=0.01,
        ha="left",
        fontsize=11,
        color=INK,
    )
    save(figure, path)


def _plot_lines(axis: Axes, kind: dict[str, Any]) -> None:
    """Draw accuracy over mean confidence of each bin. kind: the `calibration` of one kind of soft labels."""
    axis.plot([0, 100], [0, 100], color="#999999", linewidth=1, label="calibrated")
    axis.set(xlim=(0, 100), ylim=(0, 100))
    axis.grid(color="#e5e5e5", linewidth=0.7)
    axis.set_axisbelow(True)
    if kind["bins"] is None:
        axis.text(50, 50, "no labelled point", ha="center", color=INK)
        return
    for when, colour in COLOURS.items():
        bins = [b for b in kind["bins"][when] if b["share"] >= FEW]
        temperature = 1.0 if when == "before" else kind["temperature"]
        label = f"temperature {temperature:.2f}: mean distance {100 * kind[f'ece_{when}']:.1f} %"
        confidence, accuracy = [100 * b["confidence"] for b in bins], [100 * b["accuracy"] for b in bins]
        axis.plot(confidence, accuracy, color=colour, marker="o", markersize=4, label=label, clip_on=False)
    axis.legend(fontsize=8, frameon=False, loc="upper left")


def _plot_bars(axis: Axes, kind: dict[str, Any]) -> None:
    """Draw the share of the points in each bin. kind: as in `_plot_lines`."""
    axis.grid(color="#e5e5e5", linewidth=0.7, axis="y")
    axis.set_axisbelow(True)
    for place, (when, colour) in enumerate(COLOURS.items()):
        bins = kind["bins"][when] if kind["bins"] else []
        width = 100 / max(1, len(bins))
        left = [width * (k + 0.08 + 0.42 * place) for k in range(len(bins))]
        axis.bar(left, [100 * b["share"] for b in bins], width=0.42 * width, align="edge", color=colour)
