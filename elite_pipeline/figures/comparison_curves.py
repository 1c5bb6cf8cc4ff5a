"""Panels of a comparison: curves over labelled scans, arms by setting, and gains over the accuracy of oracles."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from elite_pipeline.comparison.runs import baselines, difference, pretraining
from elite_pipeline.evaluation.metrics import is_oracle
from elite_pipeline.figures.canvas import INK
from elite_pipeline.figures.comparison_marks import (
    ARMS,
    DISTILLED,
    GRID,
    ORACLE,
    ORACLE_NAME,
    SHAPES,
    WITHOUT,
    colour_of_difference,
    difference_marks,
    intervals_of,
    legend_below,
    line,
)

Panel = tuple[float, Callable[[Axes], None]]
"""Height in inches, and the function that draws the panel."""

Curves = Mapping[bool, Mapping[int, str]]
"""The result of `comparison.runs.curves`."""

Arms = Mapping[str, Mapping[str, str]]
"""The result of `arms`."""


def curve_panels(experiments: Mapping[str, Any], lines: Curves) -> list[Panel]:
    """Return two panels: mIoU with and without distillation, and the gain by distillation."""
    return [
        (4.6, lambda axis: _miou_curves(axis, experiments, lines)),
        (3.0, lambda axis: _gain_curve(axis, experiments, lines)),
    ]


def _miou_curves(axis: Axes, experiments: Mapping[str, Any], lines: Curves) -> None:
    for distilled, points in lines.items():
        colour = DISTILLED if distilled else WITHOUT
        found = [experiments[label] for label in points.values()]
        scans, means = list(points), 100 * np.array([e["mean"] for e in found])
        sds = 100 * np.array([e["sd"] or 0 for e in found])
        axis.fill_between(scans, means - sds, means + sds, color=colour, alpha=0.15, linewidth=0)
        axis.plot(scans, means, "-", color=colour, linewidth=1.8)
        for at, experiment in zip(scans, found, strict=True):
            miou = 100 * np.array(experiment["miou"])
            axis.plot([at] * len(miou), miou, "o", color=colour, markersize=5, alpha=0.55, mew=0)
        axis.annotate(
            "distilled" if distilled else "no distillation",
            (scans[-1], means[-1]),
            xytext=(9, 7 if means[-1] >= 100 * experiments[lines[not distilled][scans[-1]]]["mean"] else -7),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour,
        )
    _scans_axis(axis, experiments, lines)
    axis.set_title("mIoU, %. Dots: seeds. Line and band: mean ± standard deviation (sd)", loc="left", fontsize=9.5)


def _gain_curve(axis: Axes, experiments: Mapping[str, Any], lines: Curves) -> None:
    found = [difference(experiments[lines[True][scans]], experiments[lines[False][scans]]) for scans in lines[True]]
    scans = list(lines[True])
    axis.axhline(0, color=INK, linewidth=1)
    axis.plot(scans, [100 * d["mean"] for d in found], "-", color=INK, linewidth=1, alpha=0.5)
    for at, gain in zip(scans, found, strict=True):
        colour, (seeds, _) = colour_of_difference(gain), intervals_of(gain)
        axis.plot([at] * len(gain["seeds"]), 100 * np.array(gain["seeds"]), "o", color=colour, alpha=0.45, mew=0, ms=5)
        axis.plot(at, 100 * gain["mean"], "_", color=colour, markersize=14, mew=2.0)
        if seeds is not None:
            axis.plot([at] * 2, 100 * np.array(seeds), "-", color=colour, linewidth=1.8)
        text = f"{100 * gain['mean']:+.1f}"
        axis.annotate(text, (at, 100 * gain["mean"]), xytext=(10, 6), textcoords="offset points", fontsize=8.5)
    _scans_axis(axis, experiments, lines)
    axis.set_title(
        "gain in mIoU by distillation, percentage points (paired by seed), 95 % intervals over seeds",
        loc="left",
        fontsize=9.5,
    )
    legend_below(axis, difference_marks(found), 0.28)


def _scans_axis(axis: Axes, experiments: Mapping[str, Any], lines: Curves) -> None:
    scans = list(lines[True])
    shares = [f"{round(100 * experiments[label]['labelled'], 1):g}" for label in lines[True].values()]
    axis.set_xscale("log")
    axis.set_xlim(scans[0] / 1.25, scans[-1] * 1.6)
    axis.set_xticks(scans, [f"{at:,}\n{share} %" for at, share in zip(scans, shares, strict=True)], fontsize=8.5)
    axis.minorticks_off()
    axis.tick_params(axis="y", labelsize=8.5)
    axis.set_xlabel("number of labelled scans, and their share of the training scans", fontsize=8.5)
    axis.grid(**GRID)


# Arms in several settings. A setting need not be a number. ----------------------------------------------------------


def arms(experiments: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return {arm: {setting: label}} for `figure: arms`, in the order of first occurrence."""
    found: dict[str, dict[str, str]] = {}
    for label, experiment in experiments.items():
        found.setdefault(experiment["arm"], {})[experiment["setting"]] = label
    return found


