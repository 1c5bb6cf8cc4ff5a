"""The one definition of `config.yaml`: every key, its type and its bounds.

Unknown keys, wrong types and impossible combinations are refused with the key's full path. What the keys *do*, with
units, stands beside their values in `config.yaml`; here stand only types, bounds and what must agree with what.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StringConstraints, model_validator

from elite_pipeline.validation import Section, validate

Sequence = Annotated[str, StringConstraints(pattern=r"^[0-9]{2}$", strict=True)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Strict: `true` is no number, and neither is the text that YAML makes of 1e-3.
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Finite, Field(gt=0)]
NonNegative = Annotated[Finite, Field(ge=0)]
Fraction = Annotated[Finite, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Interval = tuple[Finite, Finite]
STAGES = 4
"""Stages of every teacher that are distilled, one per scale of the student."""


class SimulateDrive(Section):
    """The demo's drives: how many frames of which sizes."""

    seed: Natural
    frames: Count
    spacing: Positive
    beams: Count
    columns: Count
    image_width: Count
    image_height: Count


class IndexFrames(Section):
    """What `index_frames` reads: a data set's cameras, and whether the sequence's split needs labels and images."""

    cameras: dict[str, str]
    missing_images: StrictBool
    labels: StrictBool
    images: StrictBool


class ProjectPoints(Section):
    """Which points a camera sees."""

    min_depth: Positive
    cell: Positive
    tolerance: Fraction


class ProjectSequence(Section):
    """What `project_points` reads."""

    cameras: dict[str, str]
    project_points: ProjectPoints


class View(Section):
    """Which encoder sees images of which size: what every stage that runs the teacher reads."""

    encoder: Literal["vit_b", "vit_l", "vit_h", "sam_tiny"]
    checkpoint: str | None = None
    sha256: Sha256 | None = None
    longest_side: Count
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    @model_validator(mode="after")
    def _checkpoint_is_named(self):
        if self.encoder != "sam_tiny" and (self.checkpoint is None or self.sha256 is None):
            raise ValueError(
                f"encoder {self.encoder} needs checkpoint and sha256; only sam_tiny ships with the package"
            )
        if self.encoder != "sam_tiny" and self.longest_side > 1024:
            raise ValueError(f"longest_side {self.longest_side} is beyond the 1024 pixels that SAM has positions for")
        return self


class PaperLabeller(Section):
    """The published way: ELiTe's SAM-PLG (reference: its released `amg.py`)."""

    predicted_iou: Fraction
    stability: Fraction
    stability_offset: Positive
    box_nms: Fraction
    prompts_per_batch: Count


class RegionsLabeller(Section):
    """SAM prompted once per connected region of points; the nearest label inside of the masks wins."""

    regions: Count
    inside: Count
    outside: Natural
    purity: Fraction
    detour: Annotated[Finite, Field(ge=1)]
    radius: Positive


class NearestLabeller(Section):
    """Fill from the nearest visible labelled pixel."""

    radius: Positive


class LabelImages(Section):
    """The labeller of a data set's images, and its section."""

    labeller: Literal["nearest", "paper", "regions"]
    sam: View | None = None
    nearest: NearestLabeller | None = None
    paper: PaperLabeller | None = None
    regions: RegionsLabeller | None = None

    @model_validator(mode="after")
    def _chosen_labeller_is_configured(self):
        for section in self.sections(self.labeller):
            if getattr(self, section) is None:
                raise ValueError(f"labeller is {self.labeller!r}, so a section '{section}:' is needed beside it")
        return self

    @staticmethod
    def sections(labeller):
        """The sections that a labeller reads."""
        return ("nearest",) if labeller == "nearest" else ("sam", labeller)


class Dataset(Section):
    """Where a data set's sequences lie and what they hold."""

    format: Literal["semantickitti"]
    cameras: dict[str, Literal["P0", "P1", "P2", "P3"]] = Field(min_length=1)
    missing_images: StrictBool = False
    missing_labels: StrictBool = False
    train: list[Sequence] = Field(min_length=1)
    val: list[Sequence] = Field(min_length=1)
    label_images: LabelImages

    @model_validator(mode="after")
    def _splits_are_disjoint(self):
        if shared := sorted(set(self.train) & set(self.val)):
            raise ValueError(f"sequences {shared} are in both train and val; a score on them would mean nothing")
        for split in (self.train, self.val):
            if len(split) > len(set(split)):
                raise ValueError(f"a sequence stands twice in {split}")
        return self


class Peft(Section):
    """Adapters of the image encoder."""

    method: Literal["none", "lora", "adalora"]
    rank: Count
    alpha: Positive
    targets: list[Literal["qkv", "proj", "lin1", "lin2"]] = Field(min_length=1)
    initial_rank: Count | None = None
    orthogonality: NonNegative | None = None

    @model_validator(mode="after")
    def _adalora_has_its_keys(self):
        if self.method == "adalora":
            if self.initial_rank is None or self.orthogonality is None:
                raise ValueError("method adalora needs initial_rank and orthogonality (the paper's code: 12 and 0.1)")
            if self.initial_rank < self.rank:
                raise ValueError(f"initial_rank {self.initial_rank} is below rank {self.rank}; AdaLoRA only prunes")
        return self


