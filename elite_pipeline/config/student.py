"""Settings of students: network, losses, augmentation, training."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StrictBool, Tag, model_validator

from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Fraction, Interval, Name, Natural, NonNegative, Positive, Share

Width = Annotated[int, Field(ge=8, multiple_of=8)]


class NetworkSettings(Section):
    """Properties that every kind of network has. Each kind overrides those that differ."""

    @property
    def stages(self) -> int:
        """Number of stages that have their own 3D head. Each one learns from the same stage of the teacher.

        0: the network learns soft labels and features at its output.
        """
        return 0

    @property
    def has_backbone(self) -> bool:
        """Whether the network has a backbone, which can be pre-trained and has its own learning rate."""
        return False

    @property
    def embedding_width(self) -> int | None:
        """Channels of the layer after the network that is compared with the teacher's features; None without one."""
        return None

    @property
    def shares_classifier(self) -> bool:
        """Whether the student uses the teacher's classifier."""
        return False


class SPVCNNSettings(NetworkSettings):
    """ELiTe's student: its voxels and layers."""

    kind: Literal["spvcnn"] = "spvcnn"
    voxel_size: Positive
    volume: tuple[Interval, Interval, Interval]
    scales: list[Count] = Field(min_length=1)
    width: Width

    @model_validator(mode="after")
    def _voxels_nest(self) -> Self:
        if any(after % before for before, after in pairwise(self.scales)):
            raise ValueError(f"scales are {self.scales}; each must be a multiple of the previous one, as in [2, 4, 8]")
        if any(low + self.voxel_size > high for low, high in self.volume):
            raise ValueError(
                f"volume is {self.volume}; each axis needs [low, high] in metres, at least one voxel apart"
            )
        return self

    @property
    def stages(self) -> int:
        """One for each scale."""
        return len(self.scales)


class AdaptationSettings(Section):
    """The domain-adaptation module: layers of self-calibrated convolution. A gate sees a block of `pooling` voxels."""

    layers: Count = 3
    pooling: Annotated[int, Field(ge=2, strict=True)] = 4


class MinkUNetSettings(NetworkSettings):
    """The student of UDAKD and FSKD: a sparse U-Net and the layers after it."""

    kind: Literal["minkunet"]
    frame: Literal["cartesian", "cylindrical"]
    voxel_size: tuple[Positive, Positive, Positive]
    volume: tuple[Interval, Interval, Interval]
    stem: Width
    planes: list[Width] = Field(min_length=2)
    blocks: list[Count] = Field(min_length=2)
    embedding: Width | None = None
    adaptation: AdaptationSettings | None = None
    classifier: Literal["own", "shared"] = "own"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(self.planes) % 2 or len(self.planes) != len(self.blocks):
            raise ValueError(
                f"planes is {self.planes} and blocks is {self.blocks}: give each one entry per stage, with as many"
                " stages down as up"
            )
        for name in ("adaptation", "classifier"):
            if self.embedding is None and getattr(self, name) not in (None, "own"):
                raise ValueError(f"{name} needs an embedding: set embedding to the width of the image features")
        if any(low + size > high for size, (low, high) in zip(self.voxel_size, self.volume, strict=True)):
            raise ValueError(
                f"volume is {self.volume}; each axis needs [low, high], at least one voxel of {self.voxel_size} apart"
            )
        if self.frame == "cylindrical" and self.volume[1] != (-180.0, 180.0):
            raise ValueError(f"volume[1] is {self.volume[1]}; in a cylindrical frame it must be [-180.0, 180.0]")
        return self

    @property
    def has_backbone(self) -> bool:
        """The U-Net."""
        return True

    @property
    def embedding_width(self) -> int | None:
        """The width of `embedding`."""
        return self.embedding

    @property
    def shares_classifier(self) -> bool:
        """Whether `classifier` is `shared`."""
        return self.classifier == "shared"


def _kind(network: Any) -> Any:
    """Returns the kind in YAML values (default: spvcnn) or in settings; None for other values."""
    return network.get("kind", "spvcnn") if isinstance(network, dict) else getattr(network, "kind", None)


Network = Annotated[
    Annotated[SPVCNNSettings, Tag("spvcnn")] | Annotated[MinkUNetSettings, Tag("minkunet")],
    Discriminator(_kind, custom_error_type="kind", custom_error_message="kind must be spvcnn or minkunet"),
]
"""A student's network."""


