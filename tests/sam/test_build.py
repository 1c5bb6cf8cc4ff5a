"""SAM's checkpoints, its masks on rectangular images, and the preparation of images."""

import hashlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from segment_anything import sam_model_registry

from elite_pipeline.choices import ENCODERS
from elite_pipeline.errors import InputError
from elite_pipeline.sam.build import ARCHITECTURES, Architecture, build_sam, untrained_sam
from elite_pipeline.sam.view import PIXEL_MEAN, PIXEL_STD, View, embed
from elite_pipeline.teacher.encoders import StageEncoder

SMALL = Architecture(
    dim=16, depth=4, heads=2, global_blocks=(1, 3), image_size=128,
    patch=16, window=3, prompt=32,
)  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """`vit_b` with a small architecture. It takes the same code path as the published file, in milliseconds."""
    monkeypatch.setitem(ARCHITECTURES, "vit_b", SMALL)
    torch.manual_seed(0)
    model = untrained_sam("vit_b").eval()
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:  # SAM starts these at zero, which would hide mistakes
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


@pytest.fixture
def official(tmp_path):
    """A function that writes a checkpoint file in Meta's format (name -> float32 tensor), for any architecture.

    The tensors are views of single numbers. Meta's file for `vit_h` has 2.5 GB; this one is small and loads quickly.
    """

    def write(name, change=lambda state: None):
        with torch.device("meta"):
            state = sam_model_registry[name]().state_dict()
        state = {key: torch.tensor(float(i)).expand(value.shape) for i, (key, value) in enumerate(state.items())}
        change(state)
        torch.save(state, tmp_path / f"{name}.pth")
        return tmp_path / f"{name}.pth"

    return write


def test_an_official_file_loads_with_every_weight(official):
    path = official("vit_b")
    loaded = build_sam("vit_b", path, hashlib.sha256(path.read_bytes()).hexdigest()).state_dict()
    for key, value in torch.load(path, weights_only=True).items():
        assert torch.equal(loaded[key], value), key


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize("name", ["vit_l", "vit_h"])
def test_larger_official_files_are_accepted(official, name):
    with torch.device("meta"):  # only names and shapes, not 2.5 GB of weights; the code path is the same
        loaded = build_sam(name, official(name)).state_dict()
        theirs = sam_model_registry[name]().state_dict()
    assert {k: v.shape for k, v in loaded.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize(("held", "wanted"), [("vit_b", "vit_l"), ("vit_h", "vit_b"), ("vit_l", "sam_tiny")])
def test_an_official_file_of_another_architecture_is_refused(official, held, wanted):
    with torch.device("meta"), pytest.raises(InputError) as error:
        build_sam(wanted, official(held))
    assert f"does not hold the weights of {wanted}" in str(error.value)
    assert "pos_embed is" in str(error.value) or "more" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("mask_decoder.iou_token.weight"), "missing mask_decoder.iou_token.weight"),
        (lambda state: state.update(epoch=3), "holds no state dict"),
        (lambda state: state.update(hook=_Payload()), "holds no plain weights"),
    ],
)
def test_an_official_file_with_a_fault_is_refused(official, capsys, change, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        build_sam("vit_b", official("vit_b", change))
    assert capsys.readouterr().out == ""


def test_the_error_on_a_missing_checkpoint_says_where_to_get_it(tmp_path):
    with pytest.raises(InputError) as error:
        build_sam("vit_b", tmp_path / "none.pth", None)
    assert "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth" in str(error.value)
    assert str(ENCODERS["vit_b"].sha256) in str(error.value)


def test_a_file_with_another_hash_is_refused(small, checkpoint):
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
def test_missing_unexpected_and_misshapen_keys_are_refused(small, tmp_path, change, message):
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


def _torchscript(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("sam.pth", lambda path: torch.save({"image_encoder.pos_embed": _Payload()}, path)),
        ("sam.pth", lambda path: torch.save({"pos_embed": _Payload()}, path, _use_new_zipfile_serialization=False)),
        ("sam.pth", lambda path: path.write_bytes(pickle.dumps({"image_encoder.pos_embed": _Payload()}))),
        ("sam.pth", lambda path: torch.save(torch.nn.Linear(1, 1), path)),
        ("sam.pth", _torchscript),
        ("sam.safetensors", lambda path: torch.save({"image_encoder.pos_embed": _Payload()}, path)),
    ],
    ids=["zip", "before torch 1.6", "bare pickle", "whole module", "TorchScript", "under another name"],
)
def test_code_in_a_checkpoint_is_refused_and_not_run(small, tmp_path, capsys, name, write):
    write(tmp_path / name)
    with pytest.raises(InputError, match="holds no plain weights"):
        build_sam("vit_b", tmp_path / name)
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


