"""`sam_tiny`: SAM with a small image encoder that learns in minutes on a CPU, for demos and tests.

A plain ViT needs far more images than a demo can show it. This one's patch embedding is a small convolutional pyramid
whose finer maps are handed out beside the tokens, and a clicked region is found by comparing embeddings. SAM's mask
decoder says how good such a mask is; trained for minutes, its own masks and corrections were measurably worse.
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
"""Patches (rows, columns) of the 512 x 160 images that it is trained on; positions are interpolated to other grids."""
LONGEST_SIDE = 512
FUSED = 64
"""Channels of the map at stride 4 in which tokens and pyramid meet."""
REGION = 16
"""Channels of the region embedding."""
PROMPT = 64
"""Channels of the prompt encoder and mask decoder (SAM: 256)."""
THRESHOLDS = (0.5, 0.7, 0.9)
"""Cosines to the click's region embedding at which the three masks start, until `calibrate_thresholds` knows better."""
SHARPNESS = 10.0
"""Mask logits per unit of cosine."""


class ResidualBlock(nn.Sequential):
    """x + f(x) for f = BN(conv(GELU(BN(conv(x))))), 3 x 3, then GELU."""

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
    """SAM's ViT behind a convolutional pyramid, with the map at stride 4 in which both meet handed out.

    Every one of its four stages is the tokens of one block beside the *same* fine map: a stage's own 2D head teaches
    one scale of the student, and poles and people are narrower than a patch, so each head needs it.
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
        """Prepared `images` (B, 3, h, w) -> the pyramid at strides 4 and 8, and all blocks' tokens (B, DIM, ...)."""
        quarter, eighth, x = self.patch_embed(images)
        x = x.permute(0, 2, 3, 1)
        x = x + self.positions(*x.shape[1:3])
        tokens = []
        for block in self.blocks:
            x = block(x)
            tokens.append(x.permute(0, 3, 1, 2))
        return quarter, eighth, tokens

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """(1, rows, columns, DIM): stretched over the view, since a street's layout scales with the image."""
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
        """What `maps` returns -> (B, FUSED, h / 4, w / 4)."""
        x = _double(self.from_tokens(torch.cat([tokens[1], tokens[3]], 1)))
        x = _double(self.fuse_eighth(x + self.from_eighth(eighth)))
        return self.fuse_quarter(x + self.from_quarter(quarter))

    def regions(self, fused: torch.Tensor) -> torch.Tensor:
        """Fused features (..., FUSED) -> unit vectors (..., REGION) that agree inside a region."""
        return F.normalize(self.region(fused), dim=-1)


def _double(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class TinySam(PromptableSam):
    """SAM whose masks are where region embeddings are like the click's, and whose decoder says how well they fit."""

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
        """As `PromptableSam.masks`, but only connected pieces with a click on them: likeness alone finds every car."""
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
        """Logits of the masks, those that the decoder would put in their place, and the predicted IoU.

        Logits are `SHARPNESS * (cosine - threshold)`, to which given `mask_prompts` are added. The cosine is that to
        the likest click inside; where a click outside is likelier than the threshold, its cosine takes the threshold's
        place. The second mask is the decoder's mask prompt. Raises `InputError` where `PromptableSam.masks` does.
        """
        assert embedding.regions is not None
        own, other = similarity(embedding.regions, clicks, inside)
        masks = SHARPNESS * (own[:, None] - torch.maximum(other[:, None], self.thresholds[:, None, None]))
        if mask_prompts is not None:
            masks = masks + mask_prompts
        return masks, *super().decode(embedding, clicks, inside, masks[:, 1:2])


def similarity(regions: torch.Tensor, clicks: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines of `regions` (E, h, w) to their likest value at clicks.

    `clicks`: (N, P, 2) pixels of a view whose every 4 x 4 are a cell of `regions`; `inside` as in `masks`. Returns two
    (N, h, w): to the clicks inside, and to those outside (-1 where there is none).
    """
    _, rows, columns = regions.shape
    size = clicks.new_tensor([columns, rows]) * (PATCH // 4)
    at = F.grid_sample(regions[None], (2 * clicks / size - 1)[None], align_corners=False, padding_mode="border")
    cosine = torch.einsum("enp,ehw->nphw", F.normalize(at[0], dim=0), regions)
    mask = inside[..., None, None]
    return cosine.where(mask == 1, -1).amax(1), cosine.where(mask == 0, -1).amax(1)


def clicked_pieces(logits: torch.Tensor, clicks: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Mask `logits` (N, M, h, w) with the connected pieces that no click inside touches turned to -`SHARPNESS`.

    `clicks`: (N, P, 2), cells of the mask; `inside` as in `masks`.
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
