"""Checks across sections of the configuration. Each one raises `ValueError` with the full key path."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from elite_pipeline.choices import STAGES
from elite_pipeline.config.experiments import ComparisonSettings, Experiment
from elite_pipeline.config.student import Pretraining
from elite_pipeline.config.teacher import TeacherSettings
from elite_pipeline.errors import InputError

if TYPE_CHECKING:
    from elite_pipeline.config import Config


def check(config: Config) -> None:
    """Run all checks. Raises `ValueError` where sections do not fit together."""
    check_oracle_names(config)
    check_variants_sequences(config)
    for name, teacher in config.teachers.items():
        check_name(f"teachers.{name}.images", teacher.images, "image_sets", config.image_sets)
    for name, pretraining in config.pretrainings.items():
        check_pretraining(config, f"pretrainings.{name}", pretraining)
    for name, experiment in config.experiments.items():
        check_experiment(config, f"experiments.{name}", experiment)
    for name, comparison in config.comparisons.items():
        check_comparison(config, f"comparisons.{name}", comparison)


def check_name(where: str, chosen: str | None, section: str, known: Collection[str]) -> None:
    """Raises `ValueError` where `chosen`, the value at key path `where`, is neither None nor in `known`.

    section: the section whose names are `known`.
    """
    if chosen is not None and chosen not in known:
        raise ValueError(f"{where} is {chosen!r}, but {section}: has only {sorted(known)}")


def check_oracle_names(config: Config) -> None:
    """Raises `ValueError` where an oracle and a teacher have one name: their targets would share a folder."""
    if twice := sorted(config.oracles.keys() & config.teachers.keys()):
        raise ValueError(f"oracles.{twice[0]} has the name of teachers.{twice[0]}: give one of them another name")


def check_variants_sequences(config: Config) -> None:
    """Raises `ValueError` where a variant has sequences that its origin lacks in that split.

    The index is made for the splits of the origin.
    """
    for name, dataset in config.datasets.items():
        origin = config.datasets[dataset.of] if dataset.of else dataset
        for split in ("train", "val"):
            if strange := sorted({*getattr(dataset, split)} - {*getattr(origin, split)}):
                raise ValueError(
                    f"datasets.{name}.{split} has sequences {strange} that {dataset.of} lacks in that split. Add them"
                    f" to datasets.{dataset.of}.{split}"
                )


def check_pretraining(config: Config, where: str, pretraining: Pretraining) -> None:
    """Raises `ValueError` where the student has no backbone or has an embedding, or the teacher lacks the features."""
    check_name(f"{where}.dataset", pretraining.dataset, "datasets", config.datasets)
    check_name(f"{where}.teacher", pretraining.teacher, "teachers", config.teachers)
    check_name(f"{where}.student", pretraining.student, "students", config.students)
    network, teacher = config.students[pretraining.student].network, config.teachers[pretraining.teacher]
    if not network.has_backbone or network.embedding_width is not None:
        raise ValueError(
            f"{where}.student: the network of student {pretraining.student} must be a minkunet without embedding."
            " Choose such a student. Pre-training adds an embedding itself, with contrast.projection channels"
        )
    if "features" not in teacher.cache_teacher.targets:
        raise ValueError(
            f"{where} contrasts features, but teacher {pretraining.teacher} does not cache them. Add features to"
            f" teachers.{pretraining.teacher}.cache_teacher.targets"
        )
    if max(pretraining.contrast.stages) >= teacher.stages:
        raise ValueError(
            f"{where}.contrast.stages is {pretraining.contrast.stages}, but teacher {pretraining.teacher} has"
            f" {teacher.stages} stages, counted from 0"
        )


def check_experiment(config: Config, where: str, experiment: Experiment) -> None:
    """Raises `ValueError` where a part of the experiment does not exist, or the parts do not fit together."""
    check_name(f"{where}.dataset", experiment.dataset, "datasets", config.datasets)
    check_name(f"{where}.teacher", experiment.teacher, "teachers", {*config.teachers, *config.oracles})
    check_name(f"{where}.student", experiment.student, "students", config.students)
    check_name(f"{where}.pretraining", experiment.pretraining, "pretrainings", config.pretrainings)
    teacher = config.teachers.get(experiment.teacher or "")
    if experiment.teacher in config.oracles and config.datasets[experiment.dataset].simulate_drive is None:
        raise ValueError(
            f"{where}.teacher is {experiment.teacher!r}, an oracle. Oracles need dense ground truth, but"
            f" datasets.{experiment.dataset} has no simulate_drive. Choose a simulated data set, or one of the teachers"
            f" {sorted(config.teachers)}"
        )
    _check_beginning(config, where, experiment)
    _check_classes(config, where, experiment, teacher)
    _check_network(config, where, experiment, teacher)
    _check_labels(config, where, experiment, teacher)
    _check_poses(config, where, experiment)
    if experiment.teacher is not None:
        _check_targets(config, where, experiment, teacher)


def _check_classes(config: Config, where: str, experiment: Experiment, teacher: TeacherSettings | None) -> None:
    """Raises `ValueError` where the labelled images and the drives have different class tables."""
    if teacher is None or teacher.images is None:
        return
    images, data = f"image_sets.{teacher.images}", f"datasets.{experiment.dataset}"
    try:
        table = config.image_sets[teacher.images].class_table
        table.check_same(config.datasets[experiment.dataset].class_table, images, data)
    except InputError as error:
        raise ValueError(f"{where}: {error}") from None


def check_comparison(config: Config, where: str, comparison: ComparisonSettings) -> None:
    """Raises `ValueError` where the comparison names unknown experiments, or its figure cannot show them."""
    if unknown := sorted({about.experiment for about in comparison.experiments.values()} - config.experiments.keys()):
        raise ValueError(
            f"{where}.experiments names {unknown}, but experiments: has no such entries. Add or rename them"
        )
    if comparison.split == "test":
        named = {config.experiments[about.experiment].dataset for about in comparison.experiments.values()}
        if empty := sorted(name for name in named if not config.datasets[name].test):
            raise ValueError(
                f"{where}.split is test, but datasets.{empty[0]}.test is empty. List sequences with labels there"
            )
    teachers = {label: config.experiments[about.experiment].teacher for label, about in comparison.experiments.items()}
    oracles = [label for label, teacher in teachers.items() if teacher in config.oracles]
    if comparison.figure == "oracles" and not oracles:
        raise ValueError(f"{where}.figure is oracles, but no experiment has an oracle as teacher. Write figure: rows")
    if comparison.figure in ("curves", "arms") and oracles:
        raise ValueError(
            f"{where}.figure is {comparison.figure}, but the teacher of {oracles[0]!r} is an oracle, and this figure"
            " does not mark oracles. Write figure: oracles"
        )


def _check_beginning(config: Config, where: str, experiment: Experiment) -> None:
    """Raises `ValueError` where the pre-trained backbone belongs to a different network."""
    if experiment.pretraining is None:
        return
    begun = config.pretrainings[experiment.pretraining].student
    if config.students[begun].network != config.students[experiment.student].network:
        raise ValueError(
            f"{where}: student {experiment.student} has a different network from student {begun} of pretraining"
            f" {experiment.pretraining}. Give both the same network"
        )


def _check_network(config: Config, where: str, experiment: Experiment, teacher: TeacherSettings | None) -> None:
    """Raises `ValueError` where the network lacks the part that a loss needs, or the teacher lacks a classifier."""
    student = config.students[experiment.student]
    if student.network.stages == 0 and (student.losses.auxiliary or student.losses.distillation):
        raise ValueError(
            f"{where}: student {experiment.student} is a {student.network.kind}, which has no stages. Remove"
            f" students.{experiment.student}.losses.auxiliary and .distillation; losses.output distils soft labels"
        )
    if student.network.shares_classifier and (teacher is None or teacher.images is None):
        raise ValueError(
            f"{where}: student {experiment.student} shares its teacher's classifier, but only image segmentation"
            " networks have one. Choose a teacher that has `images:`"
        )


def _check_labels(config: Config, where: str, experiment: Experiment, teacher: TeacherSettings | None) -> None:
    """Raises `ValueError` where the data set has no labels, but the student or its teacher needs them."""
    if config.datasets[experiment.dataset].labelled != 0:
        return
    if config.students[experiment.student].losses.carried:
        raise ValueError(
            f"{where}: no scan of {experiment.dataset} has labels, so none can be carried to other scans. Set"
            f" students.{experiment.student}.losses.carried to 0, or choose a data set with labels"
        )
    if experiment.teacher is None:
        raise ValueError(
            f"{where}: no scan of {experiment.dataset} has labels, and the experiment has no teacher, so there is"
            " nothing to learn from. Add a teacher, or choose a data set with labels"
        )
    if teacher is not None and teacher.needs_labels:
        raise ValueError(
            f"{where}: no scan of {experiment.dataset} has labels, but teacher {experiment.teacher} learns from labels."
            " Choose a teacher that has `images:` (it needs no labels), or a data set with labels"
        )


def _check_poses(config: Config, where: str, experiment: Experiment) -> None:
    """Raises `ValueError` where the student needs targets that are carried by poses, and the data set has no poses."""
    if config.datasets[experiment.dataset].poses != "none":
        return
    losses = config.students[experiment.student].losses
    aggregated = losses.targets == "aggregated" and experiment.teacher is not None
    for key, needed, without in (("targets", aggregated, "frame"), ("carried", losses.carried > 0, "0.0")):
        if needed:
            raise ValueError(
                f"{where}: losses.{key} of student {experiment.student} needs the poses of the vehicle, but"
                f" datasets.{experiment.dataset}.poses is none. Write poses: estimated there, or losses.{key}:"
                f" {without}"
            )


def _check_targets(config: Config, where: str, experiment: Experiment, teacher: TeacherSettings | None) -> None:
    """Raises `ValueError` where a loss needs targets or stages that the teacher does not provide.

    teacher: None for an oracle. An oracle provides the logits of all stages and no features.
    """
    network, losses = config.students[experiment.student].network, config.students[experiment.student].losses
    cached = ["logits"] if teacher is None else teacher.cache_teacher.targets
    stages = STAGES if teacher is None else teacher.stages
    for needed, wanted in (("logits", losses.soft_labels), ("features", losses.features > 0)):
        if wanted and needed not in cached:
            raise ValueError(
                f"{where}: student {experiment.student} distils {needed}, but teacher {experiment.teacher} does not"
                f" cache them. Add {needed} to its cache_teacher.targets"
            )
    if losses.taught and max(losses.stages) >= stages:
        raise ValueError(
            f"{where}: losses.stages of student {experiment.student} is {losses.stages}, but teacher"
            f" {experiment.teacher} has {stages} stages, counted from 0"
        )
    if network.stages not in (0, stages) and (losses.distillation or losses.features):
        raise ValueError(
            f"{where}: student {experiment.student} has {network.stages} scales, but teacher {experiment.teacher} has"
            f" {stages} stages. Give the student as many scales, or no teacher (teacher: null)"
        )
