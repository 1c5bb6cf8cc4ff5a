"""An image encoder as a teacher that learnt nothing: it names no class, and its features need no label (UDAKD)."""

from collections.abc import Mapping
from typing import Any

from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import EncoderStages, Standardised

MODEL_CARD = """\
---
tags: [image-feature-extraction, lidar]
---
# Frozen image encoder: {encoder}

An image encoder whose features a LiDAR network is pre-trained to have, noted down by `elite_pipeline` (rule
`tune_teacher` with 0 steps). Nothing was learnt, so it names no classes: the features of its {stages} stages were
standardised per channel over {standardised} of the {images} training images, labelled or not, and no label was read.

- Input: RGB images scaled to {side} pixels on the longest side
- Weights: {weights}

Files: `heads.safetensors` (mean and deviation of each stage's channels), `teacher.json` (settings, versions, digests of
inputs).
"""


class FrozenEncoder(EncoderStages):
    """Image encoder whose stages are standardised and handed on; used as a `StageTeacher` without logits."""

    FEATURES = "features standardised per channel over the training images, labelled or not"

    def __init__(self, encoder: StageEncoder) -> None:
        super().__init__(encoder, map(Standardised, encoder.channels))


def model_card(description: Mapping[str, Any]) -> str:
    """`README.md` of a folder of a frozen encoder; description: its `teacher.json`."""
    chosen = description["settings"]
    return MODEL_CARD.format(
        encoder=chosen["encoder"],
        stages=description["stages"],
        images=description["images"],
        standardised=description["standardised_over"],
        side=chosen["longest_side"],
        weights=f"`{file}` (sha256 {chosen['sha256']})" if (file := chosen["checkpoint"]) else "those of the package",
    )
