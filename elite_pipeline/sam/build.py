"""Build SAM from `segment_anything`'s modules and load its weights from verified checkpoints."""

from dataclasses import dataclass
from pathlib import Path

from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

from elite_pipeline.checkpoints import PACKAGED, verified
from elite_pipeline.sam.prompts import PromptableSam
from elite_pipeline.sam.state import load_state, read_state
from elite_pipeline.sam.tiny import TinySam
from elite_pipeline.sam.view import PIXEL_MEAN, PIXEL_STD
from elite_pipeline.sam.vit import VisionTransformer


@dataclass(frozen=True)
class Architecture:
    """The numbers that distinguish the published SAM variants."""

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    image_size: int = 1024
    patch: int = 16
    window: int = 14
    prompt: int = 256


ARCHITECTURES = {
    "vit_b": Architecture(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": Architecture(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": Architecture(1280, 32, 16, (7, 15, 23, 31)),
}


def build_image_encoder(
    encoder: str, checkpoint: str | Path | None = None, sha256: str | None = None
) -> VisionTransformer:
    """Return the image encoder of `build_sam`, for `teacher.encoders`. Raises `InputError` where `build_sam` does."""
    return build_sam(encoder, checkpoint, sha256).image_encoder


def build_sam(encoder: str, checkpoint: str | Path | None = None, sha256: str | None = None) -> PromptableSam:
    """Return SAM in eval mode with the weights of `checkpoint`. Keys and shapes of the file must match exactly.

    `encoder`: `vit_b`, `vit_l` or `vit_h`, with the file that Meta published; or `sam_tiny`, whose weights are part of
    the package (`checkpoint` None). `sha256`: of the file, checked unless None.

    Raises `InputError` where the checkpoint is missing, has another sha256, or belongs to another encoder.
    """
    sam = untrained_sam(encoder)
    path = verified(encoder, PACKAGED if encoder == "sam_tiny" and checkpoint is None else checkpoint, sha256)
    load_state(sam, read_state(path), path, encoder)
    return sam.eval()


def untrained_sam(encoder: str) -> PromptableSam:
    """Return SAM with random weights.

    `build_sam` loads weights into it. It also serves as a control in measurements.
    """
    if encoder == "sam_tiny":
        return TinySam()
    a = ARCHITECTURES[encoder]
    side = a.image_size // a.patch
    return PromptableSam(
        image_encoder=VisionTransformer(
            dim=a.dim,
            depth=a.depth,
            heads=a.heads,
            stage_blocks=a.global_blocks,
            image_size=a.image_size,
            patch=a.patch,
            window=a.window,
            neck=a.prompt,
            relative_positions=True,
        ),
        prompt_encoder=PromptEncoder(a.prompt, (side, side), (a.image_size, a.image_size), mask_in_chans=16),
        mask_decoder=MaskDecoder(
            transformer_dim=a.prompt,
            transformer=TwoWayTransformer(depth=2, embedding_dim=a.prompt, num_heads=8, mlp_dim=8 * a.prompt),
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )
