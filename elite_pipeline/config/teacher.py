"""Settings of image teachers: encoder, adapters, tuning and cached targets."""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from elite_pipeline.choices import ENCODERS, STAGES
from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Finite, Name, Natural, NonNegative, Positive, Sha256


def _known(encoder: str) -> str:
    """Returns `encoder`. Raises `ValueError` where it is not in `choices.ENCODERS`."""
    if encoder not in ENCODERS:
        raise ValueError(f"unknown encoder; choose one of {', '.join(ENCODERS)}")
    return encoder


def _promptable(encoder: str) -> str:
    """Returns `encoder`. Raises `ValueError` where it is not a SAM."""
    known = [name for name, about in ENCODERS.items() if about.promptable]
    if encoder not in known:
        raise ValueError(f"a labeller needs a SAM; choose one of {', '.join(map(repr, known))}")
    return encoder


class EncoderSettings(Section):
    """The encoder and its image size. Every stage that runs the teacher reads them."""

    encoder: Annotated[str, AfterValidator(_known)]
    checkpoint: str | None = None
    sha256: Sha256 | None = None
    longest_side: Count
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    @model_validator(mode="after")
    def _fits_the_encoder(self) -> Self:
        about = ENCODERS[self.encoder]
        if about.url is not None and (self.checkpoint is None or self.sha256 is None):
            packaged = ", ".join(name for name, encoder in ENCODERS.items() if encoder.url is None)
            raise ValueError(
                f"encoder {self.encoder} needs checkpoint and sha256. Only the weights of {packaged} are in the package"
            )
        if about.longest_side is not None and self.longest_side > about.longest_side:
            raise ValueError(
                f"longest_side {self.longest_side} is above {about.longest_side} pixels, the maximum of"
                f" {self.encoder}'s position embeddings. Lower it"
            )
        return self


class Sam(EncoderSettings):
    """The SAM that a labeller prompts."""

    encoder: Annotated[str, AfterValidator(_promptable)]


class Peft(Section):
    """Adapters of the image encoder. A method needs the keys that it reads and allows no others."""

    method: Literal["none", "lora", "adalora"]
    rank: Count | None = None
    alpha: Positive | None = None
    targets: list[Literal["qkv", "proj", "lin1", "lin2"]] | None = Field(default=None, min_length=1)
    initial_rank: Count | None = None
    orthogonality: NonNegative | None = None

    READS: ClassVar[dict[str, set[str]]] = {
        "none": set(),
        "lora": {"rank", "alpha", "targets"},
        "adalora": {"rank", "alpha", "targets", "initial_rank", "orthogonality"},
    }
    """Method -> the keys that it reads."""
    KEYS: ClassVar[set[str]] = READS["adalora"]

    @model_validator(mode="after")
    def _method_has_its_keys(self) -> Self:
        stated = {key for key in self.KEYS if getattr(self, key) is not None}
        if missing := sorted(self.READS[self.method] - stated):
            published = " (the paper's code: initial_rank 12, orthogonality 0.1)" if self.method == "adalora" else ""
            raise ValueError(f"method {self.method} needs {', '.join(missing)}{published}")
        if idle := sorted(stated - self.READS[self.method]):
            raise ValueError(f"method {self.method} does not use {', '.join(idle)}. Remove them")
        if self.initial_rank is not None and self.rank is not None and self.initial_rank < self.rank:
            raise ValueError(f"initial_rank {self.initial_rank} is below rank {self.rank}, but AdaLoRA only prunes")
        return self


class Steps(NamedTuple):
    """Settings that the optimiser's steps need."""

    batch: int
    learning_rate: float
    weight_decay: float
    warmup: int
    lovasz: float


