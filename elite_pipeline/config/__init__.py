"""The one definition of `config.yaml`: every key, its type and its bounds.

Unknown keys, wrong types and impossible combinations are refused with the key's full path. What the keys *do*, with
units, stands beside their values in `config.yaml`; here stand only types, bounds and what must agree with what.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from elite_pipeline.config.data import (
    Dataset,
    ImageSet,
    IndexFrames,
    LabelImages,
    LabelsToSelect,
    PaperLabeller,
    ProjectPoints,
    ProjectSequence,
    RegionsLabeller,
    SelectLabels,
    SimulateDrive,
    SimulateImages,
)
from elite_pipeline.config.stages import (
    EvaluateMiou,
    EvaluatePseudoLabels,
    LabellersToEvaluate,
    MeasureLatency,
    PlotEmbedding,
    PretrainSam,
    SegmentImages,
)
from elite_pipeline.config.student import (
    AdaptationSettings,
    Augmentation,
    Contrast,
    Losses,
    MinkUNetSettings,
    Network,
    Pretraining,
    Schedule,
    SPVCNNSettings,
    StudentSettings,
    StudentToPretrain,
    TrainStudent,
)
from elite_pipeline.config.teacher import (
    STAGES,
    CacheTeacher,
    EncoderSettings,
    Peft,
    TeacherSettings,
    TeacherToCache,
    TeacherToTune,
    TuneTeacher,
)
from elite_pipeline.config.validation import Section, validate
from elite_pipeline.config.values import Name, Natural


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
    pretraining: Name | None = None


class ComparisonSettings(Section):
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
    teachers: dict[Name, TeacherSettings]
    oracles: dict[Annotated[str, StringConstraints(pattern=r"^oracle_[a-z0-9_]+$")], Oracle] = Field(default={})
    image_sets: dict[Name, ImageSet] = Field(default={})
    students: dict[Name, StudentSettings]
    pretrainings: dict[Name, Pretraining] = Field(default={})
    comparisons: dict[Name, ComparisonSettings] = Field(default={})
    project_points: ProjectPoints
    segment_images: SegmentImages
    pretrain_sam: PretrainSam
    evaluate_pseudo_labels: EvaluatePseudoLabels
    evaluate_miou: EvaluateMiou
    measure_latency: MeasureLatency
    plot_embedding: PlotEmbedding

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
    def _names_exist(self):
        taught = {"datasets": self.datasets, "teachers": self.teachers | self.oracles, "students": self.students}
        kinds = taught | {"pretrainings": self.pretrainings}
        for name, pretraining in self.pretrainings.items():
            self._check_names(f"pretrainings.{name}", pretraining, taught | {"teachers": self.teachers})
            self._check_pretraining(name, pretraining)
        for name, experiment in self.experiments.items():
            self._check_names(f"experiments.{name}", experiment, kinds)
            self._check_teaching(name, experiment)
        for name, teacher in self.teachers.items():
            self._check_names(f"teachers.{name}", teacher, {"images": self.image_sets})
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

    @staticmethod
    def _check_names(where, names, kinds):
        for kind, known in kinds.items():
            key = kind if kind == "images" else kind.removesuffix("s")
            chosen, section = getattr(names, key), "image_sets" if kind == "images" else kind
            if chosen is not None and chosen not in known:
                raise ValueError(f"{where}.{key} is {chosen!r}, but {section}: holds only {sorted(known)}")

    def _check_teaching(self, name, experiment):
        student, teacher = self.students[experiment.student], self.teachers.get(experiment.teacher or "")
        network, losses = student.network, student.losses
        if experiment.pretraining is not None:
            begun = self.students[self.pretrainings[experiment.pretraining].student].network
            if begun != network:
                raise ValueError(
                    f"experiments.{name}: student {experiment.student} has another network than student"
                    f" {self.pretrainings[experiment.pretraining].student} of pretraining {experiment.pretraining}"
                )
        if isinstance(network, MinkUNetSettings):
            if losses.auxiliary or losses.distillation:
                raise ValueError(
                    f"experiments.{name}: student {experiment.student} is a minkunet, which has no stages: its"
                    " losses.auxiliary and losses.distillation must be 0; losses.output distils soft labels into it"
                )
            if network.classifier == "shared" and (teacher is None or teacher.images is None):
                raise ValueError(
                    f"experiments.{name}: student {experiment.student} shares its teacher's classifier, which only a"
                    " teacher with images: has, an image segmentation network"
                )
        learns_images = teacher is not None and teacher.images is None and teacher.tune_teacher.steps > 0
        if self.datasets[experiment.dataset].labelled == 0 and (experiment.teacher is None or learns_images):
            told = "which is all that it could learn from: it has no teacher"
            if learns_images:
                told = f"from which teacher {experiment.teacher} learns; one with images: needs none"
            raise ValueError(f"experiments.{name}: no scan of {experiment.dataset} has labels, {told}")
        if experiment.teacher is None:
            return
        cached = ["logits"] if teacher is None else teacher.cache_teacher.targets
        stages = STAGES if teacher is None else teacher.stages
        for needed, wanted in (("logits", losses.soft_labels), ("features", losses.features > 0)):
            if wanted and needed not in cached:
                raise ValueError(
                    f"experiments.{name}: student {experiment.student} distils {needed}, which teacher"
                    f" {experiment.teacher} does not cache: add {needed} to its cache_teacher.targets"
                )
        if losses.taught and max(losses.stages) >= stages:
            raise ValueError(
                f"experiments.{name}: losses.stages of student {experiment.student} is {losses.stages}, but teacher"
                f" {experiment.teacher} has {stages} stages, counted from 0"
            )
        in_stages = losses.distillation or losses.features
        if isinstance(network, SPVCNNSettings) and in_stages and len(network.scales) != stages:
            raise ValueError(
                f"experiments.{name}: student {experiment.student} has {len(network.scales)} scales and teacher"
                f" {experiment.teacher} {stages} stages: give it as many, or no teacher (teacher: null)"
            )

    def _check_pretraining(self, name, pretraining):
        network, teacher = self.students[pretraining.student].network, self.teachers[pretraining.teacher]
        if not isinstance(network, MinkUNetSettings) or network.embedding is not None:
            raise ValueError(
                f"pretrainings.{name}: the network of student {pretraining.student} must be a minkunet without an"
                " embedding of its own; contrast.projection says how wide the one of pre-training is"
            )
        if "features" not in teacher.cache_teacher.targets:
            raise ValueError(
                f"pretrainings.{name} contrasts features, which teacher {pretraining.teacher} does not cache: add"
                " features to its cache_teacher.targets"
            )
        if max(pretraining.contrast.stages) >= teacher.stages:
            raise ValueError(
                f"pretrainings.{name}.contrast.stages is {pretraining.contrast.stages}, but teacher"
                f" {pretraining.teacher} has {teacher.stages} stages, counted from 0"
            )


def read(path: Path) -> Config:
    """The validated configuration of a YAML file."""
    import yaml

    return validate(Config, yaml.safe_load(path.read_text()), str(path))


__all__ = [
    "AdaptationSettings",
    "Augmentation",
    "CacheTeacher",
    "ComparisonSettings",
    "Config",
    "Contrast",
    "Dataset",
    "EncoderSettings",
    "EvaluateMiou",
    "EvaluatePseudoLabels",
    "Experiment",
    "ImageSet",
    "IndexFrames",
    "LabelImages",
    "LabellersToEvaluate",
    "LabelsToSelect",
    "Losses",
    "MeasureLatency",
    "MinkUNetSettings",
    "Network",
    "Oracle",
    "PaperLabeller",
    "Peft",
    "PlotEmbedding",
    "PretrainSam",
    "Pretraining",
    "ProjectPoints",
    "ProjectSequence",
    "RegionsLabeller",
    "SPVCNNSettings",
    "Schedule",
    "SegmentImages",
    "SelectLabels",
    "SimulateDrive",
    "SimulateImages",
    "StudentSettings",
    "StudentToPretrain",
    "TeacherSettings",
    "TeacherToCache",
    "TeacherToTune",
    "TrainStudent",
    "TuneTeacher",
    "read",
]