class TuneTeacher(Section):
    """How a teacher is tuned."""

    steps: Count
    batch: Count
    learning_rate: Positive
    weight_decay: NonNegative
    warmup: Natural
    lovasz: NonNegative
    seed: Natural


class CacheTeacher(Section):
    """What of a teacher is cached."""

    targets: list[Literal["logits", "features"]] = Field(min_length=1)
    batch: Count


class TeacherToTune(View):
    upscaler: Count
    peft: Peft
    tune_teacher: TuneTeacher


class TeacherToCache(View):
    cache_teacher: CacheTeacher


class Teacher(TeacherToTune, TeacherToCache):
    """An image encoder, its adapters and what it hands on."""

    pass


class Network(Section):
    """The student's voxels and layers."""

    voxel_size: Positive
    volume: tuple[Interval, Interval, Interval]
    scales: list[Count] = Field(min_length=1)
    width: Annotated[int, Field(ge=8, multiple_of=8)]

    @model_validator(mode="after")
    def _voxels_nest(self):
        if any(after % before for before, after in pairwise(self.scales)):
            raise ValueError(f"scales are {self.scales}; each must be a multiple of the one before, as in [2, 4, 8]")
        if any(low + self.voxel_size > high for low, high in self.volume):
            raise ValueError(f"volume is {self.volume}; each axis is [low, high] in metres, a voxel apart at least")
        return self


class Losses(Section):
    """Weights of the student's losses."""

    lovasz: NonNegative
    auxiliary: NonNegative
    auxiliary_lovasz: NonNegative
    distillation: NonNegative
    temperature: Positive
    reduction: Literal["mean", "batchmean"]


class Augmentation(Section):
    """Random changes of the scans that a student is trained on."""

    rotate: StrictBool
    flip: StrictBool
    scale: Fraction
    translate: NonNegative
    drop: Fraction


class TrainStudent(Section):
    """How a student is trained."""

    epochs: Count
    batch: Count
    optimiser: Literal["sgd", "adamw"]
    learning_rate: Positive
    weight_decay: NonNegative
    warmup: Natural
    clip: Positive
    precision: Literal["32-true", "16-mixed"]
    seed: Natural
    threads: Count
    checkpoint_every: Count


class Student(Section):
    """A network and how it learns."""

    network: Network
    losses: Losses
    augmentation: Augmentation
    train_student: TrainStudent


class PretrainSam(Section):
    """How the packaged `sam_tiny` was made."""

    worlds: Count
    calibration_worlds: Count
    views_per_world: Count
    image_width: Count
    image_height: Count
    low_resolution_steps: Natural
    steps: Count
    mask_steps: Natural
    batch: Count
    learning_rate: Positive
    weight_decay: NonNegative
    warmup: Natural
    class_names: StrictBool
    seed: Natural


class MeasureLatency(Section):
    """Which scans are timed, at which precision."""

    warmup: Natural
    scans: Count
    precision: Literal["32-true", "16-true"]


class EvaluatePseudoLabels(Section):
    """On how many frames the labellers are compared, and against what where there is no dense truth."""

    frames: Count
    held_out: Annotated[Finite, Field(gt=0, lt=1)]
    seed: Natural


class LabellersToEvaluate(EvaluatePseudoLabels):
    """What `evaluate_pseudo_labels` reads: that, and a data set's labellers, chosen or not."""

    sam: View
    paper: PaperLabeller
    regions: RegionsLabeller


class Experiment(Section):
    """What is trained by whom on what."""

    dataset: Name
    teacher: Name
    student: Name


class Config(Section):
    """The whole of `config.yaml`."""

    experiments: dict[Name, Experiment] = Field(min_length=1)
    datasets: dict[Name, Dataset]
    teachers: dict[Name, Teacher]
    students: dict[Name, Student]
    simulate_drive: SimulateDrive
    project_points: ProjectPoints
    pretrain_sam: PretrainSam
    evaluate_pseudo_labels: EvaluatePseudoLabels
    measure_latency: MeasureLatency

    @model_validator(mode="after")
    def _experiments_name_what_exists(self):
        for name, experiment in self.experiments.items():
            for kind in ("dataset", "teacher", "student"):
                known = sorted(getattr(self, f"{kind}s"))
                if getattr(experiment, kind) not in known:
                    raise ValueError(
                        f"experiments.{name}.{kind} is {getattr(experiment, kind)!r}, but {kind}s: holds only {known}"
                    )
            teacher, student = self.teachers[experiment.teacher], self.students[experiment.student]
            if student.losses.distillation and "logits" not in teacher.cache_teacher.targets:
                raise ValueError(
                    f"experiments.{name}: student {experiment.student} distils logits, which teacher"
                    f" {experiment.teacher} does not cache: add logits to its cache_teacher.targets"
                )
            if student.losses.distillation and len(student.network.scales) != STAGES:
                raise ValueError(
                    f"experiments.{name}: student {experiment.student} has {len(student.network.scales)} scales and"
                    f" every teacher {STAGES} stages: give it as many, or set losses.distillation: 0"
                )
        return self


def read(path: Path) -> Config:
    """The validated configuration of a YAML file."""
    import yaml

    return validate(Config, yaml.safe_load(path.read_text()), str(path))
