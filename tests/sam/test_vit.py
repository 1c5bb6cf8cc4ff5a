"""The image encoder against `segment_anything`'s: the same features on squares, and correct ones on rectangles."""

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import PatchEmbed, add_decomposed_rel_pos

from elite_pipeline.sam.vit import VisionTransformer, _offsets
from elite_pipeline.teacher.encoders import StageEncoder


def _encoders():
    """Our encoder and `segment_anything`'s encoder, with the same random weights."""
    torch.manual_seed(1)
    ours = VisionTransformer(
        dim=32, depth=4, heads=2, stage_blocks=(1, 3), image_size=1024, patch=16, window=14, neck=8,
        relative_positions=True,
    ).eval()  # fmt: skip
    for name, parameter in ours.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    theirs = ImageEncoderViT(
        img_size=1024, embed_dim=32, depth=4, num_heads=2, out_chans=8, use_rel_pos=True, window_size=14,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), global_attn_indexes=(1, 3),
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    assert isinstance(theirs.patch_embed, PatchEmbed)
    return ours, theirs


@torch.no_grad()
def test_stages_are_the_outputs_of_sams_own_global_blocks():
    ours, theirs = _encoders()
    images = torch.randn(1, 3, 1024, 1024)
    seen = {}
    for i in (1, 3):
        theirs.blocks[i].register_forward_hook(lambda _module, _inputs, output, i=i: seen.__setitem__(i, output))
    embedding = theirs(images)
    stages = StageEncoder(ours)(images)
    for i, stage in zip((1, 3), stages, strict=True):
        torch.testing.assert_close(stage, seen[i].permute(0, 3, 1, 2), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(ours(images), embedding, atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_windows_on_a_rectangle_equal_sams_own():
    """Within a window, SAM stretches no table. Its blocks are therefore a correct reference for any grid."""
    ours, theirs = _encoders()
    tokens = torch.randn(2, 20, 33, 32)
    torch.testing.assert_close(ours.blocks[0](tokens), theirs.blocks[0](tokens), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_rectangles_have_the_positions_of_the_squares_top_left_corner():
    ours, _ = _encoders()
    assert ours.pos_embed is not None
    torch.testing.assert_close(ours.positions(5, 20), ours.pos_embed[:, :5, :20])
    attention = ours.blocks[1].attn
    h, w, n = 3, 7, 64
    query = torch.zeros(1, n, n, 16)
    query[:, :h, :w] = torch.randn(h, w, 16)
    whole = add_decomposed_rel_pos(
        torch.zeros(1, n * n, n * n), query.view(1, n * n, 16), attention.rel_pos_h, attention.rel_pos_w, (n, n), (n, n)
    ).view(n, n, n, n)[:h, :w, :h, :w]
    rows = torch.einsum("hwc,hkc->hwk", query[0, :h, :w], _offsets(attention.rel_pos_h, h))
    columns = torch.einsum("hwc,wkc->hwk", query[0, :h, :w], _offsets(attention.rel_pos_w, w))
    torch.testing.assert_close(rows[..., :, None] + columns[..., None, :], whole)
    assert [stage.shape for stage in ours.stages(torch.randn(2, 3, 80, 320))] == [(2, 32, 5, 20)] * 2
