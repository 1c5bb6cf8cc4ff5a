"""Figure of 2D features, and 3D features before and after the domain-adaptation module, in one plane."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.figures.canvas import INK, save
from elite_pipeline.figures.drives import plt

MODALITIES = {"2D, image": "#444444", "3D, before the module": "#cc6600", "3D, after the module": "#1f6fb4"}
"""Colours of the modalities, in the order of `evaluation.embedding.plane`."""

OTHERS = "#dddddd"

MEANING = (
    "A dot is an image patch (2D) or the points in it (3D). All panels show one t-SNE of all features.\n"
    "CKA: similarity to 2D, 1 if equal up to rotation, scale and translation. Separable from 2D: accuracy of a linear"
    " classifier, 50 % is chance.\nSame class: nearest 2D feature in another scan has the same class;"
    " chance: with these neighbours assigned at random."
)


def plot_embedding(
    path: Path, result: dict[str, Any], places: np.ndarray, classes: np.ndarray, table: ClassTable
) -> None:
    """Draw all features by modality, and each modality by class, with the numbers of `result`.

    result: the JSON of plot_embedding. places: (3, R, 2) from `evaluation.embedding.plane`. classes: (R,) int training
    ids.
    """
    figure, axes = plt.subplots(2, 2, figsize=(11, 12.9), layout="constrained")
    axes, rng = axes.ravel(), np.random.default_rng(0)
    _scatter(axes[0], places.reshape(-1, 2), np.repeat(list(MODALITIES.values()), len(classes)), rng)
    axes[0].legend(
        handles=[_mark(colour, name) for name, colour in MODALITIES.items()],
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=3,
        columnspacing=1.2,
        handletextpad=0.2,
        fontsize=8.5,
        frameon=False,
    )
    for k, axis in enumerate(axes[1:]):
        axis.scatter(*np.delete(places, k, axis=0).reshape(-1, 2).T, color=OTHERS, s=5, linewidths=0)
        _scatter(axis, places[k], table.palette[classes] / 255, rng, edgecolors="#666666", linewidths=0.25)
    numbers = ["features of the teacher", _numbers(result, "before"), _numbers(result, "after")]
    titles = ["2D and 3D\nby modality", *map("{}, by class\n{}".format, MODALITIES, numbers)]
    # Equal limits on both axes of nearly square panels, so that distances have the same scale.
    low, high = places.min(axis=(0, 1)), places.max(axis=(0, 1))
    middle, half = (low + high) / 2, 0.53 * (high - low).max()
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xlim=middle[0] + (-half, half), ylim=middle[1] + (-half, half), xticks=[], yticks=[])
        axis.set_title(title, fontsize=9.5, color=INK, loc="left")
        axis.spines[:].set_color("#bbbbbb")
    figure.suptitle(
        f"{result['experiment']}: {result['rows']:,} image patches of {result['scans']} labelled scans",
        x=0.01,
        ha="left",
        fontsize=11,
        color=INK,
    )
    legend = figure.legend(
        handles=[_mark(tuple(table.palette[k] / 255), table.names[k]) for k in np.unique(classes)],
        title=MEANING,
        title_fontsize=8.5,
        alignment="left",
        loc="outside lower left",
        ncols=10,
        columnspacing=1.2,
        handletextpad=0.2,
        fontsize=8.5,
        frameon=False,
    )
    legend.get_title().set_color("#666666")
    save(figure, path)


def _scatter(axis: Axes, places: np.ndarray, colours: np.ndarray, rng: np.random.Generator, **options: Any) -> None:
    # Draw in random order, so that no class or modality covers the others.
    order = rng.permutation(len(places))
    axis.scatter(*places[order].T, c=colours[order], s=11, **{"linewidths": 0} | options)


def _numbers(result: dict[str, Any], side: str) -> str:
    share = {key: f"{100 * result[key][side]:.0f} %" for key in ("separability", "nearest_same_class", "chance")}
    return (
        f"CKA {result['cka'][side]:.2f}, separable from 2D {share['separability']},"
        f" same class {share['nearest_same_class']} (chance {share['chance']})"
    )


def _mark(colour: ColorType, name: str) -> Line2D:
    return Line2D([], [], marker="o", linestyle="", color=colour, mec="#666666", mew=0.4, markersize=6, label=name)
