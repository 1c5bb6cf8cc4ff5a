"""Compares experiments that were trained with several seeds: means, standard deviations and paired differences.

Every difference is judged by the spread over the seeds: a difference no larger than between two seeds is not a gain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from elite_pipeline.errors import InputError

if TYPE_CHECKING:
    from elite_pipeline.stages.compare_experiments import ComparedExperiment, CompareExperiments

MIOU_KEYS = (
    *("experiment", "dataset", "sequences", "miou", "iou", "confusion", "points", "scans", "tta", "config", "steps"),
    *("labelled_scans", "training_scans", "taught", "commit", "device"),
)
"""The keys of `<experiment>_miou.json` that are read."""

POINTS_KEYS = ("dataset", "teacher", "all", "unlabelled")
"""The keys of `<dataset>_<teacher>_points.json` that are read."""

NOTEWORTHY = 3
"""A difference of more than this many standard deviations over the seeds is called a gain or a loss."""

SAME_FOR_ALL_SEEDS = ("labelled_scans", "training_scans", "taught", "steps")

Run = tuple[Path, dict[str, Any]]
"""A result file and its content: one experiment with one seed."""


def compare(
    settings: CompareExperiments, result_files: Iterable[Path], teacher_files: Iterable[Path]
) -> dict[str, Any]:
    """Returns the comparison (JSON values, mIoU and IoU in 0..1) of the experiments in `settings`.

    `figure`, `teachers` and `datasets` of `settings` are copied into it. result_files: one mIoU result per experiment
    and seed. teacher_files: one result of evaluate_teacher per data set and teacher.
    Raises `InputError` where a file is damaged or missing, is not part of the comparison, or does not fit the others.
    """
    runs = _runs(settings, result_files)
    teachers = _teachers(settings, teacher_files)
    experiments: dict[str, dict[str, Any]] = {}
    students: dict[str, Any] = {}
    for label, about in settings.experiments.items():
        results = [result for _, result in runs[label]]
        experiments[label] = _summary(about, settings.seeds, results, teachers.get((about.dataset, about.teacher)))
        students[about.student] = _settings(results[0])
    if settings.figure == "curves":
        curves(experiments)
    any_result = next(iter(runs.values()))[0][1]
    return {
        "comparison": settings.comparison,
        "figure": settings.figure,
        "experiments": experiments,
        "differences": {
            f"{a} - {b}": difference(experiments[a], experiments[b]) for a, b in map(tuple, settings.differences)
        },
        "validation": _validation(any_result),
        "config": students,
        "teachers": settings.teachers,
        "datasets": settings.datasets,
        "device": "; ".join(sorted({str(result["device"]) for found in runs.values() for _, result in found})),
    }


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the difference a - b in mIoU, seed by seed. Both are values of `experiments` in a comparison.

    `larger_sd` is the larger of the two experiments' standard deviations over the seeds. `larger_than_3_sd` says
    whether the mean difference is a gain of more than three times that. Both are None with one seed.
    """
    by_seed = [x - y for x, y in zip(a["miou"], b["miou"], strict=True)]
    larger_sd = None if a["sd"] is None or b["sd"] is None else max(a["sd"], b["sd"])
    return {
        "mean": mean(by_seed),
        "sd": spread(by_seed),
        "seeds": by_seed,
        "larger_sd": larger_sd,
        "larger_than_3_sd": None if larger_sd is None else mean(by_seed) > NOTEWORTHY * larger_sd,
        "iou": {name: value - b["iou"][name] for name, value in a["iou"].items()},
    }


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
    return {
        "experiment": about.experiment,
        "student": about.student,
        "pretraining": about.pretraining,
        "teacher": about.teacher,
        "oracle": about.oracle and about.oracle.model_dump(mode="json"),
        "arm": about.arm,
        "setting": about.setting,
        "dataset": about.dataset,
        "labelled": first["labelled_scans"] / first["training_scans"],
        "labelled_scans": first["labelled_scans"],
        "distilled": first["taught"],
        "labeller": about.labeller,
        "seeds": list(seeds),
        "miou": miou,
        "mean": mean(miou),
        "sd": spread(miou),
        "iou": {name: mean(result["iou"][name] for result in results) for name in first["iou"]},
        "known_classes": first.get("known_classes", list(first["iou"])),
        "steps": first["steps"],
        "teacher_points": teacher_points,
        "commits": sorted({str(result["commit"]) for result in results}),
    }


