"""Measure carried labels against the hidden labels of the scans that got them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elite_pipeline.aggregation.reached import Carried
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.evaluation.confusion import Confusion

BOUNDS = (0.0, 0.6, 0.8, 1.0)
"""Smallest confidence of each group of points in `by_confidence`. The last group has all votes for its label."""

GROUPS = {"all": "all points", "things": "things", "stuff": "stuff", "moving": "things that move"}
"""Key of a result -> the points that it covers, by their true class or by what the label files say of their motion."""


class CarriedQuality:
    """Scores carried labels over unlabelled scans whose true labels are known here."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes, self.scans = classes, 0
        self._agreement, self._moving = Confusion(classes), Confusion(classes)
        self._by_confidence = np.zeros((len(BOUNDS), 2), np.int64)  # points, right ones

    def add(self, truth: np.ndarray, carried: Carried, moving: np.ndarray) -> None:
        """Add a scan: its true training ids (N,), and the labels that were carried to it.

        moving: (N,) bool, whether the point is of a thing that moves.
        """
        self.scans += 1
        point, label = carried.point.numpy(), carried.label.numpy()
        prediction = np.full(len(truth), IGNORE)
        prediction[point] = label
        self._agreement.add(truth, prediction)
        self._moving.add(truth[moving], prediction[moving])
        known = truth[point] != IGNORE
        group = np.searchsorted(BOUNDS, carried.confidence.numpy()[known], "right") - 1
        right = (truth[point] == label)[known]
        self._by_confidence[:, 0] += np.bincount(group, minlength=len(BOUNDS))
        self._by_confidence[:, 1] += np.bincount(group[right], minlength=len(BOUNDS))

    @property
    def points(self) -> int:
        """Number of points with a true label."""
        return self._agreement.known

    def summary(self) -> dict[str, Any]:
        """Return the scores as JSON values; null where nothing can be scored.

        `all`, `things`, `stuff`, `moving` (see `GROUPS`): `points`, `coverage` (share of them that got a label),
        `accuracy` and `miou` (both of covered points; mean over the classes that occur among them). `by_class`: the
        same for each class that occurs, with `iou`. `by_confidence`: points that got a label, by its confidence.
        """
        ids = range(IGNORE + 1, len(self.classes))
        things = set(self.classes.things)
        groups = {"all": list(ids), "things": sorted(things), "stuff": [k for k in ids if k not in things]}
        names, whole = self.classes.names, self._agreement
        scores = {group: _scores(whole, members) for group, members in groups.items()}
        scores["moving"] = _scores(self._moving, groups["all"])
        of_classes = {names[k]: {**_scores(whole, [k]), "iou": whole.iou.get(names[k])} for k in ids}
        for score in of_classes.values():
            del score["miou"]
        total = int(self._by_confidence[:, 0].sum())
        by_confidence = [
            {"from": bound, "share": _ratio(points, total), "accuracy": _ratio(right, points)}
            for bound, (points, right) in zip(BOUNDS, self._by_confidence.tolist(), strict=True)
        ]
        occurring = {name: score for name, score in of_classes.items() if score["points"]}
        return {"scans": self.scans, **scores, "by_class": occurring, "by_confidence": by_confidence}


def _scores(agreement: Confusion, members: Sequence[int]) -> dict[str, Any]:
    """Points, coverage, accuracy and mIoU of the points whose true class is one of `members`."""
    counts, iou, names = agreement.counts, agreement.iou, agreement.classes.names
    points, covered = int(counts[members].sum()), int(counts[members, IGNORE + 1 :].sum())
    found = [iou[names[k]] for k in members if names[k] in iou]
    return {
        "points": points,
        "coverage": _ratio(covered, points),
        "accuracy": _ratio(int(counts[members, members].sum()), covered),
        "miou": float(np.mean(found)) if found else None,
    }


def table(result: Mapping[str, Any]) -> str:
    """Return a Markdown table of `result` (the JSON of evaluate_carried_labels), in percent."""
    groups = [
        f"| {title} | {score['points']:,} | " + _cells(score, "coverage", "accuracy", "miou")
        for key, title in GROUPS.items()
        if (score := result[key])["points"]
    ]
    of_classes = [
        f"| {name} | {score['points']:,} | " + _cells(score, "coverage", "accuracy", "iou")
        for name, score in result["by_class"].items()
    ]
    bounds = [*(f"{100 * part['from']:.0f} % or more" for part in result["by_confidence"][:-1]), "100 %"]
    by_confidence = [
        f"| {title} | " + _cells(part, "share", "accuracy")
        for title, part in zip(bounds, result["by_confidence"], strict=True)
    ]
    total, line = result["all"], chr(10)
    return f"""# Carried labels of {result["dataset"]}: {_percent(total["coverage"])} % of the points, \
{_percent(total["accuracy"])} % of them right

Labels of {result["labelled_scans"]} labelled scans, carried by the vehicle's poses to the other scans of the same
places, without any teacher. Training sequences {", ".join(result["sequences"])}.
Scored on {result["scans"]} unlabelled scans, whose labels are read only here. Coverage: share of the points that got a
label. Accuracy, mIoU and IoU: of the points that got one. mIoU is the mean over the classes that occur among them.

| points | number | coverage, % | accuracy, % | mIoU, % |
|---|---:|---:|---:|---:|
{line.join(groups)}

| true class | number | coverage, % | accuracy, % | IoU, % |
|---|---:|---:|---:|---:|
{line.join(of_classes)}

| confidence (share of the votes) | of the points that got a label, % | accuracy, % |
|---|---:|---:|
{line.join(by_confidence)}
"""


def _cells(scores: Mapping[str, Any], *keys: str) -> str:
    return " | ".join(_percent(scores[key]) for key in keys) + " |"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
