"""Predicts whole labelled scans and counts what is right: for each place, and at the points that the cameras see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elite_pipeline.config import ProjectPoints
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.datasets.coarse_classes import CoarseClasses
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation import metrics, tta
from elite_pipeline.evaluation.camera_sight import sights
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.progress import progress
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.student.model import Predictor


@dataclass(frozen=True)
class Counted:
    """Confusion matrices, `Confusion.counts`: (K, K) int64, rows are the truth."""

    places: dict[str, np.ndarray]
    """Of each sequence that has a labelled scan."""
    seen: np.ndarray | None
    """Of the points that the cameras see in their frame, in all sequences; None where that is not known."""
    scans: int
    """Number of scans."""


def count(
    predict: Predictor,
    recordings: Sequence[Recorded],
    rule: ProjectPoints | None,
    votes: int | None = None,
    coarse: CoarseClasses | None = None,
) -> Counted:
    """Predicts every labelled scan of `recordings` and compares it with its labels.

    rule: when a camera sees a point; None: nothing is known of seen points. votes: passes of test-time augmentation;
    None: one pass of the scan as recorded. coarse: the classes to count instead of the student's.
    Raises `InputError` where a scan or a label file is damaged.
    """
    classes, of_truth, of_label = predict.classes, None, None
    if coarse:
        classes = coarse.classes
        of_truth = coarse.of(recordings[0].index.classes, recordings[0].index.sequence)
        of_label = coarse.of(predict.classes, "the student")
    scans = [(r, f) for r in recordings for f, labelled in enumerate(r.index.labelled) if labelled]
    cameras = rule and sights([recorded.recording for recorded in recordings], rule)
    sight_of = dict(zip((r.index.sequence for r in recordings), cameras, strict=True)) if cameras else {}
    places = {recorded.index.sequence: Confusion(classes) for recorded, _ in scans}
    seen = Confusion(classes)
    for number, (recorded, f) in enumerate(progress(scans, label="evaluate_miou")):
        points, truth = recorded.points(f), recorded.labels(f)
        labels = tta.vote(predict, points, votes, seed=number) if votes else predict(points)
        if of_truth is not None and of_label is not None:
            truth, labels = of_truth[truth], of_label[labels]
        places[recorded.index.sequence].add(truth, labels)
        if sight_of:
            visible = sight_of[recorded.index.sequence].seen(recorded.index.frames[f], points)
            seen.add(truth[visible], labels[visible])
    matrices = {name: place.counts for name, place in places.items()}
    return Counted(matrices, seen.counts if sight_of else None, len(scans))


def scores(counted: Counted, classes: ClassTable, known: Sequence[str]) -> dict[str, Any]:
    """Returns the scores of evaluate_miou's result, as JSON values; null where a score is the mean of no class.

    known: the classes that the student can know. Raises `InputError` where there is no point to score.
    """
    counts, absent = np.sum(list(counted.places.values()), axis=0), classes.absent
    miou, of_known = (
        _value(metrics.mean_iou(counts, ids, absent)) for ids in (None, np.flatnonzero(classes.known(known)))
    )
    if miou is None:
        raise InputError(f"all points are labelled {classes.names[IGNORE]!r}, so none can be scored: give other scans")
    return {
        "absent": absent,
        "miou": miou,
        "accuracy": metrics.accuracy(counts),
        "miou_frequent": metrics.frequent_miou(counts, absent),
        "frequent_classes": [classes.names[k] for k in metrics.frequent_classes(counts)],
        **metrics.seen_scores(counts, counted.seen, classes.evaluated, absent),
        "known_classes": known,
        "miou_known": of_known,
        "iou": dict(zip(classes.evaluated, map(_value, metrics.class_iou(counts, absent)[1:].tolist()), strict=True)),
        "confusion": counts.tolist(),
        "places": {name: matrix.tolist() for name, matrix in counted.places.items()},
        "colours": dict(zip(classes.evaluated, classes.to_json()["colours"][1:], strict=True)),
        "points": int(counts.sum()),
        "scans": counted.scans,
    }


def _value(score: float) -> float | None:
    return None if np.isnan(score) else score
