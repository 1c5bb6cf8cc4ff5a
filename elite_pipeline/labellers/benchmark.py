"""Compare labellers with known labels, on the same points: all points or a share of them.

The baseline is simple: each pixel takes the label of the nearest labelled pixel, up to the distance at which it covers
as many pixels as the labeller. SAM can beat it at borders, in gaps without points, and where few points are labelled.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.labellers.painting import CERTAIN, EMPTY, Labeller, PseudoLabels, paint
from elite_pipeline.planes import nearest_of

if TYPE_CHECKING:
    from elite_pipeline.recordings.camera_views import CameraView

Made = Mapping[str, tuple[PseudoLabels, float]]
"""Name of a labeller -> its pseudo-labels of a view, and the time it took in seconds."""

LABELLERS = {"paper": "paper", "default": "regions"}
"""Name in the results -> name of the labeller in the configuration."""

SHARES = (1.0, 0.2, 0.05, 0.01)
"""Shares of the labelled points that labellers see."""

BINS = 10
"""Number of confidence bins between 0 and `CERTAIN`."""

WORST = {1.0: 2, 0.05: 2}
"""Share of points -> number of its worst views that the gallery keeps."""


def split(view: "CameraView", seed: int, held_out: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Split the points of a view into those that labellers see and the reference that labels are scored against.

    view: it must have labels. held_out: share of the points that form the reference; None to use the dense truth.

    Returns (shown, reference). shown: indices of points in random order. reference: (H, W) uint8 training ids, `IGNORE`
    where the label is unknown. With held-out points, it is also `IGNORE` at every pixel that holds a shown point.
    """
    # The order depends only on the seed and the view's title. It does not change when other views are added.
    order = np.random.default_rng([seed, zlib.crc32(view.title.encode())]).permutation(len(view.pixel))
    if held_out is None:
        return order, view.truth  # pyright: ignore[reportReturnType]
    hidden, shown = np.split(order, [round(held_out * len(order))])
    reference, seen = _painted(view, hidden)[0], _painted(view, shown)[0]
    return shown, np.where((reference == EMPTY) | (seen != EMPTY), IGNORE, reference)


