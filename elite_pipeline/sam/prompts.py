"""Masks for clicks, from SAM's prompt encoder and mask decoder, on rectangular images."""

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
    """The encoder's output for one padded view of h x w pixels."""

    image: torch.Tensor
    """(1, C, h / patch, w / patch): input of the mask decoder."""
    regions: torch.Tensor | None = None
    """(E, 4 h / patch, 4 w / patch): unit vectors, similar for pixels of the same region.

    Only `sam_tiny` has them."""

    @property
    def mask_size(self) -> tuple[int, ...]:
        """(rows, columns) of masks and mask prompts: four rows and columns per patch, as in SAM."""
        return tuple(4 * n for n in self.image.shape[2:])


class PromptableSam(Sam):
    """`Sam` for views of any size. Views are padded to whole patches, not to a square."""

    image_encoder: VisionTransformer

    @property
    def patch(self) -> int:
        """Side of the encoder's patches in pixels."""
        return int(self.image_encoder.patch)

    @torch.no_grad()
    def embed(self, view: torch.Tensor) -> Embedding:
        """Return the `Embedding` of one prepared `view` (3, h, w).

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
        """Return SAM's three masks for each of N prompts.

        `clicks`: (N, 2) or (N, P, 2) float32, (u right, v down), in pixels of the view; pixel k covers [k, k + 1).
        `inside`: (N, P) int64; 1 = the click is on the object, 0 = it is not, -1 = no click. None means that all clicks
        are on the object. `mask_prompts`: (N, 1, *embedding.mask_size) float32 logits, > 0 inside the object, or None.

        Returns mask logits (N, 3, *embedding.mask_size), > 0 inside, and the predicted IoU (N, 3) of each mask. Raises
        `InputError` where the view is larger than the image size of SAM's prompt encoder.
        """
        return self.decode(embedding, *batched(clicks, inside), mask_prompts)

    def decode(
        self, embedding: Embedding, clicks: torch.Tensor, inside: torch.Tensor, mask_prompts: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `masks`, but with gradients and only for `clicks` (N, P, 2). Raises `InputError` where `masks` does."""
        rows, columns = embedding.image.shape[2:]
        if max(rows, columns) > self.prompt_encoder.image_embedding_size[0]:
            limit = self.prompt_encoder.input_image_size[0]
            raise InputError(
                f"the view is larger than the {limit} pixels that SAM's prompts support. Set longest_side to {limit}."
            )
        # The prompt encoder expects whole pixel indices and adds half a pixel itself.
        sparse, dense = self.prompt_encoder((clicks - 0.5, inside), None, mask_prompts)
        return self.mask_decoder(
            image_embeddings=embedding.image,
            # Both cover SAM's padded square. The view is its top left corner.
            image_pe=self.prompt_encoder.get_dense_pe()[..., :rows, :columns],
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense[..., :rows, :columns],
            multimask_output=True,
        )


def batched(clicks: torch.Tensor, inside: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `clicks` and `inside` of `PromptableSam.masks` in the shapes (N, P, 2) and (N, P)."""
    if clicks.ndim == 2:
        clicks = clicks[:, None]
    if inside is None:
        inside = torch.ones(clicks.shape[:2], dtype=torch.int64, device=clicks.device)
    return clicks, inside


def upsampled(logits: torch.Tensor, view: "View", image_size: tuple[int, ...]) -> torch.Tensor:
    """Resize mask logits (N, M, rows, columns) of a padded `View` to the original image, (N, M, *image_size).

    It does the same as SAM's `postprocess_masks`.
    """
    rows, columns = view.size(*image_size)
    logits = F.interpolate(logits, view.padded(*image_size), mode="bilinear", align_corners=False)
    return F.interpolate(logits[..., :rows, :columns], image_size, mode="bilinear", align_corners=False)
