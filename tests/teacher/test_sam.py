"""SAM's checkpoints, its features on rectangles, and how images enter it."""

import hashlib
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import PatchEmbed, add_decomposed_rel_pos

from elite_pipeline.checkpoints import PUBLISHED
from elite_pipeline.errors import InputError
from elite_pipeline.teacher import sam as sam_module
from elite_pipeline.teacher.sam import ARCHITECTURES, Architecture, StageEncoder, View, build_sam, untrained_sam
from elite_pipeline.teacher.vit import ImageEncoder, _offsets

SMALL = Architecture(
    dim=16, depth=4, heads=2, global_blocks=(1, 3), image_size=128,
    patch=16, window=3, prompt=32,
)  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """`vit_b` with a small architecture: the same code path as the published file, in milliseconds."""
    monkeypatch.setitem(ARCHITECTURES, "vit_b", SMALL)
    torch.manual_seed(0)
    model = untrained_sam("vit_b").eval()
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:  # SAM initialises these with zeros, which would hide mistakes
            torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture
def checkpoint(small, tmp_path):
    path = tmp_path / "sam.pth"
    torch.save(small.state_dict(), path)
    return path


def test_a_checkpoint_loads_with_every_weight(small, checkpoint):
    loaded = build_sam("vit_b", checkpoint, hashlib.sha256(checkpoint.read_bytes()).hexdigest())
    assert not loaded.training
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, small.state_dict()[key]), key


def test_published_architectures_have_the_published_number_of_parameters():
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in untrained_sam(name).parameters()) for name in ARCHITECTURES}
    assert {name: round(count / 1e6, 1) for name, count in counts.items()} == {
        "vit_b": 93.7, "vit_l": 312.3, "vit_h": 641.1,
    }  # fmt: skip


def test_state_dict_keys_are_those_of_segment_anything():
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        official, ours = sam_model_registry["vit_b"]().state_dict(), untrained_sam("vit_b").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in official.items()}


def test_a_missing_checkpoint_says_where_to_get_it(tmp_path):
    with pytest.raises(InputError) as error:
        build_sam("vit_b", tmp_path / "none.pth", None)
    assert "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth" in str(error.value)
    assert PUBLISHED["vit_b"][1] in str(error.value)


def test_another_file_is_refused_by_its_hash(small, checkpoint):
    found = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    with pytest.raises(InputError) as error:
        build_sam("vit_b", checkpoint, "1" * 64)
    assert all(part in str(error.value) for part in (str(checkpoint), found, "1" * 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("image_encoder.blocks.0.attn.qkv.weight"), "missing image_encoder.blocks.0.attn.qkv"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda state: state.update({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 16)}), r"\(1, 4, 4, 16\)"),
    ],
)
def test_every_key_is_accounted_for(small, tmp_path, change, message):
    state = small.state_dict()
    change(state)
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(InputError, match=message):
        build_sam("vit_b", tmp_path / "sam.pth")


def test_another_architecture_is_refused(small, checkpoint, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "vit_l", Architecture(24, 5, 2, (1, 4), 128, 16, 3, 32))
    with pytest.raises(InputError, match="does not hold the weights of vit_l"):
        build_sam("vit_l", checkpoint)


class _Payload:
    def __reduce__(self):
        return print, ("code in a checkpoint was run",)


def test_code_in_a_checkpoint_is_refused_and_not_run(small, tmp_path, capsys):
    torch.save({"image_encoder.pos_embed": _Payload()}, tmp_path / "sam.pth")
    with pytest.raises(InputError, match="holds no plain weights"):
        build_sam("vit_b", tmp_path / "sam.pth")
    assert capsys.readouterr().out == ""


def test_damaged_files_are_refused(small, checkpoint, tmp_path):
    cut = tmp_path / "cut.pth"
    cut.write_bytes(checkpoint.read_bytes()[:1000])
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as file:
        file.writestr("readme", "no weights")
    (tmp_path / "cut.safetensors").write_bytes(b"12345")
    for path in (cut, tmp_path / "other.pth", tmp_path / "cut.safetensors"):
        with pytest.raises(InputError, match="holds no plain weights"):
            build_sam("vit_b", path)


