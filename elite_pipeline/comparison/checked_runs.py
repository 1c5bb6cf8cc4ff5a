"""The results that a comparison reads: each run is of the stated experiment, seed and split, and all fit together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from elite_pipeline.config.seeds import MARK, draws_drives
from elite_pipeline.errors import InputError

if TYPE_CHECKING:
    from elite_pipeline.stages.compare_experiments import ComparedExperiment, CompareExperiments

MIOU_KEYS = (
    *("experiment", "dataset", "labels_seed", "split", "sequences", "miou", "accuracy", "miou_frequent", "miou_seen"),
    *("miou_unseen", "frequent_classes", "iou", "confusion", "places", "points", "scans", "tta", "config", "steps"),
    *("presentations", "labelled_scans", "training_scans", "taught", "commit", "device"),
)
"""The keys of `<experiment>_miou.json` that are read."""

POINTS_KEYS = ("dataset", "teacher", "all", "unlabelled")
"""The keys of `<dataset>_<teacher>_points.json` that are read."""

SAME_FOR_ALL_SEEDS = ("labelled_scans", "training_scans", "taught", "steps")
"""The keys that all seeds of an experiment share."""

DRAWN = ("labelled_scans", "steps")
"""Those that they need not share where the seed draws the labelled drives, since drives differ in length."""

Run = tuple[Path, dict[str, Any]]
"""A result file and its content: one experiment with one seed."""


def read_runs(settings: CompareExperiments, files: Iterable[Path]) -> dict[str, list[Run]]:
    """Returns label -> one run per seed. All have the same validation points and the settings of the comparison.

    Raises `InputError` where a run is missing, does not belong to the comparison, or does not fit the others.
    """
    suffix = "_test" if settings.split == "test" else ""
    found: dict[str, Run] = {}
    for path in files:
        result = _load(path, MIOU_KEYS, "evaluate_miou")
        other, _ = found.setdefault(result["experiment"], (path, result))
        if other != path:
            raise InputError(f"{path} and {other} are both of experiment {result['experiment']}. Pass only one of them")
    runs: dict[str, list[Run]] = {}
    students: dict[str, Run] = {}
    for label, about in settings.experiments.items():
        names = [f"{about.experiment}{MARK}{seed}" for seed in settings.seeds]
        if missing := [f"results/{name}_miou{suffix}.json" for name in names if name not in found]:
            raise InputError(
                f"{', '.join(missing)}: not among the results to compare. Make it with snakemake, and pass it"
            )
        runs[label] = [found[name] for name in names]
        for seed, (path, result) in zip(settings.seeds, runs[label], strict=True):
            _check_run(path, result, settings, about, seed)
            keys = [key for key in SAME_FOR_ALL_SEEDS if not (draws(settings, about) and key in DRAWN)]
            _check_alike(runs[label][0], (path, result), {key: itemgetter(key) for key in keys})
            _check_alike(
                students.setdefault(about.student, (path, result)), (path, result), {"config": student_settings}
            )
    everything = [run for of_label in runs.values() for run in of_label]
    if strangers := sorted({str(path) for path, _ in found.values()} - {str(path) for path, _ in everything}):
        raise InputError(
            f"{strangers[0]}: comparison {settings.comparison} has no such experiment and seed. Do not pass it"
        )
    for run in everything:
        _check_alike(everything[0], run, {"evaluated": evaluated_points, "places": _place_points})
    return runs


def draws(settings: CompareExperiments, about: ComparedExperiment) -> bool:
    """Returns whether the seed draws the labelled drives of an experiment's data set, and its teacher."""
    dataset = settings.datasets.get(about.dataset)
    return dataset is not None and draws_drives(dataset)


