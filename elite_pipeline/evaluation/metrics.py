"""The official scores of SemanticKITTI and nuScenes-lidarseg. The key `absent` of the class table chooses between them.

Ground truth `IGNORE` is left out of both. The confusion matrix is first summed over all scans. They differ in two ways:

- `counts as zero`: SemanticKITTI, as `np_ioueval` of semantic-kitti-api defines it. A *prediction* of `IGNORE` is a
  miss. (The metric of 2DPASS and ELiTe does not count it as a miss and is higher: on one scan 1.0000, not 0.9551.)
  An absent class counts as 0, so a score on a few scans cannot be compared with the benchmark.
- `left out`: nuScenes-lidarseg, as `LidarSegEval` of nuscenes-devkit computes it. A point that is predicted as `IGNORE`
  does not count. A class with neither truth nor prediction is left out of the mean; one with predictions only is 0.

Beside it stand numbers that the benchmark does not have. All are computed from confusion matrices, rows are the truth:
the accuracy, the mean without the rarest classes, and the scores of the points that the cameras see and of the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elite_pipeline.datasets.classes import IGNORE, Absent

RAREST = 3
"""Number of classes that the mean over the frequent classes leaves out."""


PROTOCOLS: dict[str, str] = {
    "counts as zero": "Official SemanticKITTI protocol, single pass. A class without points has an IoU of 0.",
    "left out": "Official nuScenes-lidarseg protocol, single pass. A class with neither points nor predictions is left"
    " out of the mean.",
}
"""`ClassTable.absent` -> what is said of the scores."""


def class_iou(confusion: np.ndarray, absent: Absent = "counts as zero") -> np.ndarray:
    """Return the intersection over union of each class: (K,) float64 in 0..1; NaN for a class that is left out.

    confusion: `Confusion.counts`. absent: `ClassTable.absent`.
    """
    counts = np.array(confusion, dtype=np.float64)
    counts[IGNORE] = 0
    if absent == "left out":
        counts[:, IGNORE] = 0
    correct = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - correct
    if absent == "left out":
        return np.divide(correct, union, out=np.full(len(union), np.nan), where=union > 0)
    # SemanticKITTI's tool uses the same guard against 0 / 0.
    return correct / (union + 1e-15)


def mean_iou(
    confusion: np.ndarray, known: Sequence[int] | np.ndarray | None = None, absent: Absent = "counts as zero"
) -> float:
    """Return the mean of `class_iou` over the ids `known`; by default over all classes but `IGNORE`.

    NaN where all of these classes are left out.

    Points of unknown classes are still evaluated. Their classes count as 0 in the mean over all classes. Where such
    points are predicted as a known class, they count against that class, in both means.
    """
    iou = class_iou(confusion, absent)
    of_mean = np.delete(iou, IGNORE) if known is None else iou[known]
    if absent == "left out":
        of_mean = of_mean[~np.isnan(of_mean)]
        return float(of_mean.mean()) if len(of_mean) else float("nan")
    return float(of_mean.mean())


def accuracy(confusion: np.ndarray) -> float:
    """Return the share of the evaluated points that is predicted right; 0 without any.

    Truth `IGNORE` is not evaluated. As in the official score, a prediction of `IGNORE` is a miss.
    """
    evaluated = np.array(confusion, dtype=np.float64)[IGNORE + 1 :]
    points = evaluated.sum()
    return float(np.trace(evaluated[:, IGNORE + 1 :]) / points) if points else 0.0


def present_classes(confusion: np.ndarray) -> list[int]:
    """Return the ids of the classes that have points, in their order, without `IGNORE`."""
    points = np.sum(confusion, axis=1)
    return [k for k in range(len(points)) if k != IGNORE and points[k]]


def frequent_classes(confusion: np.ndarray) -> list[int]:
    """Return the ids of the classes that have points, without the `RAREST` ones that have fewest of them.

    They depend on the truth alone, so they are the same for all students that are scored on the same points. Of classes
    with equally many points, the first ones count as more frequent.
    """
    points = np.sum(confusion, axis=1)
    by_points = sorted(present_classes(confusion), key=lambda k: (-points[k], k))
    return sorted(by_points[:-RAREST])


def frequent_miou(confusion: np.ndarray, absent: Absent = "counts as zero") -> float | None:
    """Return the mean IoU over `frequent_classes`; None where there are none.

    A few points of a rare class can move the mean over all classes more than everything else does.
    """
    frequent = frequent_classes(confusion)
    return mean_iou(confusion, frequent, absent) if frequent else None


def seen_scores(
    counts: np.ndarray, seen: np.ndarray | None, names: Sequence[str], absent: Absent = "counts as zero"
) -> dict[str, Any]:
    """Return the scores of the points that the cameras see, and of the others. JSON values; all None without `seen`.

    counts: `Confusion.counts` of all points. seen: of those that the cameras see; None where that is not known.
    names: of all classes but `IGNORE`.
    `miou_seen` and `miou_unseen` are means over the same classes, `seen_classes`: those that have points in both
    groups. So they can be compared with each other, and where every class has points in both groups, also with the
    official mean over all classes. `seen`: share of the evaluated points that the cameras see.
    """
    keys = ("seen", "seen_classes", "miou_seen", "miou_unseen", "accuracy_seen", "accuracy_unseen")
    if seen is None:
        return dict.fromkeys(keys)
    unseen = np.subtract(counts, seen)
    both = [k for k in present_classes(seen) if np.sum(unseen[k])]
    share = np.sum(seen[IGNORE + 1 :]) / max(np.sum(counts[IGNORE + 1 :]), 1)
    means = (mean_iou(group, both, absent) if both else None for group in (seen, unseen))
    right = (accuracy(group) if present_classes(group) else None for group in (seen, unseen))
    return dict(zip(keys, (float(share), [names[k - 1] for k in both], *means, *right), strict=True))


def unknown_classes(result: Mapping[str, Any]) -> list[str]:
    """Return the names of the classes that the student of `result` (JSON of evaluate_miou) does not know."""
    known = result["known_classes"]
    return [name for name in result["iou"] if name not in known]


def class_rows(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: class, IoU in percent, points.

    The last lines are means: over all classes, over the known ones if some are unknown, and without the rarest ones.
    """
    points = dict(zip(result["iou"], np.sum(result["confusion"], axis=1)[1:].tolist(), strict=True))
    rows = [f"| {name} | {percent(value)} | {points[name]:,} |" for name, value in result["iou"].items()]
    counted = [name for name, value in result["iou"].items() if value is not None]
    means = [(f"mean of {len(counted)}", result["miou"], points)]
    if unknown_classes(result):
        known = result["known_classes"]
        means.append((f"mean of the {len(known)} known", result["miou_known"], known))
    if result.get("miou_frequent") is not None:
        frequent = result["frequent_classes"]
        rare = [name for name, number in points.items() if number and name not in frequent]
        means.append((f"mean without the rarest: {', '.join(rare)}", result["miou_frequent"], frequent))
    for name, value, over in means:
        rows.append(f"| **{name}** | **{percent(value)}** | {sum(points[one] for one in over):,} |")
    return rows


