"""Settings of data sets: files, simulation, checks, projection, and the labelling of images."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)

from elite_pipeline.choices import FORMATS, IMAGE_FORMATS, load
from elite_pipeline.config.places import AggregateTargets, CarryLabels
from elite_pipeline.config.teacher import Sam
from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Camera, Count, Finite, Fraction, Frame, Name, Natural, Positive, Sequence
from elite_pipeline.config.worlds import SimulateDrive, SimulateImages, refuse_other_rigs
from elite_pipeline.datasets.classes import ClassTable, class_table
from elite_pipeline.errors import InputError


def _official(split: Any, info: ValidationInfo) -> Any:
    """Returns the sequences of an official split of the data set's format, if `split` is its name; else `split`."""
    if not isinstance(split, str):
        return split
    known = FORMATS.get(info.data.get("format", ""))
    splits = load(known.splits) if known and known.splits else {}
    if split not in splits:
        choice = (
            f" or one of the official splits {', '.join(splits)}" if splits else ": this format has no official splits"
        )
        raise ValueError(f"{split!r} is no list of sequences. Give a list{choice}")
    return list(splits[split])


Sequences = Annotated[list[Sequence], BeforeValidator(_official)]
"""Sequences, or the name of an official split of the format."""


def _named(cameras: Any) -> Any:
    """Returns a list of cameras as a mapping, each to its own name. Other values stay as they are."""
    return {name: name for name in cameras} if isinstance(cameras, list) else cameras


Cameras = Annotated[dict[Camera, str], BeforeValidator(_named)]
"""Camera -> the name of its calibration in the format. A list of cameras: the two names are the same."""

Poses = Literal["recorded", "estimated", "none"]
"""Where a data set's poses come from: its files, `estimate_poses`, or nowhere."""


class IndexFrames(Section):
    """Settings of `index_frames`: a data set's cameras, and whether the sequence's split needs labels and images."""

    format: str
    classes: str
    cameras: dict[str, str]
    missing_images: StrictBool
    poses: Poses = "recorded"
    labels: StrictBool
    images: StrictBool


class ReadTables(Section):
    """Settings of `read_tables`: the format, the class table, the wanted cameras, and the sequences that are used."""

    format: str
    classes: str
    cameras: dict[str, str]
    sequences: list[str]


class ProjectPoints(Section):
    """When a camera sees a point."""

    min_depth: Positive
    cell: Positive
    tolerance: Fraction


class ProjectSequence(Section):
    """Settings of `project_points`."""

    project_points: ProjectPoints


class PaperLabeller(Section):
    """The published method: ELiTe's SAM-PLG (reference: its released `amg.py`)."""

    predicted_iou: Fraction
    stability: Fraction
    stability_offset: Positive
    box_nms: Fraction
    prompts_per_batch: Count


class RegionsLabeller(Section):
    """One SAM prompt per connected region of points. The nearest label wins; distances outside its masks count more."""

    regions: Count
    inside: Count
    outside: Natural
    purity: Fraction
    detour: Annotated[Finite, Field(ge=1)]
    radius: Positive


class NearestLabeller(Section):
    """Each pixel takes the label of the nearest visible labelled pixel."""

    radius: Positive


class LabelImages(Section):
    """The labeller of a data set's images, and its settings."""

    labeller: Literal["sparse", "nearest", "paper", "regions"]
    sam: Sam | None = None
    nearest: NearestLabeller | None = None
    paper: PaperLabeller | None = None
    regions: RegionsLabeller | None = None

    @model_validator(mode="after")
    def _chosen_labeller_is_configured(self) -> Self:
        for section in self.sections(self.labeller):
            if getattr(self, section) is None:
                raise ValueError(f"labeller is {self.labeller!r}, so it needs a section '{section}:'. Add it")
        return self

    @staticmethod
    def sections(labeller: str) -> tuple[str, ...]:
        """Returns the names of the sections that a labeller reads."""
        return {"sparse": (), "nearest": ("nearest",)}.get(labeller, ("sam", labeller))


class SelectLabels(Section):
    """Which training scans keep their labels, if not all do.

    by: interval: every k-th scan. classes: random scans that show as many classes as possible. drive: all scans of
    random drives (sequences).
    """

    by: Literal["interval", "classes", "drive"] = "interval"
    seed: Natural = 0


class LabelsToSelect(SelectLabels):
    """Settings of `select_labels`."""

    labelled: Fraction | dict[Sequence, list[Frame]]


def _checked_table(name: str) -> str:
    """Returns `name`. Raises `ValueError` where there is no such class table, or it is wrong."""
    try:
        class_table(name)
    except InputError as error:
        raise ValueError(str(error)) from None
    return name


def _checked_format(name: str) -> str:
    """Returns `name`. Raises `ValueError` where it is not in `choices.FORMATS`."""
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
    return name


