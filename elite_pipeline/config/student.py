"""Students: network, losses, augmentation, training."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, StrictBool, model_validator

from elite_pipeline.config.values import Count, Fraction, Interval, Natural, NonNegative, Positive, Share
from elite_pipeline.validation import Section


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
    stages: list[Natural] = Field(default=[0, 1, 2, 3], min_length=1)
    output: NonNegative = 0.0
    at_labels: Fraction = 1.0
    features: NonNegative = 0.0
    temperature: Positive
    reduction: Literal["mean", "batchmean"]
    balanced: StrictBool = False

    @property
    def soft_labels(self):
        """Whether the teacher's soft labels are learnt from."""
        return self.distillation > 0 or self.output > 0

    @property
    def taught(self):
        """Whether anything of a teacher is learnt from."""
        return self.soft_labels or self.features > 0


class Augmentation(Section):
    """Random changes of the scans that a student is trained on."""

    rotate: StrictBool
    flip: StrictBool
    scale: Fraction
    translate: NonNegative
    drop: Fraction
    laser_mix: Fraction = 0.0
    polar_mix: Fraction = 0.0
    instance_cutmix: Fraction = 0.0


class TrainStudent(Section):
    """How a student is trained."""

    epochs: Count | None = None
    steps: Count | None = None
    batch: Count
    labelled_share: Share | None = None
    optimiser: Literal["sgd", "adamw"]
    learning_rate: Positive
    weight_decay: NonNegative
    warmup: Natural
    clip: Positive
    precision: Literal["32-true", "16-mixed"]
    seed: Natural
    threads: Count
    processes: Count = 1
    checkpoint_every: Count

    @model_validator(mode="after")
    def _length_is_said_once(self):
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        if self.labelled_share is not None and not round(self.labelled_share * self.batch) > 0:
            raise ValueError(f"labelled_share {self.labelled_share} of a batch of {self.batch} is no scan at all")
        return self


class Student(Section):
    """A network and how it learns."""

    network: Network
    losses: Losses
    augmentation: Augmentation
    train_student: TrainStudent