class TuneTeacher(Section):
    """How a teacher is tuned. With 0 steps its features are only standardised, which needs no labels."""

    steps: Natural
    batch: Count | None = None
    learning_rate: Positive | None = None
    weight_decay: NonNegative | None = None
    warmup: Natural | None = None
    lovasz: NonNegative | None = None
    seed: Natural = 0
    held_out: Annotated[Finite, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _steps_have_their_keys(self) -> Self:
        if self.steps and (missing := [key for key in Steps._fields if getattr(self, key) is None]):
            raise ValueError(f"{self.steps} steps need {', '.join(missing)}")
        if not self.steps and self.held_out:
            raise ValueError("steps is 0, so held_out would be unused: no scan is learnt from. Remove it")
        return self

    @property
    def of_steps(self) -> Steps:
        """The settings of the steps. They are complete if `steps` is above 0."""
        return Steps(*(getattr(self, key) for key in Steps._fields))


class CacheTeacher(Section):
    """The targets of a teacher that are cached, and the passes that the soft labels are the mean of."""

    targets: list[Literal["logits", "features"]] = Field(min_length=1)
    batch: Count
    views: list[Literal["plain", "mirrored", "scaled"]] = Field(default=["plain"])

    @model_validator(mode="after")
    def _views_are_used(self) -> Self:
        if "plain" not in self.views:
            raise ValueError(
                f"views is {self.views}, without plain: the pass that the teacher was tuned on, and the only one that"
                " gives features. Add plain"
            )
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views {self.views} names a pass twice. Remove one of the two")
        if len(self.views) > 1 and "logits" not in self.targets:
            raise ValueError(
                f"views is {self.views}, but only logits are a mean over passes, and targets is {self.targets}. Write"
                " views: [plain]"
            )
        return self


class TeacherToTune(EncoderSettings):
    """Settings of `tune_teacher`. upscaler: None with 0 steps, where no head reads features."""

    upscaler: Count | None = None
    peft: Peft = Peft(method="none")
    tune_teacher: TuneTeacher

    @model_validator(mode="after")
    def _states_what_is_tuned(self) -> Self:
        tuning = self.tune_teacher
        if not ENCODERS[self.encoder].adaptable and self.peft.method != "none":
            raise ValueError(f"encoder {self.encoder} takes no adapters: peft.method must be none")
        if tuning.steps and self.upscaler is None:
            raise ValueError(
                f"tune_teacher.steps is {tuning.steps}, so upscaler is needed: the channels that the heads read"
            )
        if not tuning.steps and self.peft.method != "none":
            raise ValueError("tune_teacher.steps is 0, so peft.method must be none")
        if not tuning.steps:
            idle = [f"tune_teacher.{key}" for key in Steps._fields if getattr(tuning, key) is not None]
            if idle := [*idle, *(["upscaler"] if self.upscaler is not None else [])]:
                raise ValueError(f"tune_teacher.steps is 0, so {', '.join(idle)} would be unused. Remove them")
        return self


class TeacherToCache(EncoderSettings):
    """Settings of `cache_teacher`."""

    cache_teacher: CacheTeacher

    ENLARGED: ClassVar[float] = 1.25
    """Factor of the image size in the view `scaled`."""

    @model_validator(mode="after")
    def _views_fit_the_encoder(self) -> Self:
        limit, side = ENCODERS[self.encoder].longest_side, round(self.ENLARGED * self.longest_side)
        if "scaled" in self.cache_teacher.views and limit is not None and side > limit:
            raise ValueError(
                f"cache_teacher.views has scaled, which enlarges images to {side} pixels, but {limit} is the maximum of"
                f" {self.encoder}'s position embeddings. Remove scaled, or lower longest_side to"
                f" {int(limit / self.ENLARGED)}"
            )
        return self


class TeacherSettings(TeacherToTune, TeacherToCache):
    """An image teacher: its encoder, adapters, tuning, training images and cached targets."""

    images: Name | None = None

    @model_validator(mode="after")
    def _soft_labels_are_learnt(self) -> Self:
        if self.tune_teacher.steps == 0 and "logits" in self.cache_teacher.targets:
            raise ValueError(
                "tune_teacher.steps is 0, so the teacher learns no classes: cache_teacher.targets must be [features]"
            )
        if self.tune_teacher.steps == 0 and self.images is not None:
            raise ValueError("tune_teacher.steps is 0, but learning classes from images needs steps. Set it above 0")
        if self.images is not None and self.tune_teacher.held_out:
            raise ValueError(
                "tune_teacher.held_out would be unused: a teacher with images is tuned on no scan, so every scan is"
                " held out. Remove it"
            )
        return self

    @property
    def stages(self) -> int:
        """Number of stages with targets: four for an encoder, one for an image segmentation network."""
        return STAGES if self.images is None else 1

    @property
    def needs_labels(self) -> bool:
        """Whether the teacher learns from pseudo-labels, which a labeller makes from labels of the drives."""
        return self.images is None and self.tune_teacher.steps > 0
