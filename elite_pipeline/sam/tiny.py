"""`sam_tiny`: SAM with a small image encoder that learns in minutes on a CPU, for demos and tests.

A plain ViT needs far more images than a demo has. Here, a small convolutional pyramid replaces the patch embedding. The
encoder returns the pyramid's finer maps together with the tokens.

A mask is found by comparing each pixel's embedding with that of the click. SAM's mask decoder predicts how good the
mask is. The decoder's own masks and corrections are not used: after a few minutes of training, they were measurably
worse.
"""

from collections.abc import Sequence

import numpy as np
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import nn
from torch.nn import functional as F

from elite_pipeline.planes import connected
from elite_pipeline.sam.prompts import Embedding, PromptableSam, batched
from elite_pipeline.sam.vit import VisionTransformer

DIM, DEPTH, HEADS, PATCH = 160, 4, 5, 16
WIDTHS = (24, 40, 80)
"""Channels of the pyramid at strides 2, 4 and 8."""
GRID = (10, 32)
"""Patches (rows, columns) of the 512 x 160 training images. Positions are interpolated for other grids."""
LONGEST_SIDE = 512
FUSED = 64
"""Channels of the fused map at stride 4, which combines tokens and pyramid."""
REGION = 16
"""Channels of the region embedding."""
PROMPT = 64
"""Channels of the prompt encoder and mask decoder (SAM: 256)."""
THRESHOLDS = (0.5, 0.7, 0.9)
"""Default thresholds of the three masks. A mask holds pixels with a cosine to the click above its threshold.

`calibrate_thresholds` replaces them."""
SHARPNESS = 10.0
"""Factor from cosine to mask logit."""