def _encoders():
    """Ours and `segment_anything`'s encoder with the same random weights."""
    torch.manual_seed(1)
    ours = ImageEncoder(
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


def test_a_view_beyond_the_encoders_size_is_an_error(small):
    with pytest.raises(InputError, match="set longest_side to 128 or less"):
        StageEncoder(small.image_encoder)(torch.zeros(1, 3, 16, 144))


def test_adapters_find_the_linear_layers_of_every_block(small):
    adapted = get_peft_model(
        StageEncoder(small.image_encoder),
        LoraConfig(r=2, target_modules=r".*blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(lin1|lin2))"),
    )
    trained = {name.split(".lora_")[0] for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == 4 * SMALL.depth
    sum(stage.sum() for stage in adapted(torch.randn(1, 3, 32, 64))).backward()


def test_clicks_on_a_rectangle_give_masks_of_its_size(small):
    embedding = small.embed(torch.randn(3, 48, 112))
    masks, iou = small.masks(embedding, torch.tensor([[10.0, 20.0], [100.0, 5.0]]))
    assert embedding.mask_size == (12, 28)
    assert masks.shape == (2, 3, 12, 28)
    assert iou.shape == (2, 3)
    prompted, _ = small.masks(embedding, torch.tensor([[10.0, 20.0]]), torch.ones(1, 1, 12, 28))
    assert not torch.allclose(prompted, masks[:1])


def test_clicks_on_a_square_give_sams_own_masks(small):
    view = torch.randn(3, 128, 128)
    masks, iou = small.masks(small.embed(view), torch.tensor([[33.5, 80.5]]))
    sparse, dense = small.prompt_encoder((torch.tensor([[[33.0, 80.0]]]), torch.ones(1, 1)), None, None)
    with torch.no_grad():
        expected, expected_iou = small.mask_decoder(
            small.image_encoder(view[None]), small.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True
        )
    torch.testing.assert_close(masks, expected)
    torch.testing.assert_close(iou, expected_iou)


def test_view_scales_the_longest_side_and_pads_to_whole_patches():
    view = View(longest_side=512, patch=16)
    assert view.size(376, 1241) == (155, 512)
    assert view.padded(376, 1241) == (160, 512)
    assert view.padded(370, 1226) == view.padded(376, 1241), "frames of several sizes go into one batch"
    image = np.full((376, 1241, 3), 255, np.uint8)
    x = view.prepare(image)
    assert x.shape == (3, 160, 512)
    assert x.dtype == torch.float32
    assert (x[:, 155:] == 0).all()
    white = (255 - torch.tensor(sam_module.PIXEL_MEAN)) / torch.tensor(sam_module.PIXEL_STD)
    torch.testing.assert_close(x[:, :155], white[:, None, None].expand(3, 155, 512), atol=1e-5, rtol=0)


def test_view_puts_points_where_it_puts_the_image():
    image = np.zeros((300, 800, 3), np.uint8)
    image[100:140, 600:680] = 255
    view = View(longest_side=400, patch=16)
    bright = np.argwhere(view.prepare(image)[0].numpy() > 1)  # (row, column)
    centre = bright.mean(0)[::-1] + 0.5
    np.testing.assert_allclose(view.pixels(np.array([[640.0, 120.0]], np.float32), (300, 800))[0], centre, atol=0.05)
    np.testing.assert_allclose(view.pixels(np.array([[800.0, 300.0]], np.float32), (300, 800))[0], (400, 150))


def test_view_leaves_an_image_of_its_own_size_alone():
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    x = View(longest_side=64, patch=16).prepare(image)
    back = x * torch.tensor(sam_module.PIXEL_STD)[:, None, None] + torch.tensor(sam_module.PIXEL_MEAN)[:, None, None]
    np.testing.assert_allclose(back.permute(1, 2, 0).numpy(), image, atol=1e-3)