def table(result: Mapping[str, Any]) -> str:
    """Return a Markdown table of `result` (the JSON of evaluate_miou): IoU of each class in percent, official order."""
    score, origin = f"{100 * result['miou']:.1f} % mIoU", f"{result['labelled_scans']} labelled scans"
    if unknown := unknown_classes(result):
        score = (
            f"{score} over all {len(result['iou'])} classes, {percent(result['miou_known'])} % over the"
            f" {len(result['known_classes'])} that its teacher knows"
        )
    if result.get("zero_shot"):
        score, origin = f"{score}, zero-shot", "zero-shot: no labelled scans, only its teacher's targets"
    if result.get("taught") and result.get("teacher"):
        origin += f"; {_taught_by(result)}"
    if result.get("pretrained"):
        origin += f"; initialised with the pre-trained backbone {result['pretrained']}"
    return f"""# {result["experiment"]}: {score}

Sequences {", ".join(result["sequences"])} of {result["dataset"]} ({result["split"]}), {result["scans"]} whole scans,
{result["points"]:,} points, {np.sum(result["confusion"], axis=1)[1:].sum():,} of them evaluated.
{protocol(result)}
Student of {result["parameters"]:,} parameters, trained on sequences {", ".join(result["trained_on"])}
({origin}).
{_sight(result)}{_unknown(unknown)}
| class | IoU, % | points |
|---|---:|---:|
{chr(10).join(class_rows(result))}
"""