class ResidualBlock(nn.Sequential):
    """GELU(x + f(x)) with f(x) = BN(conv(GELU(BN(conv(x))))); the convolutions are 3 x 3."""

    def __init__(self, channels: int) -> None:
        super().__init__(*_convolution(channels, channels), nn.GELU(), *_convolution(channels, channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.gelu(input + super().forward(input))


def _convolution(
    channels_in: int, channels: int, *, kernel: int = 3, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return (
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    )


class FeaturePyramid(nn.Module):
    """Images (B, 3, h, w) -> maps at strides 4, 8 and 16 with 40, 80 and `DIM` channels."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth = WIDTHS
        self.quarter = nn.Sequential(
            *_convolution(3, half, stride=2),
            nn.GELU(),
            *_convolution(half, quarter, stride=2),
            nn.GELU(),
            ResidualBlock(quarter),
            ResidualBlock(quarter),
        )
        self.eighth = nn.Sequential(
            *_convolution(quarter, eighth, stride=2),
            nn.GELU(),
            ResidualBlock(eighth),
            ResidualBlock(eighth),
        )
        self.proj = nn.Conv2d(eighth, DIM, 3, 2, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        quarter = self.quarter(images)
        eighth = self.eighth(quarter)
        return quarter, eighth, self.proj(eighth)


class TinyEncoder(VisionTransformer):
    """SAM's ViT on top of a convolutional pyramid; also returns a fused map of both at stride 4.

    Each of its four stages joins the tokens of one block with the *same* fine map. The 2D head of a stage teaches one
    scale of the student. Poles and people are narrower than a patch, so every head needs the fine map.
    """

    pos_embed: nn.Parameter

    def __init__(self) -> None:
        super().__init__(
            dim=DIM,
            depth=DEPTH,
            heads=HEADS,
            stage_blocks=range(DEPTH),
            image_size=LONGEST_SIDE,
            patch=PATCH,
            window=0,
            neck=PROMPT,
            relative_positions=False,
        )
        _, quarter, eighth = WIDTHS
        self.patch_embed = FeaturePyramid()
        self.pos_embed = nn.Parameter(torch.empty(1, *GRID, DIM).normal_(std=0.02))
        self.channels = (DIM + 4 * FUSED,) * DEPTH
        self.strides = (8,) * DEPTH
        self.from_tokens = nn.Conv2d(2 * DIM, FUSED, 1)
        self.from_eighth = nn.Conv2d(eighth, FUSED, 1)
        self.from_quarter = nn.Conv2d(quarter, FUSED, 1)
        self.fuse_eighth = nn.Sequential(*_convolution(FUSED, FUSED), nn.GELU())
        self.fuse_quarter = nn.Sequential(*_convolution(FUSED, FUSED), nn.GELU())
        self.region = nn.Linear(FUSED, REGION)

    def maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Prepared `images` (B, 3, h, w) -> the pyramid's maps at strides 4 and 8, and the tokens of all blocks.

        The tokens are (B, DIM, h / 16, w / 16) each.
        """
        quarter, eighth, x = self.patch_embed(images)
        x = x.permute(0, 2, 3, 1)
        x = x + self.positions(*x.shape[1:3])
        tokens = []
        for block in self.blocks:
            x = block(x)
            tokens.append(x.permute(0, 3, 1, 2))
        return quarter, eighth, tokens

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """Return the position embeddings (1, rows, columns, DIM), stretched to the whole view.

        They are stretched because the layout of a street scales with the image.
        """
        if (rows, columns) == GRID:
            return self.pos_embed
        grid = self.pos_embed.permute(0, 3, 1, 2)
        return F.interpolate(grid, (rows, columns), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)

    def stages(self, images: torch.Tensor) -> list[torch.Tensor]:
        quarter, eighth, tokens = self.maps(images)
        fine = F.pixel_unshuffle(self.fused(quarter, eighth, tokens), 2)
        return [torch.cat([_double(block), fine], 1) for block in tokens]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neck(self.maps(x)[2][-1])

    def fused(self, quarter: torch.Tensor, eighth: torch.Tensor, tokens: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse the output of `maps` to one map (B, FUSED, h / 4, w / 4)."""
        x = _double(self.from_tokens(torch.cat([tokens[1], tokens[3]], 1)))
        x = _double(self.fuse_eighth(x + self.from_eighth(eighth)))
        return self.fuse_quarter(x + self.from_quarter(quarter))

    def regions(self, fused: torch.Tensor) -> torch.Tensor:
        """Fused features (..., FUSED) -> unit vectors (..., REGION), similar for pixels of the same region."""
        return F.normalize(self.region(fused), dim=-1)


def _double(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class TinySam(PromptableSam):
    """SAM with masks from region embeddings.

    A mask holds the pixels whose embedding is similar to that of the click. The decoder predicts how well it fits.
    """

    image_encoder: TinyEncoder

    def __init__(self) -> None:
        side = LONGEST_SIDE // PATCH
        super().__init__(
            image_encoder=TinyEncoder(),
            prompt_encoder=PromptEncoder(PROMPT, (side, side), (LONGEST_SIDE, LONGEST_SIDE), mask_in_chans=16),
            mask_decoder=MaskDecoder(
                transformer_dim=PROMPT,
                transformer=TwoWayTransformer(depth=2, embedding_dim=PROMPT, num_heads=4, mlp_dim=4 * PROMPT),
                iou_head_hidden_dim=PROMPT,
            ),
        )
        self.thresholds = nn.Parameter(torch.tensor(THRESHOLDS), requires_grad=False)
        self.iou_line = nn.Parameter(torch.tensor([[1.0] * 3, [0.0] * 3]), requires_grad=False)

    @torch.no_grad()
    def embed(self, view: torch.Tensor) -> Embedding:
        encoder = self.image_encoder
        quarter, eighth, tokens = encoder.maps(view[None])
        regions = encoder.regions(encoder.fused(quarter, eighth, tokens).permute(0, 2, 3, 1))
        return Embedding(encoder.neck(tokens[-1]), regions[0].permute(2, 0, 1))

    @torch.no_grad()
    def masks(
        self,
        embedding: Embedding,
        clicks: torch.Tensor,
        inside: torch.Tensor | None = None,
        mask_prompts: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `PromptableSam.masks`, but with only those connected pieces of a mask that hold a click inside.

        Similarity alone would mark every car in the image.
        """
        clicks, inside = batched(clicks, inside)
        logits, iou = self.decode(embedding, clicks, inside, mask_prompts)
        slope, offset = self.iou_line
        return clicked_pieces(logits, clicks / (PATCH // 4), inside), slope * iou + offset

    def decode(
        self, embedding: Embedding, clicks: torch.Tensor, inside: torch.Tensor, mask_prompts: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (N, 3, h, w) and the predicted IoU (N, 3), with gradients; see `masks`.

        Raises `InputError` where `PromptableSam.masks` does.
        """
        masks, _, iou = self.decode_both(embedding, clicks, inside, mask_prompts)
        return masks, iou

    def decode_both(
        self, embedding: Embedding, clicks: torch.Tensor, inside: torch.Tensor, mask_prompts: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the mask logits, the decoder's own mask logits, both (N, 3, h, w), and the predicted IoU (N, 3).

        The mask logits are `SHARPNESS * (cosine - threshold)`, plus `mask_prompts` where given. The cosine is that to
        the most similar click inside. Where the cosine to a click outside is above the threshold, it replaces the
        threshold. The second mask is the mask prompt of the decoder. Raises `InputError` where `PromptableSam.masks`
        does.
        """
        assert embedding.regions is not None
        own, other = similarity(embedding.regions, clicks, inside)
        masks = SHARPNESS * (own[:, None] - torch.maximum(other[:, None], self.thresholds[:, None, None]))
        if mask_prompts is not None:
            masks = masks + mask_prompts
        return masks, *super().decode(embedding, clicks, inside, masks[:, 1:2])


def similarity(regions: torch.Tensor, clicks: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for each cell of `regions` (E, h, w), the largest cosine to the embedding at a click.

    `clicks`: (N, P, 2) pixels of a view; a cell of `regions` covers 4 x 4 pixels. `inside`: as in `masks`. Returns two
    tensors (N, h, w): one for the clicks inside, one for the clicks outside. They are -1 where there is no such click.
    """
    _, rows, columns = regions.shape
    size = clicks.new_tensor([columns, rows]) * (PATCH // 4)
    at = F.grid_sample(regions[None], (2 * clicks / size - 1)[None], align_corners=False, padding_mode="border")
    cosine = torch.einsum("enp,ehw->nphw", F.normalize(at[0], dim=0), regions)
    mask = inside[..., None, None]
    return cosine.where(mask == 1, -1).amax(1), cosine.where(mask == 0, -1).amax(1)


def clicked_pieces(logits: torch.Tensor, clicks: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return mask `logits` (N, M, h, w) without the connected pieces that hold no click inside.

    The logits of removed pieces are set to -`SHARPNESS`. `clicks`: (N, P, 2), in cells of the mask. `inside`: as in
    `masks`.
    """
    column, row = clicks.long().cpu().unbind(-1)
    row, column = row.clamp(0, logits.shape[2] - 1).numpy(), column.clamp(0, logits.shape[3] - 1).numpy()
    masks, on_object = (logits > 0).cpu().numpy(), inside.cpu().numpy()
    dropped = np.empty_like(masks)
    for n, candidates in enumerate(masks):
        at = row[n][on_object[n] == 1], column[n][on_object[n] == 1]
        for m, mask in enumerate(candidates):
            pieces, count = connected(mask)
            untouched = np.ones(count + 1, bool)
            untouched[pieces[at]] = untouched[0] = False
            dropped[n, m] = untouched[pieces]
    return logits.masked_fill(torch.from_numpy(dropped).to(logits.device), -SHARPNESS)
