"""Settings of stages that belong to no data set, teacher or student."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from elite_pipeline.config.data import PaperLabeller, RegionsLabeller
from elite_pipeline.config.teacher import Sam
from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Finite, Fraction, Natural, NonNegative, Positive


class PretrainSam(Section):
    """How the weights of the packaged `sam_tiny` are made."""

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
    """How many scans are timed, and at which precision."""

    warmup: Natural
    scans: Count
    precision: Literal["32-true", "16-true", "bf16-mixed"]


class EvaluatePseudoLabels(Section):
    """How many frames the labellers are compared on, and the held-out points if there is no dense ground truth."""

    frames: Count
    held_out: Annotated[Finite, Field(gt=0, lt=1)]
    seed: Natural


class LabellersToEvaluate(EvaluatePseudoLabels):
    """Settings of `evaluate_pseudo_labels`: those above, and all labellers of a data set, chosen or not."""

    sam: Sam
    paper: PaperLabeller
    regions: RegionsLabeller


class EstimatePoses(Section):
    """Odometry (kiss-icp) for drives without poses: the voxels of its map, and its farthest points, in metres."""

    voxel_size: Positive = 1.0
    max_range: Positive = 100.0


class SegmentImages(Section):
    """Superpixels (SLIC)."""

    segments: Annotated[int, Field(ge=1, lt=1 << 15, strict=True)]  # numbers have 16 bits; SLIC may make more segments
    compactness: Positive
    sigma: NonNegative


class PlotEmbedding(Section):
    """The number of embedded points, and the settings of t-SNE."""

    points: Annotated[int, Field(ge=100, strict=True)]
    perplexity: Positive
    seed: Natural


class EvaluateMiou(Section):
    """Test-time augmentation, for results/<experiment>_miou_tta.json."""

    votes: Count


class TargetsToCalibrate(Section):
    """Settings of `calibrate_targets`.

    tuned: whether the teacher was tuned on these drives. held_out: the share of them that it was not tuned on.
    """

    tuned: StrictBool
    held_out: Fraction
