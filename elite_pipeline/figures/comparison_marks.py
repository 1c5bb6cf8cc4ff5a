"""Colours, marks and legends that the panels of a comparison share."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from elite_pipeline.comparison.intervals import over_seeds, side
from elite_pipeline.comparison.runs import pretraining
from elite_pipeline.evaluation.metrics import is_oracle
from elite_pipeline.figures.canvas import INK

WITHOUT, DISTILLED, PRETRAINED, ORACLE = "#555555", "#1f6fb4", "#7b3fa0", "#cc6600"
ARMS = [PRETRAINED, "#0b8f8f", "#c2578f", DISTILLED, "#8a7a00", "#5b8bd0"]
"""Colours of the arms other than `WITHOUT`, in turn. Green and red are reserved for gain and loss."""

SHAPES = "osD^vP"
"""Marks of the arms' seeds, in turn."""

BETTER, WORSE, UNSURE = "#1f7a3d", "#b3261e", "#777777"
"""Colours of a mean difference: all its intervals lie above zero, all below, or neither."""

GRID = {"color": "#e5e5e5", "linewidth": 0.7}
ORACLE_NAME = "oracle: ground truth with added errors, a diagnostic, not a result"


def colour_of(experiment: Mapping[str, Any]) -> str:
    """Return the colour of an experiment: labels alone, pre-trained backbone, teacher, or oracle."""
    if is_oracle(experiment):
        return ORACLE
    if pretraining(experiment):
        return PRETRAINED
    return DISTILLED if experiment["distilled"] else WITHOUT


def colour_of_difference(found: Mapping[str, Any]) -> str:
    """Return the colour of a difference: on which side of zero its intervals lie."""
    sides = {side(interval) for interval in intervals_of(found) if interval}
    return BETTER if sides == {1} else WORSE if sides == {-1} else UNSURE


def intervals_of(found: Mapping[str, Any]) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Return the 95 % intervals of a difference, over seeds and over places; None where there is none.

    Older comparisons hold no intervals. Those over seeds follow from the seeds.
    """
    return over_seeds(found["seeds"]), found.get("over_places")


def line(colour: str) -> dict[str, Any]:
    """Return the options of an error bar."""
    return {"color": colour, "elinewidth": 1.8, "markeredgewidth": 2.0, "capthick": 1.4}


def experiment_marks(experiments: Mapping[str, Any]) -> list[Artist]:
    """Return legend handles for the kinds of experiments that occur."""
    present = list(map(colour_of, experiments.values()))
    names = {WITHOUT: "labels alone", PRETRAINED: "pre-trained", DISTILLED: "distilled", ORACLE: ORACLE_NAME}
    handles = [Patch(color=colour, label=name) for colour, name in names.items() if colour in present]
    return [Line2D([], [], marker="o", linestyle="", color=INK, alpha=0.45, label="one seed"), *handles]


def difference_marks(differences: Iterable[Mapping[str, Any]]) -> list[Artist]:
    """Return legend handles for the colours of differences, and for their kinds of intervals that occur."""
    worth = {
        BETTER: "gain: intervals above zero",
        WORSE: "loss: below zero",
        UNSURE: "unsure",
    }
    marks = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for colour, name in worth.items()]
    seeds, places = zip(*map(intervals_of, differences), strict=True)
    if any(seeds):
        marks.append(Line2D([], [], color=INK, linewidth=1.8, label="95 % over seeds"))
    if any(places):
        marks.append(Line2D([], [], color=INK, linewidth=1.4, linestyle=":", label="95 % over places"))
    return [*marks]


def spread_text(values: Mapping[str, Any], form: str) -> str:
    """Return `mean ± sd` in percent, or only the mean if there is one seed."""
    sd = "" if values["sd"] is None else f" ± {100 * values['sd']:.1f}"
    return f"{100 * values['mean']:{form}}{sd}"


def interval_text(found: Mapping[str, Any]) -> str:
    """Return the mean of a difference, and its interval over seeds if it has one, in percentage points."""
    over, _ = intervals_of(found)
    ends = "" if over is None else f" ({100 * over[0]:+.1f} to {100 * over[1]:+.1f})"
    return f"{100 * found['mean']:+.1f}{ends}"


def wrapped(text: str) -> str:
    """Return `text` in lines that leave room for the picture."""
    return textwrap.fill(text, 38)


def difference_name(name: str) -> str:
    """Return `a - b`, in several lines if it is long. If a label contains ` - `, the break may be there instead."""
    return name if len(name) <= 38 else "\n- ".join(map(wrapped, name.split(" - ", 1)))


def row_height(names: Iterable[str], least: float) -> float:
    """Return the height in inches of a row for the tallest of `names`, at least `least`."""
    return max([least, *(0.06 + 0.17 * (name.count("\n") + 1) for name in names)])


def legend_below(axis: Axes, handles: Sequence[Artist], below: float) -> None:
    """Draw a legend under `axis` at `below` times the axis height: in one line, or in columns if it is long."""
    # Widths in letters: 128 letters fit; a mark and its space take seven.
    widths = [7 + len(str(handle.get_label())) for handle in handles]
    columns = len(handles) if sum(widths) <= 128 else 128 // max(widths)
    axis.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, -below),
        borderaxespad=1.5,
        columnspacing=1.4,
        fontsize=8,
        frameon=False,
        ncols=columns,
    )