def absent_of(result: Mapping[str, Any]) -> Absent:
    """Return `ClassTable.absent` of a result of evaluate_miou or compare_experiments. Older ones count as zero."""
    return result.get("absent", "counts as zero")


def protocol(result: Mapping[str, Any]) -> str:
    """Return a sentence on how the scores of a result of evaluate_miou are computed."""
    if result.get("coarse"):
        return (
            f"Single pass, on the coarse classes of {result['coarse']}: no official score. A class without points has"
            " an IoU of 0."
        )
    return PROTOCOLS[absent_of(result)]


def percent(share: float | None) -> str:
    """Return a share in percent for a table; `-` where there is none."""
    return "-" if share is None else f"{100 * share:.1f}"


def _sight(result: Mapping[str, Any]) -> str:
    """Return lines with the accuracy, and scores of seen and unseen points; nothing for results of older versions."""
    if "accuracy" not in result:
        return ""
    lines = [f"Accuracy: {100 * result['accuracy']:.1f} % of the evaluated points."]
    if result["miou_seen"] is not None:
        over = len(result["seen_classes"])
        seen, unseen = (
            f"{100 * result[f'miou_{group}']:.1f} % mIoU, {100 * result[f'accuracy_{group}']:.1f} % accuracy"
            for group in ("seen", "unseen")
        )
        lines += [
            f"Points that the cameras see in the frame ({100 * result['seen']:.1f} %): {seen}. The others: {unseen}.",
            f"Both means are over the {over} classes that have points in both groups.",
        ]
    return "\n" + "\n".join(lines) + "\n"


def is_oracle(result: Mapping[str, Any]) -> bool:
    """Return whether the student's teacher is an oracle. An oracle is a diagnostic, not a result of a method.

    An oracle's targets are simulated ground truth with errors added. result: the JSON of evaluate_miou, or an
    experiment of a comparison. Both hold the oracle's settings, or None.
    """
    return result.get("oracle") is not None


def _taught_by(result: Mapping[str, Any]) -> str:
    note = ", an oracle: simulated ground truth with errors added; a diagnostic, not a result of the method"
    return f"distilled from {result['teacher']}{note if is_oracle(result) else ''}"


def teacher_lines(points: Mapping[str, Any]) -> list[str]:
    """Return the quality of a teacher's soft labels, one line per group of training scans, and one of the aggregated.

    points: the JSON of evaluate_teacher.
    """
    groups = {"all": "training scans", "unlabelled": "training scans with labels hidden from teacher and student"}
    lines = [
        f"{100 * group['mean']['accuracy']:.1f} % accuracy and {100 * group['mean']['miou']:.1f} % mIoU at the visible"
        f" labelled points of {group['scans']} {scans}"
        for key, scans in groups.items()
        if (group := points[key])
    ]
    if aggregated := points.get("aggregated"):  # older results have none
        alone, reached = points["targets"]["all"]["coverage"], aggregated["all"]
        lines.append(
            f"aggregated over the drive, soft labels reach {100 * reached['coverage']:.1f} % of all points, not"
            f" {100 * alone:.1f} %: {100 * reached['accuracy']:.1f} % accuracy and {100 * reached['miou']:.1f} % mIoU"
        )
    return lines


def _unknown(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"""
Its teacher does not know {", ".join(names)}, and the student was not trained on labels of them. A class that is never
predicted has an IoU of 0 in the mean over all classes. Where its points are predicted as another class, they count
against that class in both means.
"""
