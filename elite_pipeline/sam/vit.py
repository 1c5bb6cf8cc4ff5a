"""SAM's image encoder for images of any rectangular size: `segment_anything`'s modules without the square padding."""

from collections.abc import Collection
from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, window_partition, window_unpartition
from torch import nn
from torch.nn import functional as F

from elite_pipeline.errors import InputError

ADAPTABLE = {"qkv": r"attn\.qkv", "proj": r"attn\.proj", "lin1": r"mlp\.lin1", "lin2": r"mlp\.lin2"}
"""Adapter target in `peft.targets` -> regular expression for the module in a block."""


class RectangularAttention(Attention):
    """SAM's attention over a grid of tokens, or over windows of the grid.

    A grid smaller than in training uses the middle of the relative position tables. An offset of k patches then has the
    bias that it was trained with. SAM's own `get_rel_pos` would stretch the tables to the smaller grid instead, which
    would change the network.
    """

    def __init__(self, dim: int, heads: int, *, size: int, window: int, relative_positions: bool) -> None:
        """`size`: largest side of the grid in patches; `window`: side of a window in patches, 0 for no windows."""
        side = window or size
        super().__init__(dim, heads, use_rel_pos=relative_positions, input_size=(side, side))
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, h, w, C) -> (B, h, w, C)."""
        h, w = x.shape[1:3]
        qkv = self.qkv(x)
        if not self.window:
            return self.proj(self.attend(qkv))
        # SAM fills the last windows with zero tokens. For a zero token, the linear layer returns its bias. On a KITTI
        # image, a third of all tokens are such padding, so the layer is not applied to them.
        rows, columns = (-(-n // self.window) * self.window for n in (h, w))
        filled = self.qkv.bias.to(qkv.dtype).expand(len(x), rows, columns, -1).clone()
        filled[:, :h, :w] = qkv
        windows, grid = window_partition(filled, self.window)
        return self.proj(window_unpartition(self.attend(windows), self.window, grid, (h, w)))

    def attend(self, qkv: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values (B, h, w, 3 C) -> attention output of each token (B, h, w, C)."""
        b, h, w, _ = qkv.shape
        q, k, v = qkv.view(b, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, hw, C / heads)
        bias = None
        if self.use_rel_pos:
            grid = q.unflatten(2, (h, w))
            rows = torch.einsum("bnhwc,hkc->bnhwk", grid, _offsets(self.rel_pos_h, h))
            columns = torch.einsum("bnhwc,wkc->bnhwk", grid, _offsets(self.rel_pos_w, w))
            bias = (rows[..., :, None] + columns[..., None, :]).reshape(b, self.num_heads, h * w, h * w)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return x.transpose(1, 2).reshape(b, h, w, -1)


def _offsets(table: torch.Tensor, size: int) -> torch.Tensor:
    """For each pair of `size` positions, return the row of `table` (2 n - 1, C) for their offset: (size, size, C)."""
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None, :] + len(table) // 2]


class VisionTransformer(ImageEncoderViT):
    """`ImageEncoderViT` for images whose sides are any multiples of the patch; it has the same parameters.

    Its stages are the outputs of the blocks with global attention. A student learns from them.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        stage_blocks: Collection[int],
        image_size: int,
        patch: int,
        window: int,
        neck: int,
        relative_positions: bool,
    ) -> None:
        """`image_size`: largest side of an image in pixels; `neck`: number of channels that `forward` returns.

        `window`: side of the attention windows in patches. The blocks in `stage_blocks` have global attention instead.
        """
        super().__init__(
            img_size=image_size,
            patch_size=patch,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            out_chans=neck,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # pyright: ignore[reportArgumentType]
            use_rel_pos=relative_positions,
            window_size=0,  # `RectangularAttention` below makes the windows
        )
        for i, block in enumerate(self.blocks):
            block.attn = RectangularAttention(
                dim,
                heads,
                size=image_size // patch,
                window=0 if i in stage_blocks else window,
                relative_positions=relative_positions,
            )
        self.patch = patch
        self.adapter_paths = {name: rf"blocks\.\d+\.{module}" for name, module in ADAPTABLE.items()}
        self.stage_blocks = tuple(stage_blocks)
        self.channels = (dim,) * len(self.stage_blocks)
        self.strides = (patch,) * len(self.stage_blocks)

    def stages(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Prepared `images` (B, 3, h, w) -> S feature maps (B, channels[s], h / strides[s], w / strides[s]).

        Raises `InputError` where the images are larger than the table of positions.
        """
        outputs = self.tokens(images)
        return [outputs[i].permute(0, 3, 1, 2) for i in self.stage_blocks]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Prepared images (B, 3, h, w) -> image embeddings (B, neck, h / patch, w / patch) for SAM's mask decoder.

        Raises `InputError` where the images are larger than the table of positions.
        """
        return self.neck(self.tokens(x)[-1].permute(0, 3, 1, 2))

    def tokens(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the outputs of all blocks, (B, h / patch, w / patch, dim) each.

        Raises `InputError` where the images are larger than the table of positions.
        """
        x = self.patch_embed(images)
        x = x + self.positions(*x.shape[1:3])
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """Return position embeddings (1, rows, columns, dim) for a grid of patches.

        They are the top left corner of the table, because SAM pads at the bottom and right.

        Raises `InputError` where the table of positions has fewer rows or columns.
        """
        assert self.pos_embed is not None
        limit = self.pos_embed.shape[1]
        if max(rows, columns) > limit:
            raise InputError(
                f"a view of {columns * self.patch} x {rows * self.patch} pixels is too large for this encoder."
                f" Set longest_side to {limit * self.patch} or less."
            )
        return self.pos_embed[:, :rows, :columns]
