"""Compares experiments that were trained with several seeds: means, and paired differences with 95 % intervals.

Every difference is paired: seed k of one experiment with seed k of the other, on the same points. A gain is a
difference whose interval lies above zero, over seeds and over places (`intervals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from elite_pipeline.comparison import intervals
from elite_pipeline.comparison.checked_runs import evaluated_points, read_runs, read_teachers, student_settings
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation.metrics import absent_of

if TYPE_CHECKING:
    from elite_pipeline.stages.compare_experiments import ComparedExperiment, CompareExperiments

SCORES = ("miou", "accuracy", "miou_frequent")
"""The scores whose differences are taken."""


def compare(
    settings: CompareExperiments, result_files: Iterable[Path], teacher_files: Iterable[Path]
) -> dict[str, Any]:
    """Returns the comparison (JSON values, mIoU and IoU in 0..1) of the experiments in `settings`.

    `figure`, `teachers` and `datasets` of `settings` are copied into it. result_files: one mIoU result per experiment
    and seed. teacher_files: one result of evaluate_teacher per data set and teacher.
    Raises `InputError` where a file is damaged or missing, is not part of the comparison, or does not fit the others.
    """
    runs = read_runs(settings, result_files)
    teachers = read_teachers(settings, teacher_files)
    experiments: dict[str, dict[str, Any]] = {}
    students: dict[str, Any] = {}
    for label, about in settings.experiments.items():
        results = [result for _, result in runs[label]]
        experiments[label] = _summary(about, settings.seeds, results, teachers.get(label))
        students[about.student] = student_settings(results[0])
    if settings.figure == "curves":
        curves(experiments)
    any_result = next(iter(runs.values()))[0][1]
    differences = {f"{a} - {b}": difference(experiments[a], experiments[b]) for a, b in settings.differences}
    of_results = {label: [result for _, result in found] for label, found in runs.items()}
    _add_intervals_over_places(differences, settings.differences, of_results)
    return {
        "comparison": settings.comparison,
        "absent": absent_of(any_result),
        "figure": settings.figure,
        "experiments": experiments,
        "differences": differences,
        "evaluated": evaluated_points(any_result),
        "intervals": {"level": intervals.LEVEL, "resamples": intervals.RESAMPLES, "places": len(any_result["places"])},
        "config": students,
        "teachers": settings.teachers,
        "datasets": settings.datasets,
        "device": "; ".join(sorted({str(result["device"]) for found in of_results.values() for result in found})),
    }


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the difference a - b, seed by seed. Both are values of `experiments` in a comparison.

    The first keys are of mIoU: `mean`, `sd` and `seeds` of the paired differences, `over_seeds` (interval, or None with
    one seed) and `over_places` (None here: `compare` computes it from confusion matrices). `accuracy` and
    `miou_frequent` hold the same of these scores; None where an older version wrote the experiments. `iou`: class ->
    difference of the means; None for a class that is left out of the mean IoU.
    """
    scores = {
        name: _difference(a[name], b[name]) if a.get(name) and b.get(name) else None
        for name in SCORES
        if name != "miou"
    }
    pairs = {name: (value, b["iou"][name]) for name, value in a["iou"].items()}
    iou = {name: None if None in pair else pair[0] - pair[1] for name, pair in pairs.items()}
    return _difference(a["miou"], b["miou"]) | scores | {"iou": iou}