def _validation(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the evaluated points of a result. They must be equal in all compared results.

    `class_points` is the number of points of each class.
    """
    of_class = np.sum(result["confusion"], axis=1)[1:].tolist()
    about = {key: result[key] for key in ("sequences", "scans", "points")}
    return about | {"class_points": dict(zip(result["iou"], of_class, strict=True))}


def _settings(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the student's settings without the seed, which is the only difference between runs of one experiment."""
    training = {key: value for key, value in result["config"]["train_student"].items() if key != "seed"}
    return result["config"] | {"train_student": training}


# Reading results, and checking that they fit together. -------------------------------------------------------------


def _runs(settings: CompareExperiments, files: Iterable[Path]) -> dict[str, list[Run]]:
    """Returns label -> one run per seed. All have the same validation points and the settings of the comparison.

    Raises `InputError` where a run is missing, does not belong to the comparison, or does not fit the others.
    """
    found: dict[str, Run] = {}
    for path in files:
        result = _load(path, MIOU_KEYS, "evaluate_miou")
        other, _ = found.setdefault(result["experiment"], (path, result))
        if other != path:
            raise InputError(f"{path} and {other} are both of experiment {result['experiment']}. Pass only one of them")
    runs: dict[str, list[Run]] = {}
    students: dict[str, Run] = {}
    for label, about in settings.experiments.items():
        names = [f"{about.experiment}-seed{seed}" for seed in settings.seeds]
        if missing := [f"results/{name}_miou.json" for name in names if name not in found]:
            raise InputError(
                f"{', '.join(missing)}: not among the results to compare. Make it with snakemake, and pass it"
            )
        runs[label] = [found[name] for name in names]
        for seed, (path, result) in zip(settings.seeds, runs[label], strict=True):
            _check_run(path, result, about, seed)
            _check_alike(runs[label][0], (path, result), {key: itemgetter(key) for key in SAME_FOR_ALL_SEEDS})
            _check_alike(students.setdefault(about.student, (path, result)), (path, result), {"config": _settings})
    everything = [run for of_label in runs.values() for run in of_label]
    if strangers := sorted({str(path) for path, _ in found.values()} - {str(path) for path, _ in everything}):
        raise InputError(
            f"{strangers[0]}: comparison {settings.comparison} has no such experiment and seed. Do not pass it"
        )
    for run in everything:
        _check_alike(everything[0], run, {"validation": _validation})
    return runs


def _check_run(path: Path, result: Mapping[str, Any], about: ComparedExperiment, seed: int) -> None:
    """Raises `InputError` unless a result belongs to experiment `about` with `seed` and was scored in a single pass."""
    if unknown := [key for key in SAME_FOR_ALL_SEEDS if result[key] is None]:
        raise InputError(
            f"{path}: lacks {', '.join(unknown)}, because an older version trained its student. Delete"
            f" models/{result['experiment']}/ and make it again"
        )
    if result["tta"]:
        raise InputError(
            f"{path}: scored with test-time augmentation, which is not comparable. Use"
            f" results/{result['experiment']}_miou.json"
        )
    training = result["config"].get("train_student", {}).get("seed")
    stated = {"seed": (training, seed), "dataset": (result["dataset"], about.dataset)}
    stated["teacher"] = (result.get("teacher", about.teacher), about.teacher)
    backbone = f"{about.pretraining}-seed{seed}" if about.pretraining else None
    stated["pre-trained backbone"] = (result.get("pretrained"), backbone)
    for what, (is_now, wanted) in stated.items():
        if is_now != wanted:
            raise InputError(
                f"{path}: its {what} is {is_now!r}, but the comparison needs {wanted!r}. The settings in the file do"
                f" not match its name. Delete it and models/{result['experiment']}/, and make it again"
            )
    if result["taught"] and about.teacher is None:
        raise InputError(f"{path}: its student had a teacher, but {about.experiment} has none. Make it again")


def _check_alike(first_run: Run, run: Run, aspects: Mapping[str, Callable[[dict[str, Any]], Any]]) -> None:
    """Raises `InputError` where two runs differ in one of `aspects`: name -> function of a result."""
    (first_path, first), (path, result) = first_run, run
    for name, aspect in aspects.items():
        if aspect(first) != aspect(result):
            was, now = _where_different(aspect(first), aspect(result), name)
            raise InputError(
                f"{path}: {now}, but {first_path}: {was}. These do not fit together. A comparison needs the same"
                " settings for each student and the same validation scans for all. Make the older result again"
            )


def _where_different(one: Any, other: Any, name: str) -> tuple[str, str]:
    """Returns the first difference of two nested values as `path.to.key is value`, for each of them."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            if one.get(key) != other.get(key):
                return _where_different(one.get(key), other.get(key), f"{name}.{key}")
    return f"{name} is {json.dumps(one)}", f"{name} is {json.dumps(other)}"


def _teachers(settings: CompareExperiments, files: Iterable[Path]) -> dict[tuple[str, str | None], dict[str, float]]:
    """Returns (data set, teacher) -> {`accuracy`, `miou`} of its soft labels.

    They are scored on the scans whose labels students do not use, or on all scans if students use all labels. Raises
    `InputError` where a result is missing, or has no labels to score against.
    """
    found: dict[tuple[str, str | None], dict[str, float]] = {}
    for path in files:
        result = _load(path, POINTS_KEYS, "evaluate_teacher")
        group = result["unlabelled"] or result["all"]
        if not group:
            raise InputError(f"{path}: no point has a label, so the teacher has no score. Use a data set with labels")
        found[result["dataset"], result["teacher"]] = {key: group["mean"][key] for key in ("accuracy", "miou")}
    for about in settings.experiments.values():
        if about.teacher and (about.dataset, about.teacher) not in found:
            missing = f"results/{about.dataset}_{about.teacher}_points.json"
            raise InputError(f"{missing}: not among the teacher results. Make it with snakemake, and pass it")
    return found


def _load(path: Path, keys: Iterable[str], rule: str) -> dict[str, Any]:
    """Returns the result at `path`. rule: the rule that makes it, for error messages.

    Raises `InputError` where it cannot be read, or lacks one of `keys`.
    """
    again = f"Make it again: snakemake --forcerun {rule} {path}"
    try:
        result = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Make it with: snakemake {path}") from None
    except ValueError:
        raise InputError(f"{path}: is not a JSON file. {again}") from None
    if missing := [key for key in keys if not isinstance(result, dict) or key not in result]:
        raise InputError(f"{path}: lacks {', '.join(missing)}. Another version may have written it. {again}")
    return result
