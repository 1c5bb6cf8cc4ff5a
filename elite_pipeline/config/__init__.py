"""The definition of the configuration (`config.yaml`, `config/comparisons.yaml`): every key with its type and bounds.

Unknown keys, wrong types and impossible combinations are refused with the full path of the key. The YAML files explain
the effect and the unit of each key. These modules define only types, bounds and what must agree.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from elite_pipeline.config import checks, variants
from elite_pipeline.config.data import (
    Dataset,
    ImageFormatName,
    ImageSet,
    IndexFrames,
    LabelImages,
    LabelsToSelect,
    PaperLabeller,
    ProjectPoints,
    ProjectSequence,
    ReadTables,
    RegionsLabeller,
    SelectLabels,
)
from elite_pipeline.config.experiments import Compared, ComparisonSettings, Experiment, Oracle
from elite_pipeline.config.places import (
    AggregatedThings,
    AggregateTargets,
    CarriedThings,
    CarryLabels,
    SequenceToAggregate,
    SequenceToCarry,
)
from elite_pipeline.config.reading import completed, load
from elite_pipeline.config.stages import (
    EstimatePoses,
    EvaluateMiou,
    EvaluatePseudoLabels,
    LabellersToEvaluate,
    MeasureLatency,
    PlotEmbedding,
    PretrainSam,
    SegmentImages,
    TargetsToCalibrate,
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
    CacheTeacher,
    EncoderSettings,
    Peft,
    TeacherSettings,
    TeacherToCache,
    TeacherToTune,
    TuneTeacher,
)
from elite_pipeline.config.validation import Section, validate
from elite_pipeline.config.values import Name
from elite_pipeline.config.worlds import SensorNoise, SimulateDrive, SimulateImages


class Config(Section):
    """The whole configuration."""

    experiments: dict[Name, Experiment] = Field(min_length=1)
    datasets: dict[Name, Dataset]
    teachers: dict[Name, TeacherSettings]
    oracles: dict[Name, Oracle] = Field(default={})
    image_sets: dict[Name, ImageSet] = Field(default={})
    students: dict[Name, StudentSettings]
    pretrainings: dict[Name, Pretraining] = Field(default={})
    comparisons: dict[Name, ComparisonSettings] = Field(default={})
    project_points: ProjectPoints
    segment_images: SegmentImages
    aggregate_targets: AggregateTargets
    carry_labels: CarryLabels
    estimate_poses: EstimatePoses = EstimatePoses()
    pretrain_sam: PretrainSam
    evaluate_pseudo_labels: EvaluatePseudoLabels
    evaluate_miou: EvaluateMiou
    measure_latency: MeasureLatency
    plot_embedding: PlotEmbedding

    @classmethod
    def spelt_out(cls, values: Any) -> Any:
        """Returns `values` with every variant (`of:`) completed. Raises `ValueError` for an unusable `of`."""
        return variants.spelt_out(values)

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        checks.check(self)
        return self


def read(path: Path, *others: Path) -> Config:
    """Returns the validated configuration of a YAML file, with the entries of `others` that it lacks.

    Raises `InputError` where a file cannot be read or the configuration is wrong. The error lists all faults, each with
    its full key path.
    """
    values = load(path)
    for other in others:
        values = completed(values, load(other))
    return validate(Config, values, str(path))


__all__ = [
    "AdaptationSettings",
    "AggregateTargets",
    "AggregatedThings",
    "Augmentation",
    "CacheTeacher",
    "CarriedThings",
    "CarryLabels",
    "Compared",
    "ComparisonSettings",
    "Config",
    "Contrast",
    "Dataset",
    "EncoderSettings",
    "EstimatePoses",
    "EvaluateMiou",
    "EvaluatePseudoLabels",
    "Experiment",
    "ImageFormatName",
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
    "ReadTables",
    "RegionsLabeller",
    "SPVCNNSettings",
    "Schedule",
    "SegmentImages",
    "SelectLabels",
    "SensorNoise",
    "SequenceToAggregate",
    "SequenceToCarry",
    "SimulateDrive",
    "SimulateImages",
    "StudentSettings",
    "StudentToPretrain",
    "TargetsToCalibrate",
    "TeacherSettings",
    "TeacherToCache",
    "TeacherToTune",
    "TrainStudent",
    "TuneTeacher",
    "read",
]