class Losses(Section):
    """Weights of the student's losses."""

    lovasz: NonNegative
    auxiliary: NonNegative = 0.0
    auxiliary_lovasz: NonNegative = 0.0
    distillation: NonNegative = 0.0
    stages: list[Natural] = Field(default=[0, 1, 2, 3], min_length=1)
    output: NonNegative = 0.0
    targets: Literal["frame", "aggregated"] = "frame"
    confident: Share = 1.0
    at_labels: Fraction = 1.0
    features: NonNegative = 0.0
    temperature: Positive = 1.0
    reduction: Literal["mean", "batchmean"] = "batchmean"
    balanced: StrictBool = False
    calibrated: StrictBool = False
    carried: NonNegative = 0.0

    @model_validator(mode="after")
    def _aggregated_targets_are_read(self) -> Self:
        if self.targets == "aggregated" and self.output == 0:
            raise ValueError(
                "targets is aggregated, but only the loss of the output reads aggregated targets, and output is 0."
                " Raise output, or write targets: frame"
            )
        return self

    @model_validator(mode="after")
    def _calibrated_soft_labels_are_read(self) -> Self:
        if self.calibrated and not self.soft_labels:
            raise ValueError(
                "calibrated is true, but distillation and output are 0, so no loss reads soft labels. Raise one of"
                " them, or remove calibrated"
            )
        return self

    @property
    def soft_labels(self) -> bool:
        """Whether the student learns from the teacher's soft labels."""
        return self.distillation > 0 or self.output > 0

    @property
    def taught(self) -> bool:
        """Whether the student learns from a teacher at all: from soft labels or from features."""
        return self.soft_labels or self.features > 0

    @property
    def own_frame(self) -> bool:
        """Whether a loss reads the teacher targets of the scan's own images, and not only aggregated ones."""
        return self.distillation > 0 or self.features > 0 or (self.output > 0 and self.targets == "frame")


class Augmentation(Section):
    """Random changes of the training scans."""

    rotate: StrictBool
    flip: StrictBool
    scale: Fraction
    translate: NonNegative
    drop: Fraction
    laser_mix: Fraction = 0.0
    polar_mix: Fraction = 0.0
    instance_cutmix: Fraction = 0.0


class Schedule(Section):
    """How long and how a network is trained."""

    epochs: Count | None = None
    steps: Count | None = None
    batch: Count
    labelled_share: Share | None = None
    unlabelled: Natural = 0
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
    def _length_is_said_once(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        if self.unlabelled and self.labelled_share is not None:
            raise ValueError(
                f"unlabelled is {self.unlabelled} and labelled_share is {self.labelled_share}. unlabelled adds scans to"
                " the batch, labelled_share divides the batch. Give one of them"
            )
        if self.labelled_share is not None and not round(self.labelled_share * self.batch) > 0:
            raise ValueError(
                f"labelled_share {self.labelled_share} of a batch of {self.batch} rounds to no scan. Raise one of them"
            )
        if self.labelled_share and self.labelled_share < 1 and round(self.labelled_share * self.batch) == self.batch:
            raise ValueError(
                f"labelled_share {self.labelled_share} of a batch of {self.batch} rounds to all scans, so unlabelled"
                " scans would never be used. Lower labelled_share or raise batch"
            )
        return self


class TrainStudent(Schedule):
    """How a student is trained."""

    backbone_learning_rate: NonNegative | None = None


class StudentSettings(Section):
    """A network and how it learns."""

    network: Network
    losses: Losses
    augmentation: Augmentation
    train_student: TrainStudent


class Contrast(Section):
    """InfoNCE between a network's features and an image encoder's."""

    level: Literal["point", "superpixel"]
    pairs: Annotated[int, Field(ge=2, strict=True)]
    temperature: Positive
    projection: Width
    stages: list[Natural] = Field(min_length=1)


class Pretraining(Section):
    """How a student's backbone is pre-trained without labels: data set, teacher, contrast and schedule."""

    dataset: Name
    teacher: Name
    student: Name
    adaptation: AdaptationSettings | None
    contrast: Contrast
    pretrain_student: Schedule


class StudentToPretrain(Section):
    """Settings of `pretrain_student`."""

    network: MinkUNetSettings
    augmentation: Augmentation
    adaptation: AdaptationSettings | None
    contrast: Contrast
    pretrain_student: Schedule
