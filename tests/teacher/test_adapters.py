"""Adapters: saved to a folder and merged again, only on the named modules, with their target rank."""

import copy

import pytest
import torch

from elite_pipeline.config import Peft
from elite_pipeline.sam.build import untrained_sam
from elite_pipeline.teacher import adapters, storage
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import StageTeacher

LORA = Peft(method="lora", rank=2, alpha=4, targets=["qkv", "proj", "lin1", "lin2"])
ADALORA = Peft(method="adalora", rank=2, alpha=4, targets=["qkv", "lin2"], initial_rank=4, orthogonality=0.1)
SCARCE = ADALORA.model_copy(update={"rank": 1, "targets": ["qkv", "proj", "lin1", "lin2"]})
FLAT = Peft(method="adalora", rank=3, alpha=1, targets=["qkv"], initial_rank=3, orthogonality=0.1)
NONE = Peft(method="none")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return StageEncoder(untrained_sam("sam_tiny").image_encoder).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(1))


def train(model, peft, images, steps):
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(steps):
        loss = sum(stage.square().mean() for stage in model(images)) + adapters.orthogonality(model, peft)
        loss.backward()
        optimiser.step()
        adapters.allocate_ranks(model, peft, step)
        optimiser.zero_grad()
    return model.eval()


@pytest.mark.parametrize("peft", [LORA, ADALORA, FLAT], ids=["lora", "adalora", "adalora without pruning"])
@torch.no_grad()
def test_a_saved_adapter_reloads_and_the_base_weights_stay_unchanged(peft, encoder, images, tmp_path):
    from peft import PeftModel

    torch.manual_seed(0)
    model = adapters.attach(copy.deepcopy(encoder), peft, 12)
    with torch.enable_grad():
        tuned = train(model, peft, images, 12)
    tuned.save_pretrained(tmp_path)

    for name, value in tuned.base_model.model.state_dict().items():
        if "lora_" not in name and "ranknum" not in name:
            assert torch.equal(value, encoder.state_dict()[name.replace("base_layer.", "")]), name
    before, after = encoder(images), tuned(images)
    assert min(float((a - b).abs().max()) for a, b in zip(before, after, strict=True)) > 0.003
    by_peft = PeftModel.from_pretrained(copy.deepcopy(encoder), str(tmp_path)).eval()(images)
    merged = adapters.merge(copy.deepcopy(encoder), tmp_path)(images)
    for expected, a, b in zip(after, by_peft, merged, strict=True):
        assert torch.allclose(expected, a, atol=1e-5)
        assert torch.allclose(expected, b, atol=1e-4)


@torch.no_grad()
def test_an_adapter_with_fully_pruned_modules_reloads(encoder, images, tmp_path):
    from peft import PeftModel

    model = adapters.attach(copy.deepcopy(encoder), SCARCE, 12)
    with torch.enable_grad():
        teacher = StageTeacher(train(model, SCARCE, images, 12), width=8, classes=3)
    storage.save(teacher, tmp_path / "adapter", {})
    left = [int((p != 0).sum()) for name, p in model.named_parameters() if "lora_E" in name]
    assert 0 in left
    assert any(left)
    by_peft = PeftModel.from_pretrained(copy.deepcopy(encoder), str(tmp_path / "adapter")).eval()(images)
    merged = adapters.merge(copy.deepcopy(encoder), tmp_path / "adapter")(images)
    for expected, a, b in zip(model(images), by_peft, merged, strict=True):
        assert torch.allclose(expected, a, atol=1e-5)
        assert torch.allclose(expected, b, atol=1e-4)


def test_adalora_ends_at_its_target_rank(encoder, images):
    model = train(adapters.attach(copy.deepcopy(encoder), ADALORA, 12), ADALORA, images, 12)
    kept = [(p != 0).sum() for name, p in model.named_parameters() if "lora_E" in name]
    assert 0 < sum(kept) <= ADALORA.rank * len(kept)


@pytest.mark.parametrize(
    ("peft", "modules"),
    [
        (ADALORA, {"attn.qkv", "mlp.lin2"}),
        (LORA, {"attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"}),
        (SCARCE, {"attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"}),
    ],
)
def test_only_the_named_modules_of_blocks_are_adapted(peft, modules, encoder):
    model = adapters.attach(copy.deepcopy(encoder), peft, 12)
    adapted = {name.split(".lora_")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert adapted == {f"base_model.model.encoder.blocks.{b}.{m}" for b in range(4) for m in modules}


def test_method_none_trains_nothing_of_the_encoder(encoder):
    model = adapters.attach(copy.deepcopy(encoder), NONE, 12)
    assert not any(p.requires_grad for p in model.parameters())
    assert adapters.orthogonality(model, NONE) == 0
