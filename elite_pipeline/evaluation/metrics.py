"""The official SemanticKITTI score, as semantic-kitti-api's `np_ioueval` defines it.

Ground truth `IGNORE` is left out; a *prediction* of `IGNORE` is a miss. (2DPASS's and ELiTe's own metric forgives it,
and reads higher: on one scan 1.0000 where this one says 0.9551.) A class that is absent counts as 0, so that a score on
a few scans is no score on the benchmark. The confusion is summed over all scans first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elite_pipeline.datasets.classes import IGNORE


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """(K,) float64 intersection over union of each class, in 0..1; 0 for an absent class.

    confusion: `Confusion.counts`.
    """
    counts = np.array(confusion, dtype=np.float64)
    counts[IGNORE] = 0
    correct = np.diag(counts)
    # The official tool's own guard against 0 / 0.
    return correct / (counts.sum(axis=0) + counts.sum(axis=1) - correct + 1e-15)


def mean_iou(confusion: np.ndarray, known: Sequence[int] | np.ndarray | None = None) -> float:
    """Mean of `class_iou` over the ids `known`, present or not; by default over all classes but `IGNORE`.

    What is not known is still evaluated: its points have 0 in the mean over all classes, and where they get the name of
    a known class they count against that one, in either mean.
    """
    iou = class_iou(confusion)
    return float((np.delete(iou, IGNORE) if known is None else iou[known]).mean())


def unknown_classes(result: Mapping[str, Any]) -> list[str]:
    """Names of the classes that the student of `result` (JSON of evaluate_miou) cannot tell."""
    known = result["known_classes"]
    return [name for name in result["iou"] if name not in known]


def class_rows(result: Mapping[str, Any]) -> list[str]:
    """Lines of a Markdown table: class, IoU in percent, points; below them the mean, and that of the known classes."""
    points = dict(zip(result["iou"], np.sum(result["confusion"], axis=1)[1:].tolist(), strict=True))
    rows = [f"| {name} | {100 * value:.1f} | {points[name]:,} |" for name, value in result["iou"].items()]
    means = [(f"mean of {len(points)}", result["miou"], points)]
    if unknown_classes(result):
        known = result["known_classes"]
        means.append((f"mean of the {len(known)} known", result["miou_known"], known))
    for name, value, over in means:
        rows.append(f"| **{name}** | **{100 * value:.1f}** | {sum(points[one] for one in over):,} |")
    return rows


def table(result: Mapping[str, Any]) -> str:
    """A Markdown table of `result` (the JSON of evaluate_miou): IoU of each class, the official order, in percent."""
    score, origin = f"{100 * result['miou']:.1f} % mIoU", f"{result['labelled_scans']} labelled scans"
    if unknown := unknown_classes(result):
        score = (
            f"{score} over all {len(result['iou'])} classes, {100 * result['miou_known']:.1f} % over the"
            f" {len(result['known_classes'])} that its teacher knows"
        )
    if result.get("zero_shot"):
        score, origin = f"{score}, zero-shot", "zero-shot: no labelled scan, only its teacher's answers"
    if result.get("taught") and result.get("teacher"):
        origin += f"; {_taught_by(result)}"
    if result.get("pretrained"):
        origin += f"; begun from the pre-trained backbone {result['pretrained']}"
    return f"""# {result["experiment"]}: {score}

Sequences {", ".join(result["sequences"])} of {result["dataset"]} ({result["split"]}), {result["scans"]} whole scans,
{result["points"]:,} points, {np.sum(result["confusion"], axis=1)[1:].sum():,} of them evaluated.
Official SemanticKITTI protocol, single pass; a class without points has 0.
Student of {result["parameters"]:,} parameters, trained on sequences {", ".join(result["trained_on"])}
({origin}).
{_unknown(unknown)}
| class | IoU, % | points |
|---|---:|---:|
{chr(10).join(class_rows(result))}
"""


def is_oracle(result: Mapping[str, Any]) -> bool:
    """Whether an oracle taught the student: simulated ground truth with errors added, and no result of a method.

    result: the JSON of evaluate_miou, or an experiment of a comparison. Both keep the oracle's settings, or None.
    """
    return result.get("oracle") is not None


def _taught_by(result: Mapping[str, Any]) -> str:
    note = ", an oracle: the simulator's truth, corrupted on purpose; a diagnostic and no result of the method"
    return f"taught by {result['teacher']}{note if is_oracle(result) else ''}"


def teacher_lines(points: Mapping[str, Any]) -> list[str]:
    """What the JSON of evaluate_teacher says of a teacher's soft labels, one line for each group of training scans."""
    groups = {"all": "training scans", "unlabelled": "of these scans, whose labels neither it nor the student saw"}
    return [
        f"{100 * group['mean']['accuracy']:.1f} % accuracy and {100 * group['mean']['miou']:.1f} % mIoU at the visible"
        f" labelled points of {group['scans']} {scans}"
        for key, scans in groups.items()
        if (group := points[key])
    ]


def _unknown(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"""
Its teacher does not know {", ".join(names)}, and no label taught them: a class that is never predicted has 0 in the
mean over all classes. Where their points get the name of another class, they count against that one in either mean.
"""