def arms_panel(axis: Axes, experiments: Mapping[str, Any], found: Arms) -> None:
    """Draw the mIoU of `found` by setting, arms side by side. No lines: a setting need not be a number."""
    settings, colours, step = _settings(found), cycle(ARMS), 0.84 / len(found)
    for k, (arm, labels) in enumerate(found.items()):
        alone = not any(pretraining(experiments[x]) or experiments[x]["distilled"] for x in labels.values())
        colour, shape = WITHOUT if alone else next(colours), SHAPES[k % len(SHAPES)]
        for setting, label in labels.items():
            place, experiment = settings.index(setting) + step * (k - (len(found) - 1) / 2), experiments[label]
            miou, mean, sd = (100 * np.array(experiment[key] or 0) for key in ("miou", "mean", "sd"))
            axis.plot([place - step / 5] * len(miou), miou, shape, color=colour, ms=5, alpha=0.55, mew=0)
            axis.errorbar(place + step / 8, mean, yerr=sd, fmt="_", ms=12, capsize=3, **line(colour))
            note = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": 8, "color": colour}
            axis.annotate(f"{mean:.1f}", (place, max(miou.max(), mean + sd)), **note)
        axis.plot([], [], shape, color=colour, label=arm)
    scans = [sorted({experiments[of[s]]["labelled_scans"] for of in found.values() if s in of}) for s in settings]
    names = [f"{s}\n{' or '.join(map(str, n))} scan{'s' * (n != [1])}" for s, n in zip(settings, scans, strict=True)]
    axis.set_xticks(range(len(settings)), names, fontsize=8.5)
    axis.tick_params(axis="x", length=0)
    axis.tick_params(axis="y", labelsize=8.5)
    for border in range(1, len(settings)):
        axis.axvline(border - 0.5, **GRID)
    axis.set_xlim(-0.5, len(settings) - 0.5)
    axis.margins(y=0.1)
    axis.grid(axis="y", **GRID)
    axis.set_title(
        "mIoU, %. Marks: seeds. Bars: mean ± standard deviation. Below: labelled scans", loc="left", fontsize=9.5
    )
    legend_below(axis, axis.get_legend_handles_labels()[0], 0.1)


def _settings(found: Arms) -> list[str]:
    """Return the settings of all arms, in the order of first occurrence."""
    return list(dict.fromkeys(setting for labels in found.values() for setting in labels))


# Oracles: they show, in the simulator, the gain from a better teacher. ------------------------------------------------


