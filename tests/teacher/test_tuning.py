import copy

import numpy as np
import pytest
import torch

from elite_pipeline.config import Peft, TeacherToTune, View
from elite_pipeline.datasets.semantickitti import CLASSES
from elite_pipeline.errors import InputError
from elite_pipeline.teacher import adapters, sam, samples, tuning
from elite_pipeline.teacher.heads import Teacher
from elite_pipeline.teacher.targets import hit_patches, patch_maps, patch_scale

LORA = Peft(method="lora", rank=2, alpha=4, targets=["qkv", "proj", "lin1", "lin2"])
ADALORA = Peft(method="adalora", rank=2, alpha=4, targets=["qkv", "lin2"], initial_rank=4, orthogonality=0.1)
FLAT = Peft(method="adalora", rank=3, alpha=1, targets=["qkv"], initial_rank=3, orthogonality=0.1)
NONE = Peft(method="none", rank=1, alpha=1, targets=["qkv"])


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return sam.StageEncoder(sam.untrained_sam("sam_tiny").image_encoder).eval()


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
def test_adapter_survives_its_folder_and_leaves_the_base_alone(peft, encoder, images, tmp_path):
    from peft import PeftModel

    model = adapters.attach(copy.deepcopy(encoder), peft, 12)
    with torch.enable_grad():
        tuned = train(model, peft, images, 12)
    tuned.save_pretrained(tmp_path)

    for name, value in tuned.base_model.model.state_dict().items():
        if "lora_" not in name and "ranknum" not in name:
            assert torch.equal(value, encoder.state_dict()[name.replace("base_layer.", "")]), name
    before, after = encoder(images), tuned(images)
    assert min(float((a - b).abs().max()) for a, b in zip(before, after, strict=True)) > 0.01
    by_peft = PeftModel.from_pretrained(copy.deepcopy(encoder), str(tmp_path)).eval()(images)
    merged = adapters.merge(copy.deepcopy(encoder), tmp_path)(images)
    for expected, a, b in zip(after, by_peft, merged, strict=True):
        assert torch.allclose(expected, a, atol=1e-5)
        assert torch.allclose(expected, b, atol=1e-4)


def test_adalora_ends_at_its_target_rank(encoder, images):
    model = train(adapters.attach(copy.deepcopy(encoder), ADALORA, 12), ADALORA, images, 12)
    kept = [(p != 0).sum() for name, p in model.named_parameters() if "lora_E" in name]
    assert 0 < sum(kept) <= ADALORA.rank * len(kept)


def test_only_the_named_modules_of_blocks_are_adapted(encoder):
    model = adapters.attach(copy.deepcopy(encoder), ADALORA, 12)
    adapted = {name.split(".lora_")[0].split("blocks.")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert adapted == {f"{b}.{m}" for b in range(4) for m in ("attn.qkv", "mlp.lin2")}


def test_method_none_trains_nothing_of_the_encoder(encoder):
    model = adapters.attach(copy.deepcopy(encoder), NONE, 12)
    assert not any(p.requires_grad for p in model.parameters())
    assert adapters.orthogonality(model, NONE) == 0


class Pictures(samples.LabelledImages):
    """Red squares of class 1 on blue ground of class 9; the second picture is smaller and has one labelled pixel."""

    def __init__(self):
        self.items = [(0, 0, 0), (0, 1, 0), (0, 2, 0)]
        self.seen = []

    def image(self, item):
        image = np.full((32, 64, 3), (20, 30, 200), np.uint8)
        image[8:24, 16 * item : 16 * item + 24] = (200, 30, 20)
        return image[:16, :32] if item == 1 else image

    def labels(self, item):
        red = (self.image(item)[..., 0] > 100) * np.uint8(1)
        label = np.where(red, 1, 9).astype(np.uint8)
        if item == 1:
            label[:] = 0
            label[3, 5] = 9
        return label

    def points(self, item):
        label = self.labels(item)
        row, column = np.indices(label.shape).reshape(2, -1)[:, ::7]
        return np.stack([column, row], 1).astype(np.float32) + 0.5, label[row, column]


def settings(peft=LORA, steps=25, **changes):
    rule = {
        "steps": steps,
        "batch": 3,
        "learning_rate": 0.01,
        "weight_decay": 0.01,
        "warmup": 2,
        "lovasz": 1.0,
        "seed": 3,
    }
    return TeacherToTune(
        encoder="sam_tiny",
        longest_side=64,
        upscaler=8,
        peft=peft,
        tune_teacher={**rule, **changes},  # pyright: ignore
    )


def build(encoder, chosen):
    torch.manual_seed(0)
    adapted = adapters.attach(copy.deepcopy(encoder), chosen.peft, chosen.tune_teacher.steps)
    return Teacher(adapted, width=8, classes=len(CLASSES)), sam.View(64, 16)


def test_tuning_learns_and_says_so(encoder, tmp_path):
    chosen = settings()
    teacher, view = build(encoder, chosen)
    untuned = tuning.agreement_at_points(teacher.eval(), view, Pictures())
    tuning.tune(teacher, view, Pictures(), chosen, tmp_path)
    tuned = tuning.agreement_at_points(teacher, view, Pictures())
    assert [a.accuracy for a in tuned] > [0.9] * 4
    assert max(a.accuracy for a in untuned) < 0.9


@pytest.mark.parametrize("peft", [LORA, ADALORA, NONE], ids=["lora", "adalora", "none"])
def test_killed_and_resumed_ends_in_the_same_weights(peft, encoder, tmp_path):
    chosen = settings(peft, steps=14)

    class Killed(Pictures):
        def batch(self, view, step, *rest):
            if step == 12:
                raise KeyboardInterrupt
            return super().batch(view, step, *rest)

    whole, view = build(encoder, chosen)
    tuning.tune(whole, view, Pictures(), chosen, tmp_path / "whole")
    first, view = build(encoder, chosen)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(first, view, Killed(), chosen, tmp_path / "killed")
    second, view = build(encoder, chosen)
    steps = []

    class Watched(Pictures):
        def batch(self, view, step, *rest):
            steps.append(step)
            return super().batch(view, step, *rest)

    tuning.tune(second, view, Watched(), chosen, tmp_path / "killed")
    assert sorted(steps) == [10, 11, 12, 13]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_batches_depend_on_seed_and_step_alone_and_cover_an_epoch():
    view, pictures = sam.View(64, 16), Pictures()
    a, b, c = (pictures.batch(view, 5, 3, seed) for seed in (0, 0, 1))
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, c.images)
    assert a.images.shape == (3, 3, 32, 64)
    assert sorted(len(pixel) for pixel in a.pixels) == [1, 2048, 2048]  # each picture once
    assert (a.labels > 0).all()


