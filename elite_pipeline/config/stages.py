"""Stages that belong to no data set, teacher or student."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from elite_pipeline.config.data import PaperLabeller, RegionsLabeller
from elite_pipeline.config.teacher import Sam
from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Finite, Natural, NonNegative, Positive


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

    sam: Sam
    paper: PaperLabeller
    regions: RegionsLabeller


class SegmentImages(Section):
    """Superpixels (SLIC)."""

    segments: Annotated[int, Field(ge=1, lt=1 << 15, strict=True)]  # numbered in 16 bits, and SLIC may make more
    compactness: Positive
    sigma: NonNegative


class PlotEmbedding(Section):
    """How many points are embedded, and how."""

    points: Annotated[int, Field(ge=100, strict=True)]
    perplexity: Positive
    seed: Natural


class EvaluateMiou(Section):
    """Test-time augmentation of results/<experiment>_miou_tta.json."""

    votes: Count