def oracle_gains(experiments: Mapping[str, Any]) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return label -> (labelled scans, gain over the same experiment without distillation).

    The result contains oracles that have such a counterpart, and real teachers with as many labelled scans as one of
    these oracles. It is empty if no oracle has a counterpart.
    """
    found = {
        label: (experiments[label]["labelled_scans"], difference(experiments[label], experiments[base]))
        for label, base in baselines(experiments).items()
        if experiments[label]["teacher_points"]
    }
    among = {scans for label, (scans, _) in found.items() if is_oracle(experiments[label])}
    return {label: gain for label, gain in found.items() if gain[0] in among}


def oracle_panel(axis: Axes, experiments: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Draw the gain by distillation over the teacher's accuracy: oracles as a curve, real teachers as single marks.

    names: label -> text beside the mark, for the experiments that get a text.
    """
    gains = oracle_gains(experiments)
    place = {
        label: (100 * experiments[label]["teacher_points"]["accuracy"], 100 * gain["mean"])
        for label, (_, gain) in gains.items()
    }
    for label, (_, gain) in gains.items():
        colour, shape = (
            (ORACLE, {"fmt": "o", "mfc": "white"}) if is_oracle(experiments[label]) else (DISTILLED, {"fmt": "D"})
        )
        error = None if gain["sd"] is None else 100 * gain["sd"]
        axis.errorbar(*place[label], yerr=error, markersize=7, capsize=3, **shape, **line(colour))
    for scans in sorted({scans for scans, _ in gains.values()}):
        _oracle_curve(
            axis, sorted(place[x] for x in gains if gains[x][0] == scans and is_oracle(experiments[x])), scans
        )
    axis.margins(x=0.1, y=0.15)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0) - 0.14 * (high - min(low, 0)), high)
    _name_oracles(axis, {names[x]: place[x] for x in gains if x in names and is_oracle(experiments[x])})
    _name_teachers(axis, [(names[x], place[x]) for x in gains if x in names and not is_oracle(experiments[x])])
    axis.axhline(0, color=INK, linewidth=1)
    axis.grid(**GRID)
    axis.tick_params(labelsize=8.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.set_xlabel("accuracy of the teacher at the projected points, %", fontsize=8.5)
    axis.set_title("gain in mIoU by distillation, percentage points", loc="left", fontsize=9.5)
    handles = [
        Line2D([], [], marker="D", linestyle="", color=DISTILLED, label="real teacher"),
        Line2D([], [], marker="o", linestyle="--", mfc="white", color=ORACLE, label=ORACLE_NAME),
    ]
    legend_below(axis, handles, 0.12)


def _oracle_curve(axis: Axes, places: Sequence[tuple[float, float]], scans: int) -> None:
    axis.plot(*zip(*places, strict=True), "--", color=ORACLE, linewidth=1.2, zorder=1)
    middle = np.mean(places[-2:], axis=0)
    note = {"xytext": (8, -10), "textcoords": "offset points", "fontsize": 8, "color": ORACLE}
    axis.annotate(f"{scans:,} labelled scans", middle, **note)


def _name_oracles(axis: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    for name, place in places.items():
        axis.annotate(name, place, xytext=(-7, 5), textcoords="offset points", ha="right", fontsize=8.5, color=ORACLE)


def _name_teachers(axis: Axes, named: Iterable[tuple[str, tuple[float, float]]]) -> None:
    """Write names in a row at the bottom with thin lines to their marks, since marks of real teachers lie close."""
    named = sorted(named, key=lambda pair: pair[1])
    low, high = axis.get_xlim()
    gap, last = 0.045 * (high - low), -np.inf
    at = []
    for _, (x, _) in named:
        last = max(x, last + gap)
        at.append(last)
    shift = np.mean([x - a for (_, (x, _)), a in zip(named, at, strict=True)]) if named else 0
    for a, (name, place) in zip(at, named, strict=True):
        axis.annotate(
            name,
            place,
            xytext=(a + shift, 0.03),
            textcoords=("data", "axes fraction"),
            ha="center",
            fontsize=8.5,
            color=DISTILLED,
            arrowprops={"arrowstyle": "-", "color": DISTILLED, "alpha": 0.35, "linewidth": 0.8},
        )
