"""Image teachers: encoder, adapters, tuning, and what of them is cached."""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from elite_pipeline.choices import ENCODERS, STAGES
from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Name, Natural, NonNegative, Positive, Sha256


def _known(encoder: str) -> str:
    """`encoder`. Raises `ValueError` where `choices.ENCODERS` does not list it."""
    if encoder not in ENCODERS:
        raise ValueError(f"this encoder is not known; those are {', '.join(ENCODERS)}")
    return encoder


def _promptable(encoder: str) -> str:
    """`encoder`. Raises `ValueError` where it is no SAM."""
    known = [name for name, about in ENCODERS.items() if about.promptable]
    if encoder not in known:
        raise ValueError(f"a labeller prompts a SAM; those are {', '.join(map(repr, known))}")
    return encoder


class EncoderSettings(Section):
    """Which encoder sees images of which size: what every stage that runs the teacher reads."""

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
                f"encoder {self.encoder} needs checkpoint and sha256; only {packaged} ships with the package"
            )
        if about.longest_side is not None and self.longest_side > about.longest_side:
            raise ValueError(
                f"longest_side {self.longest_side} is beyond the {about.longest_side} pixels that {self.encoder} has"
                " positions for"
            )
        return self


class Sam(EncoderSettings):
    """The SAM that a labeller prompts."""

    encoder: Annotated[str, AfterValidator(_promptable)]


class Peft(Section):
    """Adapters of the image encoder. A method states the keys that it reads, and no others."""

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
            raise ValueError(f"method {self.method} does not read {', '.join(idle)}: leave them out")
        if self.initial_rank is not None and self.rank is not None and self.initial_rank < self.rank:
            raise ValueError(f"initial_rank {self.initial_rank} is below rank {self.rank}; AdaLoRA only prunes")
        return self


class Steps(NamedTuple):
    """What the optimiser's steps read."""

    batch: int
    learning_rate: float
    weight_decay: float
    warmup: int
    lovasz: float


class TuneTeacher(Section):
    """How a teacher is tuned; with 0 steps, its features are only standardised, for which no label is needed."""

    steps: Natural
    batch: Count | None = None
    learning_rate: Positive | None = None
    weight_decay: NonNegative | None = None
    warmup: Natural | None = None
    lovasz: NonNegative | None = None
    seed: Natural = 0

    @model_validator(mode="after")
    def _steps_have_their_keys(self) -> Self:
        if self.steps and (missing := [key for key in Steps._fields if getattr(self, key) is None]):
            raise ValueError(f"{self.steps} steps need {', '.join(missing)}")
        return self

    @property
    def of_steps(self) -> Steps:
        """What the steps read; all is there where there are steps."""
        return Steps(*(getattr(self, key) for key in Steps._fields))


class CacheTeacher(Section):
    """What of a teacher is cached."""

    targets: list[Literal["logits", "features"]] = Field(min_length=1)
    batch: Count


class TeacherToTune(EncoderSettings):
    """What `tune_teacher` reads. upscaler: None where no head reads features, with 0 steps."""

    upscaler: Count | None = None
    peft: Peft = Peft(method="none")
    tune_teacher: TuneTeacher

    @model_validator(mode="after")
    def _states_what_is_tuned(self) -> Self:
        tuning = self.tune_teacher
        if not ENCODERS[self.encoder].adaptable and self.peft.method != "none":
            raise ValueError(f"no adapters go onto {self.encoder}: peft.method must be none")
        if tuning.steps and self.upscaler is None:
            raise ValueError(f"tune_teacher.steps is {tuning.steps}, so upscaler is needed: channels that heads read")
        if not tuning.steps and self.peft.method != "none":
            raise ValueError("tune_teacher.steps is 0, so peft.method must be none")
        if not tuning.steps:
            idle = [f"tune_teacher.{key}" for key in Steps._fields if getattr(tuning, key) is not None]
            if idle := [*idle, *(["upscaler"] if self.upscaler is not None else [])]:
                raise ValueError(f"tune_teacher.steps is 0, so nothing reads {', '.join(idle)}: leave them out")
        return self


class TeacherToCache(EncoderSettings):
    """What `cache_teacher` reads."""

    cache_teacher: CacheTeacher


class TeacherSettings(TeacherToTune, TeacherToCache):
    """An image encoder, its adapters and what it hands on."""

    images: Name | None = None

    @model_validator(mode="after")
    def _soft_labels_are_learnt(self) -> Self:
        if self.tune_teacher.steps == 0 and "logits" in self.cache_teacher.targets:
            raise ValueError(
                "tune_teacher.steps is 0, which teaches no classes: cache_teacher.targets must be [features]"
            )
        if self.tune_teacher.steps == 0 and self.images is not None:
            raise ValueError("tune_teacher.steps is 0, but classes are to be learnt from images: give it steps")
        return self

    @property
    def stages(self) -> int:
        """Number of stages that it teaches: four of an encoder, or the one of an image segmentation network."""
        return STAGES if self.images is None else 1

    @property
    def needs_labels(self) -> bool:
        """Whether it learns from labels of the drives, made dense by a labeller."""
        return self.images is None and self.tune_teacher.steps > 0
