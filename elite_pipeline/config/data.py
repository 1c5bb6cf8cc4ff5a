"""Data sets: where they lie, what is simulated, checked and projected, and how images get their labels."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from elite_pipeline.choices import FORMATS
from elite_pipeline.config.teacher import Sam
from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Camera, Count, Finite, Fraction, Frame, Name, Natural, Positive, Sequence
from elite_pipeline.datasets.classes import ClassTable, class_table
from elite_pipeline.errors import InputError


class SimulateDrive(Section):
    """The drives of a simulated data set: how many frames of which sizes."""

    seed: Natural
    frames: Count
    spacing: Positive
    beams: Count
    columns: Count
    image_width: Count
    image_height: Count
    surround: StrictBool = False


class IndexFrames(Section):
    """What `index_frames` reads: a data set's cameras, and whether the sequence's split needs labels and images."""

    format: str
    classes: str
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

    project_points: ProjectPoints


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

    labeller: Literal["sparse", "nearest", "paper", "regions"]
    sam: Sam | None = None
    nearest: NearestLabeller | None = None
    paper: PaperLabeller | None = None
    regions: RegionsLabeller | None = None

    @model_validator(mode="after")
    def _chosen_labeller_is_configured(self) -> Self:
        for section in self.sections(self.labeller):
            if getattr(self, section) is None:
                raise ValueError(f"labeller is {self.labeller!r}, so a section '{section}:' is needed beside it")
        return self

    @staticmethod
    def sections(labeller: str) -> tuple[str, ...]:
        """The sections that a labeller reads."""
        return {"sparse": (), "nearest": ("nearest",)}.get(labeller, ("sam", labeller))


class SelectLabels(Section):
    """Which of the training scans keep their labels, where not all do."""

    by: Literal["interval", "classes"] = "interval"
    seed: Natural = 0


class LabelsToSelect(SelectLabels):
    """What `select_labels` reads."""

    labelled: Fraction | dict[Sequence, list[Frame]]


class SimulateImages(Section):
    """Labelled images of random places: how many, which."""

    seed: Natural
    worlds: Count
    views_per_world: Count
    image_width: Count
    image_height: Count


def _checked_table(name: str) -> str:
    """`name`. Raises `ValueError` where that is no class table, or one that is wrong."""
    try:
        class_table(name)
    except InputError as error:
        raise ValueError(str(error)) from None
    return name


def _checked_format(name: str) -> str:
    """`name`. Raises `ValueError` where `choices.FORMATS` does not list it."""
    if name not in FORMATS:
        raise ValueError(f"no format {name!r}; write {', '.join(FORMATS)}")
    return name


Classes = Annotated[str, AfterValidator(_checked_table)]
"""The name of a packaged class table, or the path of a YAML file."""


class ImageSet(Section):
    """Images with dense labels and no LiDAR, as a segmentation network is trained on."""

    classes: Classes = "semantickitti"
    simulate_images: SimulateImages | None = None
    unknown: list[str] = Field(default=[])
    held_out: Annotated[Finite, Field(gt=0, lt=1)] = 0.1

    @property
    def class_table(self) -> ClassTable:
        """The table that `classes` names."""
        return class_table(self.classes)

    @model_validator(mode="after")
    def _unknown_classes_exist(self) -> Self:
        classes = self.class_table.evaluated
        if strange := sorted(set(self.unknown) - set(classes)):
            raise ValueError(f"unknown names {strange}, which are no classes; those are {', '.join(classes)}")
        return self


class Dataset(Section):
    """Where a data set's sequences lie, what they hold, and how much of that is used."""

    of: Name | None = None
    format: Annotated[str, AfterValidator(_checked_format)]
    classes: Classes = "semantickitti"
    simulate_drive: SimulateDrive | None = None
    cameras: dict[Camera, str] = Field(min_length=1)
    missing_images: StrictBool = False
    missing_labels: StrictBool = False
    train: list[Sequence] = Field(min_length=1)
    val: list[Sequence] = Field(min_length=1)
    test: list[Sequence] = Field(default=[])
    labelled: Fraction | dict[Sequence, list[Frame]] = 1.0
    select_labels: SelectLabels = SelectLabels()
    label_images: LabelImages

    @model_validator(mode="after")
    def _splits_are_disjoint(self) -> Self:
        if shared := sorted(set(self.train) & set(self.val)):
            raise ValueError(f"sequences {shared} are in both train and val; a score on them would mean nothing")
        if shared := sorted(set(self.test) & {*self.train, *self.val}):
            raise ValueError(f"sequences {shared} are in test and in train or val; test holds unlabelled ones")
        for split in (self.train, self.val, self.test):
            if len(split) > len(set(split)):
                raise ValueError(f"a sequence stands twice in {split}")
        if isinstance(self.labelled, dict) and (strange := sorted(set(self.labelled) - set(self.train))):
            raise ValueError(f"labelled names sequences {strange}, which are not in train")
        return self

    @property
    def class_table(self) -> ClassTable:
        """The table that `classes` names."""
        return class_table(self.classes)

    VARIANT: ClassVar[set[str]] = {"of", "train", "val", "test", "labelled", "select_labels", "label_images"}
    """Keys in which a data set that is `of` another may differ from it: its files and projections are the same."""