def test_mirrored_labels_stay_on_their_pixels():
    pictures, flips = Pictures(), set()
    for seed in range(8):
        image, label = samples.augment(pictures.image(0), pictures.labels(0), np.random.default_rng(seed))
        assert image.dtype == np.uint8
        assert np.array_equal(image[..., 0].astype(int) > image[..., 2], label == 1)
        flips.add(bool(label[10, 2] == 9))
    assert flips == {True, False}


def test_positions_are_centres_of_labelled_pixels():
    label = np.zeros((5, 7), np.uint8)
    pixel, drawn = samples.draw_positions(label, np.random.default_rng(0))
    assert pixel.shape == (0, 2)
    label[4, 6] = 19
    pixel, drawn = samples.draw_positions(label, np.random.default_rng(0))
    assert pixel.tolist() == [[6.5, 4.5]]
    assert drawn.tolist() == [19]


def test_loss_of_a_batch_without_labels_is_zero_and_finite():
    logits = torch.randn(4, 2, 20, requires_grad=True)
    loss = tuning.segmentation_loss(logits, torch.zeros(4, dtype=torch.int64), torch.ones(20), 1.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.isfinite(logits.grad).all()


def test_a_folder_of_another_teacher_is_refused(encoder, tmp_path):
    teacher, _ = build(encoder, settings(NONE))
    description = {"settings": settings(NONE).model_dump(mode="json"), "classes": CLASSES}
    tuning.save(teacher, tmp_path / "adapter", description)
    with pytest.raises(InputError, match="longest_side=64, not 128"):
        tuning.load(tmp_path / "adapter", View(encoder="sam_tiny", longest_side=128))
    with pytest.raises(InputError, match="no tuned teacher"):
        tuning.load(tmp_path / "missing", View(encoder="sam_tiny", longest_side=64))


def test_patch_features_are_averages_within_the_quantisation_step(encoder, images):
    teacher = Teacher(encoder, width=8, classes=3)
    with torch.no_grad():
        teacher.calibrate([images])
        stages = encoder(images)
        maps = patch_maps(teacher, stages, 16).float()
    scale = torch.from_numpy(patch_scale(encoder.channels))
    exact = torch.stack(
        [
            h.standardise(s).unflatten(2, (2, 2)).unflatten(4, (4, 2)).mean((3, 5))
            for h, s in zip(teacher.heads, stages, strict=True)
        ],
        1,
    )
    error = (maps * scale[None, :, :, None, None] - exact.clamp(-6, 6)).abs()
    assert maps.shape == (2, 4, 400, 2, 4)
    assert float(error.max()) <= 0.5 * 6 / 127 + 1e-5
    assert float((error.square().mean() / exact.square().mean()).sqrt()) < 0.04


def test_channels_that_a_stage_lacks_have_no_scale():
    assert np.array_equal(patch_scale((2, 3)) > 0, [[True, True, False], [True, True, True]])


def test_hit_patches_are_unique_and_row_major():
    pixel = np.array([[0, 0], [15.9, 15.9], [16, 0], [63.9, 31.9]], dtype=np.float32)
    assert hit_patches(pixel, 4, 16).tolist() == [0, 1, 7]
