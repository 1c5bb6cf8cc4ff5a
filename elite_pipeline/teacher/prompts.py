"""Masks for clicks: SAM's prompt encoder and mask decoder on rectangular images."""

from dataclasses import dataclass

import torch
from segment_anything.modeling import Sam

from elite_pipeline.errors import InputError


@dataclass(frozen=True)
class Embedding:
    """What the encoder made of one padded view of h x w pixels."""

    image: torch.Tensor
    """(1, C, h / patch, w / patch), input of the mask decoder."""
    regions: torch.Tensor | None = None
    """(E, 4 h / patch, 4 w / patch) unit vectors that agree inside a region; only `sam_tiny` has them."""

    @property
    def mask_size(self):
        """(rows, columns) of masks and mask prompts: four to a patch, as in SAM."""
        return tuple(4 * n for n in self.image.shape[2:])


class PromptableSam(Sam):
    """`Sam` that answers clicks on views of any size, padded to whole patches instead of to a square."""

    @torch.no_grad()
    def embed(self, view):
        """`Embedding` of one prepared `view` (3, h, w)."""
        return Embedding(self.image_encoder(view[None]))

    @torch.no_grad()
    def masks(self, embedding, clicks, mask_prompts=None):
        """The three masks that SAM offers for each click.

        `clicks`: (N, 2) float32, (u right, v down), pixels of the view, of which pixel k covers [k, k + 1).
        `mask_prompts`: (N, 1, *embedding.mask_size) float32 logits, > 0 inside, or None.
        Returns mask logits (N, 3, *embedding.mask_size), > 0 inside, and the predicted IoU (N, 3) of each.
        """
        return self.decode(embedding, clicks, mask_prompts)

    def decode(self, embedding, clicks, mask_prompts):
        """`masks` with gradients."""
        rows, columns = embedding.image.shape[2:]
        if max(rows, columns) > self.prompt_encoder.image_embedding_size[0]:
            limit = self.prompt_encoder.input_image_size[0]
            raise InputError(
                f"the view is larger than the {limit} pixels of SAM's prompts; set longest_side to {limit}"
            )
        labels = torch.ones(len(clicks), 1, device=clicks.device)
        # The prompt encoder adds half a pixel to whole pixel indices.
        sparse, dense = self.prompt_encoder((clicks[:, None] - 0.5, labels), None, mask_prompts)
        return self.mask_decoder(
            image_embeddings=embedding.image,
            # Both are made for SAM's padded square, whose top left corner is the view.
            image_pe=self.prompt_encoder.get_dense_pe()[..., :rows, :columns],
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense[..., :rows, :columns],
            multimask_output=True,
        )