def evaluated_points(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the evaluated points of a result. They must be equal in all compared results.

    `class_points` is the number of points of each class.
    """
    of_class = np.sum(result["confusion"], axis=1)[1:].tolist()
    about = {key: result[key] for key in ("split", "sequences", "scans", "points")}
    about["class_points"] = dict(zip(result["iou"], of_class, strict=True))
    return about | {"frequent_classes": result["frequent_classes"]}


def student_settings(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the student's settings without the seed, which is the only difference between runs of one experiment."""
    training = {key: value for key, value in result["config"]["train_student"].items() if key != "seed"}
    return result["config"] | {"train_student": training}


def _place_points(result: Mapping[str, Any]) -> dict[str, list[int]]:
    """Returns the number of points of each class at each place."""
    return {place: np.sum(counts, axis=1).tolist() for place, counts in result["places"].items()}


def _check_run(
    path: Path, result: Mapping[str, Any], settings: CompareExperiments, about: ComparedExperiment, seed: int
) -> None:
    """Raises `InputError` unless a result is of experiment `about` with `seed`, of the split, and of a single pass."""
    if unknown := [key for key in SAME_FOR_ALL_SEEDS if result[key] is None]:
        raise InputError(
            f"{path}: lacks {', '.join(unknown)}, because an older version trained its student. Delete"
            f" models/{result['experiment']}/ and make it again"
        )
    if result["tta"]:
        raise InputError(
            f"{path}: scored with test-time augmentation, which is not comparable. Use"
            f" results/{result['experiment']}_miou.json or ..._miou_test.json"
        )
    if result["split"] != settings.split:
        raise InputError(
            f"{path}: scored on {result['split']} sequences, but comparison {settings.comparison} is of"
            f" {settings.split} sequences. Pass the results of those"
        )
    if not np.array_equal(np.sum(list(result["places"].values()), axis=0), result["confusion"]):
        raise InputError(
            f"{path}: the confusion matrices of its places do not add up to that of all. The file is damaged. Make it"
            f" again: snakemake --forcerun evaluate_miou {path}"
        )
    training = result["config"].get("train_student", {}).get("seed")
    stated = {"seed": (training, seed), "dataset": (result["dataset"], about.dataset)}
    stated["labels_seed"] = (result["labels_seed"], seed if draws(settings, about) else None)
    stated["teacher"] = (result.get("teacher", about.teacher), about.teacher)
    backbone = f"{about.pretraining}{MARK}{seed}" if about.pretraining else None
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
                " settings for each student and the same scored points for all. Make the older result again"
            )


def _where_different(one: Any, other: Any, name: str) -> tuple[str, str]:
    """Returns the first difference of two nested values as `path.to.key is value`, for each of them."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            if one.get(key) != other.get(key):
                return _where_different(one.get(key), other.get(key), f"{name}.{key}")
    return f"{name} is {json.dumps(one)}", f"{name} is {json.dumps(other)}"


def read_teachers(settings: CompareExperiments, files: Iterable[Path]) -> dict[str, dict[str, float]]:
    """Returns label of an experiment with a teacher -> {`accuracy`, `miou`} of the teacher's soft labels.

    They are scored on the scans whose labels students do not use, or on all scans if students use all labels. Where
    each seed has its own teacher, they are means over the seeds. Raises `InputError` where a result is missing, or has
    no labels to score against.
    """
    found: dict[tuple[str, str, int | None], dict[str, float]] = {}
    for path in files:
        result = _load(path, POINTS_KEYS, "evaluate_teacher")
        group = result["unlabelled"] or result["all"]
        if not group:
            raise InputError(f"{path}: no point has a label, so the teacher has no score. Use a data set with labels")
        key = result["dataset"], result["teacher"], result.get("labels_seed")
        found[key] = {name: group["mean"][name] for name in ("accuracy", "miou")}
    scores = {}
    for label, about in settings.experiments.items():
        if about.teacher is None:
            continue
        each = settings.seeds if draws(settings, about) else [None]
        if missing := [seed for seed in each if (about.dataset, about.teacher, seed) not in found]:
            of_seed = "" if missing[0] is None else f"{MARK}{missing[0]}"
            file = f"results/{about.dataset}{of_seed}_{about.teacher}_points.json"
            raise InputError(f"{file}: not among the teacher results. Make it with snakemake, and pass it")
        of_seeds = [found[about.dataset, about.teacher, seed] for seed in each]
        scores[label] = {name: mean(one[name] for one in of_seeds) for name in ("accuracy", "miou")}
    return scores


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
