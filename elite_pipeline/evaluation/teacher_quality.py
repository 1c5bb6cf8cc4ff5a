"""Measure the quality of a teacher's soft labels, of one frame and aggregated over the frames that see a place.

A student cannot learn classes that its teacher does not know.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.soft_labels import predicted_class


class Quality:
    """Scores a teacher's soft labels over scans: for each stage, and for the mean of the stages' probabilities."""

    def __init__(self, stages: int, classes: ClassTable) -> None:
        """`stages`: number of the teacher's stages."""
        self.scans = 0
        self.stages = [Confusion(classes) for _ in range(stages)]
        self.mean = Confusion(classes)

    def add(self, labels: Tensor, logits: Tensor) -> None:
        """Add the M projected points of a scan: `labels` (M,) training ids and `logits` (M, S, K)."""
        self.scans += 1
        truth = labels.numpy()
        for s, agreement in enumerate(self.stages):
            agreement.add(truth, predicted_class(logits[:, s].numpy()))
        self.mean.add(truth, predicted_class(logits.softmax(2).mean(1).numpy()))

    def summary(self) -> dict[str, Any] | None:
        """Return {`scans`, `points`, `stages`, `mean`} as JSON values, or None if no point had a label."""
        points = self.mean.known
        if not points:
            return None
        return {
            "scans": self.scans,
            "points": points,
            "stages": [_scores(agreement) for agreement in self.stages],
            "mean": _scores(self.mean),
        }


POINTS = {
    "all": "all points",
    "own": "points that a camera sees in this frame",
    "unseen": "points that no camera sees in this frame",
    "moving": "points of things that move",
}
"""Key of a result -> the points that it covers."""


class Reach:
    """Scores predicted classes of whole scans, where many points may have none: for each of `POINTS`."""

    def __init__(self, classes: ClassTable) -> None:
        self.groups = {name: Confusion(classes) for name in POINTS}

    def add(self, labels: np.ndarray, predicted: np.ndarray, own: np.ndarray, moving: np.ndarray) -> None:
        """Add a scan of N points: `labels` and `predicted` (N,) training ids, where a prediction of 0 is none.

        own: (N,) bool, whether a camera sees the point in this frame. moving: (N,) bool, whether its thing moves.
        """
        chosen = {"all": slice(None), "own": own, "unseen": ~own, "moving": moving}
        for name, confusion in self.groups.items():
            confusion.add(labels[chosen[name]], predicted[chosen[name]])

    def summary(self) -> dict[str, Any]:
        """Return {group: {`points`, `coverage`, `accuracy`, `miou`, `iou`}}, all over labelled points.

        `coverage` is the share with a prediction. The other scores are over that share; without any they are None.
        """
        return {name: {"points": found.known, **_covered(found)} for name, found in self.groups.items()}


def predictions(recorded: Recorded, f: int) -> dict[str, np.ndarray]:
    """The teacher's classes for the N points of frame index `f`: kind -> (N,) int64 training ids, 0 = no soft label.

    `targets`: of this frame. `aggregated`: of the place, where the sequence has aggregated soft labels. Raises
    `InputError` where a store is damaged, or does not fit the scan.
    """
    found = {"targets": np.zeros(int(recorded.index.points[f]), np.int64)}
    point, logits = recorded.answers(f).per_point()
    found["targets"][point] = predicted_class(logits)
    if recorded.aggregated is not None:
        reached = recorded.reached(f)
        found["aggregated"] = np.zeros_like(found["targets"])
        found["aggregated"][reached.point] = reached.soft_label[:, 0]
    return found


def _covered(found: Confusion) -> dict[str, Any]:
    if not found.known or not found.coverage:
        return {"coverage": 0.0 if found.known else None, "accuracy": None, "miou": None, "iou": {}}
    return {"coverage": found.coverage, **_scores(found)}


def _scores(agreement: Confusion) -> dict[str, Any]:
    return {"accuracy": agreement.accuracy, "miou": agreement.miou, "iou": agreement.iou}


GROUPS = {"all": "all scans", "labelled": "labelled scans", "unlabelled": "unlabelled scans"}
"""Key of a result -> the training scans that it covers."""


def table(result: Mapping[str, Any]) -> str:
    """Return a Markdown table of `result` (the JSON of evaluate_teacher), in percent."""
    found = {title: result[key] for key, title in GROUPS.items() if result[key]}
    scores = [
        f"| {title} | {name} | {100 * s['accuracy']:.1f} | {100 * s['miou']:.1f} | {len(s['iou'])} |"
        for title, group in found.items()
        for name, s in [*((f"stage {k}", s) for k, s in enumerate(group["stages"])), ("mean of stages", group["mean"])]
    ]
    of_classes = [
        f"| {name} | " + " | ".join(_percent(group["mean"]["iou"].get(name)) for group in found.values()) + " |"
        for name in result["classes"]
        if any(name in group["mean"]["iou"] for group in found.values())
    ]
    sizes = "; ".join(f"{title}: {group['scans']} scans, {group['points']:,} points" for title, group in found.items())
    miou = _percent(result["all"]["mean"]["miou"])
    return f"""# {result["teacher"]} on {result["dataset"]}: {miou} % mIoU at the projected points

{result["note"] or "The quality of the teacher's cached soft labels, which students learn from."}

Training sequences {", ".join(result["sequences"])}. The scores cover the projected points that a camera sees and that
have a label; a point that two cameras see counts twice. mIoU is the mean over the classes that occur. "Unlabelled
scans" are scans whose labels are hidden from training: they are used only here, to evaluate the teacher.

{sizes}.
{_unknown(result)}
| scans | prediction | accuracy, % | mIoU, % | classes |
|---|---|---:|---:|---:|
{chr(10).join(scores)}

{_reach(result)}IoU per class for the mean of stages at the projected points, %:

| class | {" | ".join(found)} |
|---|{"---:|" * len(found)}
{chr(10).join(of_classes)}
"""


def _reach(result: Mapping[str, Any]) -> str:
    """Lines on `targets` and `aggregated`: coverage, accuracy and mIoU for each of `POINTS`."""
    kinds = {"targets": "one frame", "aggregated": "aggregated"}
    rows = [
        f"| {kind} | {title} | {_percent(s['coverage'])} | {_percent(s['accuracy'])} | {_percent(s['miou'])} |"
        for key, kind in kinds.items()
        if result[key]
        for group, title in POINTS.items()
        if (s := result[key][group])["points"]
    ]
    return f"""Of whole scans ({GROUPS[result["reach_scans"]]}). Coverage: share of the labelled points that have a soft
label. Accuracy and mIoU are over those points. A point that two cameras see counts once, with the mean of both.

| soft labels | points | coverage, % | accuracy, % | mIoU, % |
|---|---|---:|---:|---:|
{chr(10).join(rows)}

"""


def _unknown(result: Mapping[str, Any]) -> str:
    unknown = [name for name in result["classes"] if name not in result["known_classes"]]
    return f"\nThe teacher does not know {', '.join(unknown)}: their points count as wrong.\n" if unknown else ""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
