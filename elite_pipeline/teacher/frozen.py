"""A frozen image encoder as a teacher (UDAKD). It predicts no classes, and its features need no labels."""

from collections.abc import Mapping
from typing import Any

from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import EncoderStages, Standardised

MODEL_CARD = """\
---
tags: [image-feature-extraction, lidar]
---
# Frozen image encoder: {encoder}

This image encoder is the teacher when a LiDAR network is pre-trained to match its features. `elite_pipeline` saved it
with rule `tune_teacher` and 0 steps. Nothing was learnt, and the encoder predicts no classes. The features of its
{stages} stages were standardised per channel over {standardised} of the {images} training images, labelled or not. No
label was read.

- Input: RGB images scaled to {side} pixels on the longest side
- Weights: {weights}

Files: `heads.safetensors` (mean and standard deviation of each channel of each stage), `teacher.json` (settings,
versions, digests of the inputs).
"""


class FrozenEncoder(EncoderStages):
    """An image encoder whose stage maps are standardised; used like a `StageTeacher`, but without logits."""

    FEATURES = "features standardised per channel over the training images, labelled and unlabelled"

    def __init__(self, encoder: StageEncoder) -> None:
        super().__init__(encoder, map(Standardised, encoder.channels))


def model_card(description: Mapping[str, Any]) -> str:
    """Text of the `README.md` in the folder of a frozen encoder.

    description: the content of its `teacher.json`.
    """
    chosen = description["settings"]
    return MODEL_CARD.format(
        encoder=chosen["encoder"],
        stages=description["stages"],
        images=description["images"],
        standardised=description["standardised_over"],
        side=chosen["longest_side"],
        weights=f"`{file}` (sha256 {chosen['sha256']})" if (file := chosen["checkpoint"]) else "part of elite_pipeline",
    )
