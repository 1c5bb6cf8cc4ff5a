"""Colours, marks and legends that the panels of a comparison share."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from elite_pipeline.comparison.runs import NOTEWORTHY, pretraining
from elite_pipeline.evaluation.metrics import is_oracle
from elite_pipeline.figures.canvas import INK

WITHOUT, DISTILLED, PRETRAINED, ORACLE = "#555555", "#1f6fb4", "#7b3fa0", "#cc6600"
ARMS = [PRETRAINED, "#0b8f8f", "#c2578f", DISTILLED, "#8a7a00", "#5b8bd0"]
"""Colour of each arm that is not `WITHOUT`, in turn; green and red mean gain and loss."""

SHAPES = "osD^vP"
"""Mark of each arm's seeds, in turn."""

BETTER, WORSE, UNSURE = "#1f7a3d", "#b3261e", "#777777"
"""Colour of a mean difference: gain or loss of more than `NOTEWORTHY` standard deviations, or neither."""

NOISE, NEAR_NOISE = "#cfcfcf", "#ececec"
"""Colour of the bands of one and of `NOTEWORTHY` standard deviations about no difference."""

GRID = {"color": "#e5e5e5", "linewidth": 0.7}
ORACLE_NAME = "oracle: corrupted truth, a diagnostic of the simulator and no result"


def colour_of(experiment: Mapping[str, Any]) -> str:
    """By what it had beside labels: nothing, a pre-trained backbone, a teacher, or an oracle."""
    if is_oracle(experiment):
        return ORACLE
    if pretraining(experiment):
        return PRETRAINED
    return DISTILLED if experiment["distilled"] else WITHOUT


def colour_of_difference(found: Mapping[str, Any]) -> str:
    """By whether it is more than `NOTEWORTHY` standard deviations of the seeds."""
    if found["larger_sd"] is None or abs(found["mean"]) <= NOTEWORTHY * found["larger_sd"]:
        return UNSURE
    return BETTER if found["mean"] > 0 else WORSE


def line(colour: str) -> dict[str, Any]:
    """Options of an errorbar."""
    return {"color": colour, "elinewidth": 1.8, "markeredgewidth": 2.0, "capthick": 1.4}


def experiment_marks(experiments: Mapping[str, Any]) -> list[Artist]:
    """Legend handles of the kinds of experiments that there are."""
    present = list(map(colour_of, experiments.values()))
    names = {WITHOUT: "labels alone", PRETRAINED: "pre-trained", DISTILLED: "distilled", ORACLE: ORACLE_NAME}
    handles = [Patch(color=colour, label=name) for colour, name in names.items() if colour in present]
    return [Line2D([], [], marker="o", linestyle="", color=INK, alpha=0.45, label="a seed"), *handles]


def difference_marks() -> list[Artist]:
    """Legend handles of the colours of differences, and of the seeds' spread."""
    worth = {BETTER: f"gain of more than {NOTEWORTHY} sd", WORSE: "loss of as much", UNSURE: "neither"}
    marks = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for colour, name in worth.items()]
    return [*marks, Patch(color=NOISE, label=f"sd of the seeds: noise (light: {NOTEWORTHY} sd)")]


def spread_text(values: Mapping[str, Any], form: str) -> str:
    """`mean ± sd` in percent; the mean alone where there is one seed."""
    sd = "" if values["sd"] is None else f" ± {100 * values['sd']:.1f}"
    return f"{100 * values['mean']:{form}}{sd}"


def wrapped(text: str) -> str:
    """`text` in lines that leave room for the picture."""
    return textwrap.fill(text, 38)


def difference_name(name: str) -> str:
    """`a - b` in lines, where it is long. A label may itself hold ` - `, then the break is merely elsewhere."""
    return name if len(name) <= 38 else "\n- ".join(map(wrapped, name.split(" - ", 1)))


def row_height(names: Iterable[str], least: float) -> float:
    """Inches of a row that holds the tallest of `names`, `least` at least."""
    return max([least, *(0.06 + 0.17 * (name.count("\n") + 1) for name in names)])


def legend_below(axis: Axes, handles: Sequence[Artist], below: float) -> None:
    """A legend in one line under `axis`, or in columns where it is long, `below` times its height under it."""
    # In letters, of which there is room for so many; a mark and the space beside it take seven.
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
