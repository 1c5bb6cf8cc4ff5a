"""Settings of the stages that carry soft labels and labels to other scans of a place."""

from typing import Literal

from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Natural, NonNegative, Positive


class AggregatedThings(Section):
    """Things may move: their voxels, the frames that count, and how many frames must otherwise have seen them."""

    voxel_size: Positive
    frames: Natural
    seen: Count


class FarVoxels(Section):
    """Voxels of points far from the sensor, where points are sparse."""

    beyond: Positive
    voxel_size: Positive


class AggregateTargets(Section):
    """Which frames see a place, and how their soft labels are averaged."""

    distance: Positive
    frames: Count
    voxel_size: Positive
    views: Count
    mean: Literal["logarithms", "probabilities"]
    confidence: NonNegative
    fade: Positive | None
    far: FarVoxels | None = None
    things: AggregatedThings


class SequenceToAggregate(Section):
    """Settings of `aggregate_targets`."""

    aggregate_targets: AggregateTargets


class CarriedThings(Section):
    """Things may move: the size of their voxels, and the scans that count."""

    voxel_size: Positive
    frames: Natural


class CarryLabels(Section):
    """Which labelled scans see a place."""

    distance: Positive
    frames: Count
    voxel_size: Positive
    things: CarriedThings


class SequenceToCarry(Section):
    """Settings of `carry_labels`."""

    carry_labels: CarryLabels