def thinned(view: "CameraView", shown: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Paint a `share` of the points `shown`, and return (sparse, instances) of `painting.paint`.

    The points of a smaller share are a subset of those of a larger share. At least one point is used.
    """
    return _painted(view, shown[: max(1, round(share * len(shown)))])


def _painted(view: "CameraView", points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert view.labels is not None
    assert view.instances is not None
    pixel, depth, label, instance = (v[points] for v in (view.pixel, view.depth, view.labels, view.instances))
    return paint(pixel, depth, label, instance, view.image.shape[:2])


def nearest_covering(sparse: np.ndarray, scored: np.ndarray, pixels: int) -> PseudoLabels:
    """Label each pixel like the nearest labelled pixel, so that exactly `pixels` of the `scored` pixels get a label.

    The radius grows until enough pixels are labelled. Among the scored pixels at the largest distance, the first in
    reading order are taken. The confidence falls with the distance as in the labeller `nearest`.

    sparse: (H, W) uint8, from `paint`. scored: (H, W) bool.
    """
    unlabelled = (sparse == EMPTY) | (sparse == IGNORE)
    if unlabelled.all() or not pixels:
        return PseudoLabels(np.zeros_like(sparse), np.zeros_like(sparse))
    distance, row, column = nearest_of(~unlabelled)
    candidates = np.flatnonzero(scored)
    candidates = candidates[np.argsort(distance.flat[candidates], kind="stable")]
    radius = distance.flat[candidates[:pixels]].max()
    label = np.where(distance <= radius, sparse[row, column], IGNORE)
    label.flat[candidates[pixels:]] = IGNORE
    confidence = np.where(label == IGNORE, 0, np.rint(CERTAIN * (1 - distance / (radius + 1)).clip(0)))
    return PseudoLabels(label, confidence.astype(np.uint8))


def compare(
    labellers: Mapping[str, Labeller], points: tuple[np.ndarray, np.ndarray], image: np.ndarray, reference: np.ndarray
) -> dict[str, tuple[PseudoLabels, float]]:
    """Run each of `labellers` on a view, and return its pseudo-labels and its time in seconds.

    Two baselines are added: `nearest` with the coverage of `default`, and `nearest at paper` with that of `paper`. Each
    labeller is timed alone. The time includes SAM's encoder; it does not include reading the image.

    points: (sparse, instances) from `paint`. image: (H, W, 3) uint8. reference: from `split`.
    """
    sparse, instances = points
    made = {name: _timed(label, sparse, instances, lambda: image) for name, label in labellers.items()}
    scored = reference != IGNORE
    for name, other in (("nearest", "default"), ("nearest at paper", "paper")):
        pixels = int((scored & (made[other][0].label != IGNORE)).sum())
        made[name] = _timed(nearest_covering, sparse, scored, pixels)
    return made


def _timed(function: Callable[..., PseudoLabels], *arguments: Any) -> tuple[PseudoLabels, float]:
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


class Score:
    """The summed scores of one labeller over views."""

    def __init__(self, classes: ClassTable) -> None:
        self.confusion = Confusion(classes)
        self.covered = np.zeros(BINS, np.int64)
        """Number of labelled and scored pixels per confidence bin; `right` counts the correct ones."""
        self.right = np.zeros(BINS, np.int64)
        self.outside = np.zeros(2, np.int64)
        """Number of pixels that are `IGNORE` in the reference: without and with a pseudo-label."""
        self.frames = self.prompts = self.decoder_calls = 0
        self.seconds = 0.0

    def add(self, reference: np.ndarray, made: PseudoLabels, seconds: float) -> float:
        """Add one view (reference: from `split`). Return its accuracy over covered pixels; NaN if none is covered."""
        view = Confusion(self.confusion.classes)
        view.add(reference, made.label)
        self.confusion.counts += view.counts
        labelled = made.label != IGNORE
        self.outside += np.bincount(labelled[reference == IGNORE], minlength=2)
        covered = labelled & (reference != IGNORE)
        # The confidences 1..CERTAIN are split into equal bins.
        bins = (made.confidence[covered].astype(np.intp).clip(1) - 1) * BINS // CERTAIN
        self.covered += np.bincount(bins, minlength=BINS)
        self.right += np.bincount(bins[(made.label == reference)[covered]], minlength=BINS)
        self.frames += 1
        self.prompts += made.prompts
        self.decoder_calls += made.decoder_calls
        self.seconds += seconds
        return view.accuracy

    def summary(self, dense: bool) -> dict[str, Any]:
        """Return the scores as JSON values. A score is None where no pixel is covered.

        dense: whether the reference is dense. Only then are labels outside the reference (on the sky, for example)
        counted as wrong; otherwise `labelled_outside` is None.
        """
        values = {name: getattr(self.confusion, name) for name in ("coverage", "accuracy", "miou", "miou_of_all")}
        return {
            **{name: _number(value) for name, value in values.items()},
            "labelled_outside": float(self.outside[1] / max(1, self.outside.sum())) if dense else None,
            "prompts_per_frame": self.prompts / self.frames,
            "decoder_calls_per_frame": self.decoder_calls / self.frames,
            "seconds_per_frame": self.seconds / self.frames,
            "frames": self.frames,
            "iou": self.confusion.iou,
            "reliability": [
                {
                    "confidence": [k / BINS, (k + 1) / BINS],
                    "share": float(covered / max(1, self.covered.sum())),
                    "accuracy": float(right / covered) if covered else None,
                }
                for k, (covered, right) in enumerate(zip(self.covered, self.right, strict=True))
            ],
        }


class LabellerComparison:
    """The summed results of `compare` for one share of the points."""

    def __init__(self, classes: ClassTable) -> None:
        self.scores = {name: Score(classes) for name in (*LABELLERS, "nearest", "nearest at paper")}
        self.per_frame: list[dict[str, Any]] = []

    def add(self, title: str, reference: np.ndarray, made: Made) -> float:
        """Add one view, and return the accuracy of `default` minus that of `nearest` in it; NaN if undefined."""
        accuracy = {name: self.scores[name].add(reference, *made[name]) for name in self.scores}
        self.per_frame.append({"view": title} | {name: _number(value) for name, value in accuracy.items()})
        return accuracy["default"] - accuracy["nearest"]

    def summary(self, dense: bool) -> dict[str, Any]:
        """Return JSON values: the labellers' scores, `default` against `nearest` view by view, and all views.

        dense: as in `Score.summary`.
        """
        labellers = {name: score.summary(dense) for name, score in self.scores.items()}
        for name in ("paper", "default", "nearest"):
            labellers[name] = {"labeller": LABELLERS.get(name, name), **labellers[name]}
        at_paper_coverage = labellers.pop("nearest at paper")
        compared = ("accuracy", "miou", "miou_of_all")
        labellers["paper"]["nearest_at_this_coverage"] = {name: at_paper_coverage[name] for name in compared}
        pairs = [(view["default"], view["nearest"]) for view in self.per_frame]
        gains = [default - nearest for default, nearest in pairs if None not in (default, nearest)]
        against = {
            "won": sum(gain > 0 for gain in gains),
            "lost": sum(gain < 0 for gain in gains),
            "tied": sum(gain == 0 for gain in gains),
            "mean_gain": float(np.mean(gains)) if gains else None,
        }
        return {"labellers": labellers, "default_against_nearest": against, "per_frame": self.per_frame}


class Gallery:
    """The views in which `default` is worst compared with `nearest`. `WORST` says how many per share of points."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.rows: dict[float, list[tuple[float, dict[str, Any]]]] = {share: [] for share in WORST}

    def add(
        self, gain: float, share: float, view: "CameraView", sparse: np.ndarray, reference: np.ndarray, made: Made
    ) -> None:
        """Keep the images of this view if it is among the worst. gain: from `LabellerComparison.add`."""
        if share not in WORST or np.isnan(gain):
            return
        labels = {name: made[name][0].label for name in (*LABELLERS, "nearest")}
        row = {"title": view.title, "share": share, "image": view.image, "sparse": sparse}
        row |= {"reference": reference, "dense": reference is view.truth}
        row |= {"confidence": made["default"][0].confidence, **labels}
        self.rows[share] = sorted([*self.rows[share], (gain, row)], key=lambda item: item[0])[: WORST[share]]

    def save(self, path: Path) -> None:
        """Write the rows to the .npz file `path`: first to a partial file, which is then renamed."""
        rows = [row for kept in self.rows.values() for _, row in kept]
        arrays = {f"{k}.{name}": value for k, row in enumerate(rows) for name, value in row.items()}
        arrays["classes"] = np.array(json.dumps(self.classes.to_json()))
        partial = Path(path).with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial, path)


