"""Masks for clicks: SAM's prompt encoder and mask decoder on rectangular images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from segment_anything.modeling import Sam
from torch.nn import functional as F

from elite_pipeline.errors import InputError
from elite_pipeline.sam.vit import VisionTransformer

if TYPE_CHECKING:
    from elite_pipeline.sam.view import View


@dataclass(frozen=True)
class Embedding:
    """What the encoder made of one padded view of h x w pixels."""

    image: torch.Tensor
    """(1, C, h / patch, w / patch), input of the mask decoder."""
    regions: torch.Tensor | None = None
    """(E, 4 h / patch, 4 w / patch) unit vectors that agree inside a region; only `sam_tiny` has them."""

    @property
    def mask_size(self) -> tuple[int, ...]:
        """(rows, columns) of masks and mask prompts: four to a patch, as in SAM."""
        return tuple(4 * n for n in self.image.shape[2:])


class PromptableSam(Sam):
    """`Sam` that answers clicks on views of any size, padded to whole patches instead of to a square."""

    image_encoder: VisionTransformer

    @property
    def patch(self) -> int:
        """Pixels per side of a patch of the encoder."""
        return int(self.image_encoder.patch)

    @torch.no_grad()
    def embed(self, view: torch.Tensor) -> Embedding:
        """The `Embedding` of one prepared `view` (3, h, w).

        Raises `InputError` where the view is larger than the encoder's table of positions.
        """
        return Embedding(self.image_encoder(view[None]))

    @torch.no_grad()
    def masks(
        self,
        embedding: Embedding,
        clicks: torch.Tensor,
        inside: torch.Tensor | None = None,
        mask_prompts: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The three masks that SAM offers for each of N prompts.

        `clicks`: (N, 2) or (N, P, 2) float32, (u right, v down), pixels of the view, of which pixel k covers
        [k, k + 1). `inside`: (N, P) int64, 1 = the click is on the object, 0 = it is not, -1 = no click; None = all
        are. `mask_prompts`: (N, 1, *embedding.mask_size) float32 logits, > 0 inside, or None.
        Returns mask logits (N, 3, *embedding.mask_size), > 0 inside, and the predicted IoU (N, 3) of each. Raises
        `InputError` where the view is larger than SAM's prompts reach.
        """
        return self.decode(embedding, *batched(clicks, inside), mask_prompts)

    def decode(
        self, embedding: Embedding, clicks: torch.Tensor, inside: torch.Tensor, mask_prompts: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`masks` with gradients, of `clicks` (N, P, 2). Raises `InputError` where `masks` does."""
        rows, columns = embedding.image.shape[2:]
        if max(rows, columns) > self.prompt_encoder.image_embedding_size[0]:
            limit = self.prompt_encoder.input_image_size[0]
            raise InputError(
                f"the view is larger than the {limit} pixels of SAM's prompts; set longest_side to {limit}"
            )
        # The prompt encoder adds half a pixel to whole pixel indices.
        sparse, dense = self.prompt_encoder((clicks - 0.5, inside), None, mask_prompts)
        return self.mask_decoder(
            image_embeddings=embedding.image,
            # Both are made for SAM's padded square, whose top left corner is the view.
            image_pe=self.prompt_encoder.get_dense_pe()[..., :rows, :columns],
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense[..., :rows, :columns],
            multimask_output=True,
        )


def batched(clicks: torch.Tensor, inside: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """`clicks` and `inside` of `PromptableSam.masks` as (N, P, 2) and (N, P)."""
    if clicks.ndim == 2:
        clicks = clicks[:, None]
    if inside is None:
        inside = torch.ones(clicks.shape[:2], dtype=torch.int64, device=clicks.device)
    return clicks, inside


def upsampled(logits: torch.Tensor, view: "View", image_size: tuple[int, ...]) -> torch.Tensor:
    """Mask logits (N, M, rows, columns) of a padded `View` -> (N, M, *image_size); SAM's `postprocess_masks`."""
    rows, columns = view.size(*image_size)
    logits = F.interpolate(logits, view.padded(*image_size), mode="bilinear", align_corners=False)
    return F.interpolate(logits[..., :rows, :columns], image_size, mode="bilinear", align_corners=False)
