"""The one definition of `config.yaml`: every key, its type and its bounds.

Unknown keys, wrong types and impossible combinations are refused with the key's full path. What the keys *do*, with
units, stands beside their values in `config.yaml`; here stand only types, bounds and what must agree with what.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from elite_pipeline.config.data import (
    Dataset,
    IndexFrames,
    LabelImages,
    LabelsToSelect,
    PaperLabeller,
    ProjectPoints,
    ProjectSequence,
    RegionsLabeller,
    SelectLabels,
    SimulateDrive,
)
from elite_pipeline.config.stages import (
    EvaluateMiou,
    EvaluatePseudoLabels,
    LabellersToEvaluate,
    MeasureLatency,
    PretrainSam,
)
from elite_pipeline.config.student import Augmentation, Losses, Network, Student, TrainStudent
from elite_pipeline.config.teacher import (
    CacheTeacher,
    Peft,
    Teacher,
    TeacherToCache,
    TeacherToTune,
    TuneTeacher,
    View,
)
from elite_pipeline.config.values import Name, Natural
from elite_pipeline.validation import Section, validate

STAGES = 4
"""Stages of every teacher that are distilled, one per scale of the student."""


class Oracle(Section):
    """A diagnostic of a simulated world, no teacher of a method: the truth, corrupted to a stated accuracy."""

    # No better than chance among 19 classes, the likeliest class would be no answer any more.
    accuracy: Annotated[float, Field(strict=True, gt=1 / 19, le=1)]
    seed: Natural


class Experiment(Section):
    """What is trained by whom on what."""

    dataset: Name
    teacher: Name | None
    student: Name


class Comparison(Section):
    """Experiments side by side, each with several seeds."""

    experiments: dict[Annotated[str, StringConstraints(min_length=1)], Name] = Field(min_length=2)
    seeds: list[Natural] = Field(min_length=1)
    differences: list[tuple[str, str]] = Field(default=[])

    @model_validator(mode="after")
    def _differences_are_of_its_experiments(self):
        for pair in self.differences:
            if unknown := [label for label in pair if label not in self.experiments]:
                raise ValueError(f"differences name {unknown}, but experiments: holds only {sorted(self.experiments)}")
        if len(self.seeds) > len(set(self.seeds)):
            raise ValueError(f"a seed stands twice in {self.seeds}")
        return self


class Config(Section):
    """The whole of `config.yaml`."""

    experiments: dict[Name, Experiment] = Field(min_length=1)
    datasets: dict[Name, Dataset]
    teachers: dict[Name, Teacher]
    oracles: dict[Annotated[str, StringConstraints(pattern=r"^oracle_[a-z0-9_]+$")], Oracle] = Field(default={})
    students: dict[Name, Student]
    comparisons: dict[Name, Comparison] = Field(default={})
    project_points: ProjectPoints
    pretrain_sam: PretrainSam
    evaluate_pseudo_labels: EvaluatePseudoLabels
    evaluate_miou: EvaluateMiou
    measure_latency: MeasureLatency

    @model_validator(mode="before")
    @classmethod
    def _variants_take_the_rest_from_another(cls, values):
        datasets = values.get("datasets") if isinstance(values, dict) else None
        if not isinstance(datasets, dict):
            return values
        whole = {}
        for name, dataset in datasets.items():
            if isinstance(dataset, dict) and (origin := dataset.get("of")) is not None:
                if not isinstance(datasets.get(origin), dict) or datasets[origin].get("of") is not None:
                    raise ValueError(f"datasets.{name}.of is {origin!r}; it must be a data set that is of no other")
                stated = {key: value for key, value in dataset.items() if value != datasets[origin].get(key)}
                if strange := sorted(set(stated) - Dataset.VARIANT):
                    raise ValueError(f"datasets.{name} is of {origin} and shares its files, so it cannot set {strange}")
                dataset = datasets[origin] | dataset
            whole[name] = dataset
        return values | {"datasets": whole}

    @model_validator(mode="after")
    def _experiments_name_what_exists(self):
        for name, experiment in self.experiments.items():
            kinds = {"dataset": self.datasets, "teacher": self.teachers | self.oracles, "student": self.students}
            for kind, known in kinds.items():
                chosen = getattr(experiment, kind)
                if chosen is not None and chosen not in known:
                    raise ValueError(
                        f"experiments.{name}.{kind} is {chosen!r}, but {kind}s: holds only {sorted(known)}"
                    )
            if experiment.teacher is not None:
                self._check_teaching(name, experiment)
        for name, comparison in self.comparisons.items():
            if unknown := sorted(set(comparison.experiments.values()) - set(self.experiments)):
                raise ValueError(f"comparisons.{name} names experiments {unknown}, which experiments: does not hold")
        return self

    @model_validator(mode="after")
    def _variants_have_their_origins_sequences(self):
        for name, dataset in self.datasets.items():
            origin = self.datasets[dataset.of] if dataset.of else dataset
            if strange := sorted({*dataset.train} - {*origin.train} | {*dataset.val} - {*origin.val}):
                raise ValueError(f"datasets.{name} has sequences {strange} that {dataset.of} lacks in that split")
        return self

    def _check_teaching(self, name, experiment):
        losses, scales = self.students[experiment.student].losses, self.students[experiment.student].network.scales
        if experiment.teacher in self.oracles:
            cached = ["logits"]
        else:
            cached = self.teachers[experiment.teacher].cache_teacher.targets
        for needed, wanted in (("logits", losses.taught), ("features", losses.features > 0)):
            if wanted and needed not in cached:
                raise ValueError(
                    f"experiments.{name}: student {experiment.student} distils {needed}, which teacher"
                    f" {experiment.teacher} does not cache: add {needed} to its cache_teacher.targets"
                )
        if losses.taught and (len(scales) != STAGES or max(losses.stages) >= STAGES):
            raise ValueError(
                f"experiments.{name}: student {experiment.student} has {len(scales)} scales and every teacher {STAGES}"
                f" stages, 0 to {STAGES - 1}: give it as many, or give the experiment no teacher (teacher: null)"
            )


def read(path: Path) -> Config:
    """The validated configuration of a YAML file."""
    import yaml

    return validate(Config, yaml.safe_load(path.read_text()), str(path))


__all__ = [
    "Augmentation",
    "CacheTeacher",
    "Comparison",
    "Config",
    "Dataset",
    "EvaluateMiou",
    "EvaluatePseudoLabels",
    "Experiment",
    "IndexFrames",
    "LabelImages",
    "LabellersToEvaluate",
    "LabelsToSelect",
    "Losses",
    "MeasureLatency",
    "Network",
    "Oracle",
    "PaperLabeller",
    "Peft",
    "PretrainSam",
    "ProjectPoints",
    "ProjectSequence",
    "RegionsLabeller",
    "SelectLabels",
    "SimulateDrive",
    "Student",
    "Teacher",
    "TeacherToCache",
    "TeacherToTune",
    "TrainStudent",
    "TuneTeacher",
    "View",
    "read",
]
