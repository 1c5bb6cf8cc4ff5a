"""Image teachers: encoder, adapters, tuning, and what of them is cached."""

from typing import Literal

from pydantic import Field, model_validator

from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Name, Natural, NonNegative, Positive, Sha256

STAGES = 4
"""Stages of every encoder that are distilled, one per scale of ELiTe's student."""


class EncoderSettings(Section):
    """Which encoder sees images of which size: what every stage that runs the teacher reads."""

    encoder: Literal["vit_b", "vit_l", "vit_h", "sam_tiny", "resnet50"]
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
        if self.encoder.startswith("vit") and self.longest_side > 1024:
            raise ValueError(f"longest_side {self.longest_side} is beyond the 1024 pixels that SAM has positions for")
        return self


class Sam(EncoderSettings):
    """The SAM that a labeller prompts."""

    encoder: Literal["vit_b", "vit_l", "vit_h", "sam_tiny"]  # pyright: ignore[reportIncompatibleVariableOverride]


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
    """How a teacher is tuned; with 0 steps, its features are only standardised, for which no label is needed."""

    steps: Natural
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


class TeacherToTune(EncoderSettings):
    """What `tune_teacher` reads."""

    upscaler: Count
    peft: Peft
    tune_teacher: TuneTeacher

    @model_validator(mode="after")
    def _adapters_are_tuned(self):
        if self.tune_teacher.steps == 0 and self.peft.method != "none":
            raise ValueError("tune_teacher.steps is 0, so peft.method must be none")
        if self.encoder == "resnet50" and self.peft.method != "none":
            raise ValueError("adapters go onto SAM's encoders only: with resnet50, peft.method must be none")
        return self


class TeacherToCache(EncoderSettings):
    """What `cache_teacher` reads."""

    cache_teacher: CacheTeacher


class TeacherSettings(TeacherToTune, TeacherToCache):
    """An image encoder, its adapters and what it hands on."""

    images: Name | None = None

    @model_validator(mode="after")
    def _soft_labels_are_learnt(self):
        if self.tune_teacher.steps == 0 and "logits" in self.cache_teacher.targets:
            raise ValueError(
                "tune_teacher.steps is 0, which teaches no classes: cache_teacher.targets must be [features]"
            )
        if self.tune_teacher.steps == 0 and self.images is not None:
            raise ValueError("tune_teacher.steps is 0, but classes are to be learnt from images: give it steps")
        return self

    @property
    def stages(self):
        """Number of stages that it teaches: four of an encoder, or the one of an image segmentation network."""
        return STAGES if self.images is None else 1
