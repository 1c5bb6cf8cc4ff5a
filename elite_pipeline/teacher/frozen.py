"""An image encoder as a teacher that learnt nothing: it names no class, and its features need no label (UDAKD)."""

from torch import nn

from elite_pipeline.teacher.heads import Standardised, calibrate

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


class FrozenEncoder(nn.Module):
    """Image encoder whose stages are standardised and handed on; used as a `heads.Teacher` without logits."""

    FEATURES = "features standardised per channel over the training images, labelled or not"

    def __init__(self, encoder):
        """`encoder`: a `sam.StageEncoder`."""
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(Standardised(channels) for channels in encoder.channels)

    @property
    def stage_heads(self) -> list[Standardised]:
        """`heads`, typed."""
        return [head for head in self.heads if isinstance(head, Standardised)]

    def feature_maps(self, stages):
        """Stage maps of `encoder` -> [(map, stride)] that are cached: S of (B, D_s, h / stride, w / stride) float32."""
        maps = [head.standardise(stage.float()) for head, stage in zip(self.stage_heads, stages, strict=True)]
        return list(zip(maps, self.encoder.strides, strict=True))

    @property
    def feature_channels(self):
        """Channels D_s of each of `feature_maps`."""
        return tuple(self.encoder.channels)

    def calibrate(self, batches):
        """Set every stage's mean and deviation from `batches` of prepared images, each (B, 3, h, w)."""
        calibrate(self.encoder, self.stage_heads, batches)


def model_card(description):
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
