"""Figures: PNG files that a person would rather look at than read numbers."""

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch

from elite_pipeline.datasets.semantickitti import CLASSES, COLOURS, IGNORE

DPI = 130
INK = "#222222"
PAINTED_WIDTH = 1241
"""Pixels: about the width of a picture with points on it."""

RANGE = 50.0
"""Metres from the sensor to the edge of a bird's-eye view."""


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


def plot_projection(path, image, pixel, depth, labels, title):
    """LiDAR over image by class and by depth.

    image: (H, W, 3) uint8. pixel: (M, 2) float, depth: (M,) float metres, labels: (M,) uint8 training ids or None, all
    of visible points.
    """
    order = np.argsort(-depth)
    pixel, depth = pixel[order], depth[order]
    # Log scale: the near range, where a calibration error shows, takes most of the colour map.
    shade = np.log(np.clip(depth, 2, 80) / 2) / np.log(40)
    pictures = [(paint(image, pixel, (plt.get_cmap("turbo_r")(shade)[:, :3] * 255).astype(np.uint8)), "depth")]
    if labels is not None:
        pictures.insert(0, (paint(image, pixel, COLOURS[labels[order]]), "class"))
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
    bar.set_label("metres along the camera's axis", fontsize=8)
    bar.set_ticks([2, 5, 10, 20, 40, 80], labels=["2", "5", "10", "20", "40", "80"], fontsize=8)
    bar.minorticks_off()
    if labels is not None:
        _legend(figure, np.unique(labels))
    save(figure, path)


def plot_labels(path, rows):
    """Sparse labels, pseudo-labels and dense truth side by side.

    rows: list of (title, image (H, W, 3) uint8, pixel (M, 2), sparse (M,) uint8, pseudo (H, W) uint8, truth (H, W)
    uint8 or None); all labels are training ids.
    """
    with_truth = any(row[-1] is not None for row in rows)
    lines, seen = [], set()
    for title, image, pixel, sparse, pseudo, truth in rows:
        known = sparse != IGNORE
        line = [
            (title, image),
            (f"{known.sum()} sparse labels", paint(image, pixel[known], COLOURS[sparse[known]], size=4)),
            (f"pseudo-labels ({(pseudo != IGNORE).mean():.0%})", overlay(image, pseudo)),
        ]
        seen |= set(np.unique(pseudo)) | set(np.unique(sparse))
        if with_truth:
            line.append(("dense truth", overlay(image, truth if truth is not None else np.zeros_like(pseudo))))
            seen |= set(np.unique(truth)) if truth is not None else set()
        lines.append(line)
    grid(path, lines, sorted(seen))


def plot_predictions(path, rows):
    """Bird's-eye view of prediction, truth and errors.

    rows: list of (title, points (N, >=3) metres, prediction (N,) uint8, truth (N,) uint8), labels as training ids.
    """
    figure, axes = plt.subplots(len(rows), 3, figsize=(15, 5.2 * len(rows) + 0.6), squeeze=False, layout="constrained")
    seen = set()
    for line, (title, points, prediction, truth) in zip(axes, rows, strict=True):
        evaluated = truth != IGNORE
        wrong = evaluated & (prediction != truth)
        agreement = 1 - wrong.sum() / max(evaluated.sum(), 1)
        errors = np.full((len(points), 3), 70, dtype=np.uint8)
        errors[wrong] = (255, 60, 60)
        order = np.argsort(points[:, 2])
        # A point is drawn over lower ones; errors are drawn over everything.
        by_error = np.argsort(wrong, kind="stable")
        for axis, colours, drawn, name in (
            (line[0], COLOURS[prediction], order, f"{title}: prediction"),
            (line[1], COLOURS[truth], order, "truth"),
            (line[2], errors, by_error, f"errors (red): {agreement:.1%} of evaluated points agree"),
        ):
            # Forward (x) is up, left (y) is left.
            axis.scatter(-points[drawn, 1], points[drawn, 0], c=colours[drawn] / 255, s=0.6, linewidths=0)
            axis.set(
                xlim=(-RANGE, RANGE), ylim=(-RANGE, RANGE), aspect="equal", facecolor="black", xticks=[], yticks=[]
            )
            axis.set_title(name, fontsize=9, color=INK, loc="left")
        seen |= set(np.unique(prediction)) | set(np.unique(truth))
    line[0].plot([-RANGE + 4, -RANGE + 14], [-RANGE + 4] * 2, color="white", linewidth=2)
    line[0].text(-RANGE + 9, -RANGE + 6, "10 m", color="white", fontsize=8, ha="center")
    _legend(figure, sorted(seen))
    save(figure, path)