def read_gallery(path: Path) -> tuple[list[dict[str, Any]], ClassTable]:
    """Read the file that `Gallery.save` wrote, and return (rows, class table).

    A row holds `title`, `share`, and `image` (H, W, 3) uint8. It also holds training ids, (H, W) uint8 each: `sparse`
    (from `paint`), `reference`, `paper`, `default` and `nearest`. `dense` tells whether the reference is dense or only
    at points. `confidence` (H, W) uint8 is that of `default`. Raises `InputError` where the class table is damaged.
    """
    rows: dict[int, dict[str, Any]] = {}
    with np.load(path) as file:
        classes = ClassTable.from_json(json.loads(str(file["classes"])), path)
        for key in set(file.files) - {"classes"}:
            k, _, name = key.partition(".")
            rows.setdefault(int(k), {})[name] = file[key]
    return [rows[k] for k in sorted(rows)], classes


def table(result: Mapping[str, Any]) -> str:
    """Return Markdown tables of `result` (the JSON of evaluate_pseudo_labels)."""
    rows = [
        f"| {float(share):.0%} | {name} | " + " | ".join(_cells(values)) + " |"
        for share, found in result["by_density"].items()
        for name, values in found["labellers"].items()
    ]
    wins = [
        f"| {float(share):.0%} | {a['won']} | {a['lost']} | {a['tied']} | {_percent(a['mean_gain'], '+.2f')} |"
        for share, a in ((share, found["default_against_nearest"]) for share, found in result["by_density"].items())
    ]
    iou = {name: values["iou"] for name, values in result["labellers"].items()}
    classes = [
        f"| {name} | " + " | ".join(_percent(values.get(name)) for values in iou.values()) + " |"
        for name in result["classes"]
        if any(name in values for values in iou.values())
    ]
    held_out = "" if result["held_out"] is None else f" ({result['held_out']:.0%} of the points)"
    return f"""# Pseudo-labels of {result["dataset"]} against {result["reference"]}{held_out}

{result["frames"]} images of sequences {", ".join(result["sequences"])}.

`default` is the labeller `{result["labellers"]["default"]["labeller"]}`. `paper` is ELiTe's SAM-PLG. Both use
{result["encoder"]}. `nearest` takes the label of the nearest labelled pixel. In each image it covers as many pixels as
`default`.

- points: share of the labelled points that the labellers saw
- accuracy, mIoU: over the covered pixels; the mIoU of all counts the other pixels as wrong
- outside: share of labelled pixels among those without a class in the dense truth, such as the sky
- prompts, calls (of SAM's decoder), seconds: per image; the seconds are of each labeller alone after a warm-up, with
  SAM's encoder and without reading the image, on {result["device"]} ({result["threads"]} CPU threads)

| points | labeller | coverage, % | accuracy, % | mIoU, % | mIoU of all, % | outside, % | prompts | calls | seconds |
|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|
{chr(10).join(rows)}

Number of images in which `default` is more accurate than `nearest` (won), less accurate (lost) or equal (tied). The
gain is the mean difference in percentage points:

| points | won | lost | tied | gain |
|---:|---:|---:|---:|---:|
{chr(10).join(wins)}

IoU of each class over the covered pixels, with all points shown, %:

| class | {" | ".join(iou)} |
|---|{"---:|" * len(iou)}
{chr(10).join(classes)}
"""


def _cells(values: Mapping[str, Any]) -> list[str]:
    """Return the cells of one labeller: percentages, then counts and seconds per image."""
    shares = [_percent(values[name]) for name in ("coverage", "accuracy", "miou", "miou_of_all", "labelled_outside")]
    counts = [f"{values[f'{name}_per_frame']:.0f}" for name in ("prompts", "decoder_calls")]
    return [*shares, *counts, f"{values['seconds_per_frame']:.3f}"]


def _percent(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else f"{100 * value:{form}}"


def _number(value: float) -> float | None:
    """Return `value`, or None for NaN, because JSON has no NaN."""
    return None if np.isnan(value) else float(value)