def _difference(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    by_seed = [x - y for x, y in zip(a, b, strict=True)]
    over_seeds = intervals.over_seeds(by_seed)
    about = {"mean": mean(by_seed), "sd": spread(by_seed), "seeds": by_seed}
    return about | {"over_seeds": over_seeds and list(over_seeds), "over_places": None}


def _add_intervals_over_places(
    differences: dict[str, dict[str, Any]],
    pairs: Iterable[tuple[str, str]],
    results: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Writes `over_places` into the difference of each of `pairs`. With one place it stays None."""
    pairs = list(pairs)
    places = next(iter(results.values()))[0]["places"]
    if len(places) < 2:
        return
    draws = intervals.resamples(len(places))
    drawn = {}
    for label in {label for pair in pairs for label in pair}:
        matrices = [{place: np.array(one["places"][place]) for place in places} for one in results[label]]
        names = list(results[label][0]["iou"])
        frequent = [names.index(name) + 1 for name in results[label][0]["frequent_classes"]]
        drawn[label] = intervals.resampled(matrices, draws, frequent, absent_of(results[label][0]))
    for a, b in pairs:
        for score in SCORES:
            found = differences[f"{a} - {b}"]
            into = found if score == "miou" else found[score]
            if into is not None and score in drawn[a]:
                into["over_places"] = list(intervals.over_places(drawn[a][score], drawn[b][score]))


def spread(values: Sequence[float]) -> float | None:
    """Returns the sample standard deviation (n - 1); None for a single value."""
    return stdev(values) if len(values) > 1 else None


def pretraining(experiment: Mapping[str, Any]) -> str | None:
    """Returns the name of the pre-training of the student's backbone; None without one, and in older results."""
    return experiment.get("pretraining")


def baselines(experiments: Mapping[str, Any]) -> dict[str, str]:
    """Returns label of each distilled experiment -> label of its baseline without distillation.

    A baseline has as many labelled scans and the same pre-trained backbone (or none). Of several candidates, one with
    the same data set and student is preferred. An experiment without a baseline is left out.
    """
    found = {}
    for label, taught in experiments.items():
        without = [
            name
            for name, other in experiments.items()
            if not other["distilled"] and _beginnings(other) == _beginnings(taught)
        ]
        if taught["distilled"] and without:
            found[label] = max(without, key=lambda name: _likeness(taught, experiments[name]))
    return found


def curves(experiments: Mapping[str, Any]) -> dict[bool, dict[int, str]]:
    """Returns {distilled: {labelled scans: label}}, the two curves of `figure: curves`.

    Raises `InputError` unless there are at least two numbers of labelled scans, each of them once with and once without
    distillation.
    """
    lines: dict[bool, dict[int, str]] = {False: {}, True: {}}
    for label, experiment in experiments.items():
        scans = experiment["labelled_scans"]
        if (other := lines[experiment["distilled"]].setdefault(scans, label)) != label:
            raise InputError(
                f"experiments {other!r} and {label!r} are the same point of figure: curves, with {scans} labelled"
                " scans. Remove one, or write figure: rows for the comparison"
            )
    if len(lines[True]) < 2 or lines[True].keys() != lines[False].keys():
        raise InputError(
            f"figure: curves has {sorted(lines[True])} labelled scans with distillation and {sorted(lines[False])}"
            " without. Both need the same numbers, at least two, or write figure: rows for the comparison"
        )
    return {distilled: dict(sorted(line.items())) for distilled, line in lines.items()}


def _beginnings(experiment: Mapping[str, Any]) -> tuple[float, int, str | None]:
    """Returns what a baseline must have in common: labels and pre-trained backbone."""
    return experiment["labelled"], experiment["labelled_scans"], pretraining(experiment)


def _likeness(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[bool, bool]:
    return one["dataset"] == other["dataset"], one["student"] == other["student"]


def _summary(
    about: ComparedExperiment,
    seeds: Iterable[int],
    results: Sequence[Mapping[str, Any]],
    teacher_points: Mapping[str, Any] | None,
) -> dict[str, Any]:
    first, miou = results[0], [result["miou"] for result in results]
    # Where the seed draws the labelled drives, these numbers differ with the lengths of the drives: then their mean.
    scans, steps = (round(mean(result[key] for result in results)) for key in ("labelled_scans", "steps"))
    return {
        "experiment": about.experiment,
        "student": about.student,
        "pretraining": about.pretraining,
        "teacher": about.teacher,
        "oracle": about.oracle and about.oracle.model_dump(mode="json"),
        "arm": about.arm,
        "setting": about.setting,
        "dataset": about.dataset,
        "labelled": mean(result["labelled_scans"] / result["training_scans"] for result in results),
        "labelled_scans": scans,
        "distilled": first["taught"],
        "labeller": about.labeller,
        "seeds": list(seeds),
        "miou": miou,
        "mean": mean(miou),
        "sd": spread(miou),
        "accuracy": [result["accuracy"] for result in results],
        **{key: _by_seed(results, key) for key in ("miou_frequent", "miou_seen", "miou_unseen", "presentations")},
        "iou": {name: _mean([result["iou"][name] for result in results]) for name in first["iou"]},
        "miou_known": [result.get("miou_known") for result in results],
        "known_classes": first.get("known_classes", list(first["iou"])),
        "steps": steps,
        "teacher_points": teacher_points,
        "commits": sorted({str(result["commit"]) for result in results}),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean over the seeds whose students have an IoU of a class; None where it is left out of all."""
    found = [value for value in values if value is not None]
    return mean(found) if found else None


def _by_seed(results: Sequence[Mapping[str, Any]], key: str) -> list[Any] | None:
    """Returns the value of each seed; None where one of them has none."""
    values = [result[key] for result in results]
    return None if any(value is None for value in values) else values


def evaluated(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the evaluated points of a comparison (the JSON of compare_experiments). Older ones are all of `val`."""
    return result["evaluated"] if "evaluated" in result else {"split": "val", **result["validation"]}