def plot_miou(path, result):
    """IoU per class as bars, and the confusion matrix, of a `<experiment>_miou.json`."""
    classes = CLASSES[1:]
    confusion = np.array(result["confusion"], dtype=float)
    present = confusion[:, 1:].sum(axis=0)
    figure, (bars, matrix) = plt.subplots(1, 2, figsize=(14.5, 6.2), width_ratios=[1, 1.25], layout="constrained")
    values = [100 * result["iou"][name] for name in classes]
    bars.barh(classes, values, color=COLOURS[1:] / 255, edgecolor="#666666", linewidth=0.5)
    for row, (value, points) in enumerate(zip(values, present, strict=True)):
        bars.text(value + 1, row, f"{value:.1f}" if points else "no points", va="center", fontsize=8, color=INK)
    bars.axvline(100 * result["miou"], color=INK, linestyle="--", linewidth=1)
    bars.set(xlim=(0, 108), xlabel="IoU, %")
    bars.invert_yaxis()
    bars.set_title(f"{result['experiment']}: mIoU {100 * result['miou']:.1f} %, {result['scans']} scans", loc="left")
    # Rows of the figure: truth. Each adds to 100 % over the predictions.
    share = (confusion[1:, 1:] / np.maximum(confusion[:, 1:].sum(axis=0), 1)).T
    picture = matrix.imshow(share, cmap="Blues", vmin=0, vmax=1)
    matrix.set_xticks(range(len(classes)), classes, rotation=60, ha="right", fontsize=8)
    matrix.set_yticks(range(len(classes)), classes, fontsize=8)
    for row, column in np.argwhere(share >= 0.1):
        dark = share[row, column] > 0.55
        text = f"{100 * share[row, column]:.0f}"
        matrix.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else INK)
    matrix.set(xlabel="prediction", ylabel="truth")
    matrix.set_title("where the points of each class went, %", loc="left")
    figure.colorbar(picture, ax=matrix, fraction=0.04, pad=0.02)
    save(figure, path)


def plot_latency(path, result):
    """Distribution of each phase's latency of a `<experiment>_latency.json`, against the budget."""
    phases = [name for name in ("read", "voxelise", "forward", "scatter_back", "total") if name in result["phases"]]
    figure, axis = plt.subplots(figsize=(10, 4.2), layout="constrained")
    samples = [result["samples"][name] for name in phases]
    axis.boxplot(
        samples,
        orientation="horizontal",
        whis=(5, 95),
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": "#9fc5e8", "edgecolor": INK},
        medianprops={"color": INK},
        flierprops={"marker": ".", "markersize": 4},
    )
    for row, name in enumerate(phases, 1):
        note = f"p50 {result['phases'][name]['p50']:.1f}, p99 {result['phases'][name]['p99']:.1f} ms"
        axis.annotate(note, (1.01, row), xycoords=("axes fraction", "data"), fontsize=8, va="center", color=INK)
    axis.axvline(result["budget_ms"], color="#cc0000", linestyle="--", linewidth=1)
    axis.text(result["budget_ms"], 0.42, f" {result['budget_hz']:.0f} Hz", color="#cc0000", fontsize=8, va="bottom")
    axis.set_xscale("log")
    axis.set_yticks(range(1, len(phases) + 1), [f"{n} (outside total)" if n == "read" else n for n in phases])
    axis.invert_yaxis()
    axis.set_xlabel("ms per scan")
    axis.set_title(
        f"{result['hz']:.1f} Hz at the median, batch 1, {result['precision']}, on {result['device']}",
        loc="left",
        fontsize=9,
    )
    save(figure, path)


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
    _legend(figure, classes)
    save(figure, path)


def _legend(figure, labels):
    handles = [
        Patch(facecolor=tuple(COLOURS[k] / 255), edgecolor="#666666", label=CLASSES[k]) for k in labels if k != IGNORE
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=10, fontsize=8, frameon=False)


def save(figure, path):
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