def test_a_view_beyond_the_encoders_size_is_an_error(small):
    with pytest.raises(InputError, match="Set longest_side to 128 or less"):
        StageEncoder(small.image_encoder)(torch.zeros(1, 3, 16, 144))


def test_adapters_find_the_linear_layers_of_every_block(small):
    adapted = get_peft_model(
        StageEncoder(small.image_encoder),
        LoraConfig(r=2, target_modules=r".*blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(lin1|lin2))"),
    )
    trained = {name.split(".lora_")[0] for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == 4 * SMALL.depth
    sum(stage.sum() for stage in adapted(torch.randn(1, 3, 32, 64))).backward()


def test_adapters_do_not_change_the_padding_of_windows(small):
    """Padded tokens are zero. An adapter must add nothing to them."""
    encoder = StageEncoder(small.image_encoder).eval()
    adapted = get_peft_model(encoder, LoraConfig(r=2, target_modules=r".*attn\.qkv", init_lora_weights=False)).eval()
    images = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        separate = adapted(images)
        merged = adapted.merge_and_unload()(images)
    for a, b in zip(separate, merged, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_clicks_on_a_rectangle_give_masks_of_its_size(small):
    embedding = small.embed(torch.randn(3, 48, 112))
    masks, iou = small.masks(embedding, torch.tensor([[10.0, 20.0], [100.0, 5.0]]))
    assert embedding.mask_size == (12, 28)
    assert masks.shape == (2, 3, 12, 28)
    assert iou.shape == (2, 3)
    prompted, _ = small.masks(embedding, torch.tensor([[10.0, 20.0]]), mask_prompts=torch.ones(1, 1, 12, 28))
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
    assert view.padded(370, 1226) == view.padded(376, 1241), "frames of several sizes must fit into one batch"
    image = np.full((376, 1241, 3), 255, np.uint8)
    x = view.prepare(image)
    assert x.shape == (3, 160, 512)
    assert x.dtype == torch.float32
    assert (x[:, 155:] == 0).all()
    white = (255 - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    torch.testing.assert_close(x[:, :155], white[:, None, None].expand(3, 155, 512), atol=1e-5, rtol=0)


def test_view_moves_points_together_with_the_image():
    image = np.zeros((300, 800, 3), np.uint8)
    image[100:140, 600:680] = 255
    view = View(longest_side=400, patch=16)
    bright = np.argwhere(view.prepare(image)[0].numpy() > 1)  # (row, column)
    centre = bright.mean(0)[::-1] + 0.5
    np.testing.assert_allclose(view.pixels(np.array([[640.0, 120.0]], np.float32), (300, 800))[0], centre, atol=0.05)
    np.testing.assert_allclose(view.pixels(np.array([[800.0, 300.0]], np.float32), (300, 800))[0], (400, 150))


def test_view_only_normalises_an_image_of_its_own_size():
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    x = View(longest_side=64, patch=16).prepare(image)
    back = x * torch.tensor(PIXEL_STD)[:, None, None] + torch.tensor(PIXEL_MEAN)[:, None, None]
    np.testing.assert_allclose(back.permute(1, 2, 0).numpy(), image, atol=1e-3)


HAS_BF16 = {"avx512_bf16": True}


@pytest.mark.parametrize(
    ("has", "precision", "message"),
    [
        (HAS_BF16, "32-true", None),
        (HAS_BF16, "bf16-mixed", None),
        (HAS_BF16, "16-mixed", "Write precision: 32-true or bf16-mixed"),
        ({"avx2": True}, "32-true", None),
        ({"avx2": True}, "bf16-mixed", r"bf16-mixed is not supported by the cpu of this machine\. .* 32-true$"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(monkeypatch, has, precision, message):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    view = View(64, 16, precision)
    if message:
        with pytest.raises(InputError, match=message):
            view.autocast("cpu")
    else:
        with view.autocast(torch.device("cpu")):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if precision == "bf16-mixed" else torch.float32)


@torch.no_grad()
def test_bfloat16_features_equal_float32_features_up_to_rounding(small, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: HAS_BF16)
    image = np.random.default_rng(0).integers(0, 256, (60, 128, 3), dtype=np.uint8)
    exact, rounded = (embed(small, View(128, 16, precision), image).image for precision in ("32-true", "bf16-mixed"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded).norm() / exact.norm()) < 0.03
    assert torch.equal(exact, small.embed(View(128, 16).prepare(image)).image)