Classes = Annotated[str, AfterValidator(_checked_table)]
"""The name of a packaged class table, or the path of a YAML file."""


def _checked_image_format(name: str) -> str:
    """Returns `name`. Raises `ValueError` where it is not in `choices.IMAGE_FORMATS`."""
    if name not in IMAGE_FORMATS:
        raise ValueError(f"unknown format {name!r}; choose one of {', '.join(IMAGE_FORMATS)}")
    return name


ImageFormatName = Annotated[str, AfterValidator(_checked_image_format)]
"""The name of a format of labelled images."""


class ImageSet(Section):
    """Images with dense labels and without LiDAR, for training a segmentation network.

    unknown: classes that the images do not label. A format that cannot label all classes adds those itself.
    """

    format: ImageFormatName = "folder"
    classes: Classes = "semantickitti"
    simulate_images: SimulateImages | None = None
    unknown: list[str] = Field(default=[], validate_default=True)
    held_out: Annotated[Finite, Field(gt=0, lt=1)] = 0.1

    @field_validator("unknown", mode="after")
    @classmethod
    def _with_unlabelled_classes(cls, unknown: list[str], info: ValidationInfo) -> list[str]:
        known = IMAGE_FORMATS.get(info.data.get("format", ""))
        if known is None or known.categories is None or "classes" not in info.data:
            return unknown
        raw_ids, table = sorted(load(known.categories).values()), class_table(info.data["classes"])
        if strange := sorted(set(raw_ids) - table.training_ids.keys()):
            raise ValueError(
                f"the class table {table.name} lacks the raw ids {strange}, which format {info.data['format']} labels."
                " Write classes: nuscenes, or a table of your own with these raw ids"
            )
        labelled = {table.training_ids[raw] for raw in raw_ids}
        never = [name for k, name in enumerate(table.names) if k and k not in labelled]
        return [*never, *(name for name in unknown if name not in never)]

    @property
    def class_table(self) -> ClassTable:
        """The class table that `classes` names."""
        return class_table(self.classes)

    @model_validator(mode="after")
    def _unknown_classes_exist(self) -> Self:
        classes = self.class_table.evaluated
        if strange := sorted(set(self.unknown) - set(classes)):
            raise ValueError(f"`unknown` lists {strange}, which are no classes; the classes are {', '.join(classes)}")
        return self


OF_PLACES = ("aggregate_targets", "carry_labels")
"""Sections of the configuration that a data set may change for its own LiDAR, key by key."""


class Dataset(Section):
    """A data set: its format and classes, its sequences, and the labels that are used."""

    of: Name | None = None
    format: Annotated[str, AfterValidator(_checked_format)]
    classes: Classes = "semantickitti"
    simulate_drive: SimulateDrive | None = None
    cameras: Cameras = Field(min_length=1)
    missing_images: StrictBool = False
    missing_labels: StrictBool = False
    poses: Poses = "recorded"
    train: Annotated[Sequences, Field(min_length=1)]
    val: Annotated[Sequences, Field(min_length=1)]
    test: Sequences = Field(default=[])
    labelled: Fraction | dict[Sequence, list[Frame]] = 1.0
    select_labels: SelectLabels = SelectLabels()
    aggregate_targets: AggregateTargets | None = None
    carry_labels: CarryLabels | None = None
    label_images: LabelImages

    @model_validator(mode="after")
    def _splits_are_disjoint(self) -> Self:
        if shared := sorted(set(self.train) & set(self.val)):
            raise ValueError(f"sequences {shared} are in both train and val, so scores would be wrong. Remove one")
        if shared := sorted(set(self.test) & {*self.train, *self.val}):
            raise ValueError(
                f"sequences {shared} are in test and also in train or val, so test would score what students learnt or"
                " settings were chosen by. Remove them from one of the two"
            )
        for split in (self.train, self.val, self.test):
            if len(split) > len(set(split)):
                raise ValueError(f"{split} lists a sequence twice. Remove one")
        if isinstance(self.labelled, dict) and (strange := sorted(set(self.labelled) - set(self.train))):
            raise ValueError(f"labelled lists sequences {strange}, which are not in train. Add or remove them")
        return self

    @model_validator(mode="after")
    def _simulated_rig_is_known(self) -> Self:
        if self.simulate_drive is not None and self.format == "nuscenes":
            refuse_other_rigs(self.simulate_drive, self.cameras.values())
        return self

    @property
    def class_table(self) -> ClassTable:
        """The class table that `classes` names."""
        return class_table(self.classes)

    VARIANT: ClassVar[set[str]] = {
        "of",
        "train",
        "val",
        "test",
        "labelled",
        "select_labels",
        "label_images",
        *OF_PLACES,
    }
    """The keys that a variant (`of:`) may set. It shares all other settings, files and projections with its origin."""
