import copy
import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from elite_pipeline.config import EncoderSettings, Peft, TeacherToTune
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.errors import InputError
from elite_pipeline.sam import build as sam_build
from elite_pipeline.sam import view as sam_view
from elite_pipeline.sam.build import build_sam, untrained_sam
from elite_pipeline.sam.view import View
from elite_pipeline.teacher import adapters, storage, tuning, tuning_images
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import StageTeacher
from elite_pipeline.teacher.targets import answer

CLASSES = class_table("semantickitti")
LORA = Peft(method="lora", rank=2, alpha=4, targets=["qkv", "proj", "lin1", "lin2"])
ADALORA = Peft(method="adalora", rank=2, alpha=4, targets=["qkv", "lin2"], initial_rank=4, orthogonality=0.1)
NONE = Peft(method="none")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return StageEncoder(untrained_sam("sam_tiny").image_encoder).eval()


def test_trainable_parameters_equal_elites_except_for_the_fused_qkv():
    peft = Peft(
        method="adalora", rank=8, alpha=1, targets=["qkv", "proj", "lin1", "lin2"], initial_rank=12, orthogonality=0.1
    )
    with torch.device("meta"):
        encoder = adapters.attach(StageEncoder(untrained_sam("vit_b").image_encoder), peft, 600)
        sizes = tuning.trainable_parameters(StageTeacher(encoder, width=96, classes=len(CLASSES)))
    two_more_projections = 12 * 2 * (12 * 768 + 12)  # blocks x (rank x input + rank singular values)
    elite = tuning.ELITE_TRAINS["vit_b"]
    assert sizes["encoder"] == 1_770_048 == elite["adapters"] - two_more_projections
    assert sizes["upscalers"] == elite["upscalers"]
    assert sizes["heads"] == sizes["upscalers"] + 4 * (96 * 192 + 192 + 192 * 20 + 20)


@pytest.mark.parametrize("name", ["vit_b", "sam_tiny"])
def test_model_card_gives_the_parameter_count_of_elites_code_where_it_is_known(name):
    card = tuning.model_card(
        {
            "settings": {**settings(ADALORA).model_dump(mode="json"), "encoder": name},
            "classes": CLASSES.to_json(),
            "trainable_parameters": {"encoder": 1_770_048, "heads": 2_746_832, "upscalers": 2_656_896},
            "train_points": [{"accuracy": 1.0, "miou": 1.0, "iou": {"road": 1.0}}],
        }
    )
    assert "1,770,048 in adapters, 2,746,832 in heads (2,656,896 in upscalers)" in card
    assert ("1,991,520" in card) == (name == "vit_b")
    assert "\n\n\n" not in card


class Pictures(tuning_images.LabelledImages):
    """Red squares of class 1 on a blue ground of class 9. The second image is smaller and has one labelled pixel."""

    def __init__(self):
        self.items, self.classes = [(0, 0, 0), (0, 1, 0), (0, 2, 0)], CLASSES
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
    return StageTeacher(adapted, width=8, classes=len(CLASSES)), View(64, 16)


def test_tuning_raises_the_measured_accuracy(tmp_path):
    chosen = settings()
    teacher, view = build(StageEncoder(build_sam("sam_tiny").image_encoder).eval(), chosen)
    untuned = tuning.agreement_at_points(teacher.eval(), view, Pictures())
    tuning.tune(teacher, view, Pictures(), chosen, tmp_path)
    tuned = tuning.agreement_at_points(teacher, view, Pictures())
    assert min(a.accuracy for a in tuned) > 0.9
    assert max(a.accuracy for a in untuned) < 0.9


@pytest.mark.parametrize("peft", [LORA, ADALORA, NONE], ids=["lora", "adalora", "none"])
def test_a_killed_and_resumed_run_ends_with_the_same_weights(peft, encoder, tmp_path):
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


def digest(encoder):
    """sha256 of all weights and buffers of an encoder without its adapter, including normalisation statistics."""
    bare = {
        name.removeprefix("base_model.model.").replace("base_layer.", ""): value
        for name, value in encoder.state_dict().items()
        if "lora_" not in name and "ranknum" not in name
    }
    return hashlib.sha256(b"".join(name.encode() + bare[name].numpy().tobytes() for name in sorted(bare))).hexdigest()


@pytest.mark.parametrize("peft", [LORA, ADALORA, NONE], ids=["lora", "adalora", "none"])
def test_tuning_leaves_the_base_weights_bit_identical(peft, encoder, tmp_path):
    chosen = settings(peft, steps=6)
    teacher, view = build(encoder, chosen)
    assert any("running_mean" in name for name in encoder.state_dict())
    tuning.tune(teacher, view, Pictures(), chosen, tmp_path)
    assert digest(teacher.encoder) == digest(encoder)


def test_ranks_move_after_the_step_and_before_the_gradients_are_cleared(encoder, tmp_path, monkeypatch):
    from peft.tuners.adalora import AdaLoraModel

    events = []
    original = AdaLoraModel.update_and_allocate

    def allocate(model, step):
        trained = [p for name, p in model.named_parameters() if "lora_" in name]
        events.append(("allocate", step, all(p.grad is not None for p in trained)))
        original(model, step)

    def clear(optimiser, set_to_none=True):
        events.append(("clear",))
        zero_grad(optimiser, set_to_none)

    zero_grad = torch.optim.Optimizer.zero_grad
    monkeypatch.setattr(AdaLoraModel, "update_and_allocate", allocate)
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", clear)
    hook = register_optimizer_step_post_hook(lambda *_: events.append(("step",)))
    chosen = settings(ADALORA, steps=4)
    teacher, view = build(encoder, chosen)
    tuning.tune(teacher, view, Pictures(), chosen, tmp_path)
    hook.remove()
    assert events == [event for step in range(4) for event in (("step",), ("allocate", step, True), ("clear",))]


@pytest.mark.parametrize(("precision", "tuned_in"), [("bf16-mixed", torch.bfloat16), ("16-mixed", None)])
def test_tuning_runs_at_the_configured_precision(encoder, tmp_path, monkeypatch, precision, tuned_in):
    """A CPU refuses 16-mixed. On a GPU that supports 16-mixed, tuning runs in float32."""
    monkeypatch.setattr(sam_view, "_precisions", lambda kind: list(sam_view.PRECISIONS))
    chosen = settings(steps=3)
    teacher, view = build(encoder, chosen)
    seen = set()
    layer = teacher.get_submodule("heads.0.classifier.0")
    layer.register_forward_hook(lambda _layer, _inputs, output: seen.add(output.dtype))
    tuning.tune(teacher, dataclasses.replace(view, precision=precision), Pictures(), chosen, tmp_path)
    assert seen == {tuned_in or torch.float32}
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in teacher.parameters())


def test_a_precision_that_the_device_lacks_is_refused_before_tuning(encoder, tmp_path):
    chosen = settings()
    teacher, view = build(encoder, chosen)
    with pytest.raises(InputError, match="precision 16-mixed is not supported by the cpu of this machine"):
        tuning.tune(teacher, dataclasses.replace(view, precision="16-mixed"), Pictures(), chosen, tmp_path)


def test_a_loaded_teacher_runs_at_the_configured_precision(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(sam_view, "_precisions", lambda kind: list(sam_view.PRECISIONS))
    monkeypatch.setattr(sam_build, "build_sam", lambda *_: copy.deepcopy(whole))
    whole = untrained_sam("sam_tiny").eval()
    teacher = StageTeacher(StageEncoder(whole.image_encoder), width=8, classes=len(CLASSES))
    description = {"settings": settings(NONE).model_dump(mode="json"), "classes": CLASSES.to_json(), "kind": "stages"}
    storage.save(teacher, tmp_path / "adapter", description)
    image, pixel = Pictures().image(0), np.array([[5.0, 6.0], [40.0, 20.0]], np.float32)
    logits = {}
    for precision in ("32-true", "bf16-mixed"):
        loaded, view = storage.load(
            tmp_path / "adapter", EncoderSettings(encoder="sam_tiny", longest_side=64, precision=precision), CLASSES
        )
        assert view.precision == precision
        logits[precision] = answer(loaded, view, [image], [pixel], features=True)[0]["logits"].astype(np.float32)
    assert not np.array_equal(*logits.values())
    np.testing.assert_allclose(*logits.values(), atol=0.05)


def test_batches_depend_only_on_seed_and_step_and_cover_an_epoch():
    view, pictures = View(64, 16), Pictures()
    a, b, c = (pictures.batch(view, 5, 3, seed) for seed in (0, 0, 1))
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, c.images)
    assert a.images.shape == (3, 3, 32, 64)
    assert sorted(len(pixel) for pixel in a.pixels) == [1, 2048, 2048]  # each image once
    assert (a.labels > 0).all()


def test_mirrored_labels_stay_on_their_pixels():
    pictures, flips = Pictures(), set()
    for seed in range(8):
        image, label = tuning_images.augment(pictures.image(0), pictures.labels(0), np.random.default_rng(seed))
        assert image.dtype == np.uint8
        assert np.array_equal(image[..., 0].astype(int) > image[..., 2], label == 1)
        flips.add(bool(label[10, 2] == 9))
    assert flips == {True, False}


def test_positions_are_centres_of_labelled_pixels():
    label = np.zeros((5, 7), np.uint8)
    pixel, drawn = tuning_images.draw_positions(label, np.random.default_rng(0))
    assert pixel.shape == (0, 2)
    label[4, 6] = 19
    pixel, drawn = tuning_images.draw_positions(label, np.random.default_rng(0))
    assert pixel.tolist() == [[6.5, 4.5]]
    assert drawn.tolist() == [19]


def test_loss_of_a_batch_without_labels_is_zero_and_finite():
    logits = torch.randn(4, 2, 20, requires_grad=True)
    loss = tuning.segmentation_loss(logits, torch.zeros(4, dtype=torch.int64), torch.ones(20), 1.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.isfinite(logits.grad).all()


def test_a_folder_with_another_teacher_or_none_is_refused(encoder, tmp_path):
    teacher, _ = build(encoder, settings(NONE))
    description = {"settings": settings(NONE).model_dump(mode="json"), "classes": CLASSES.to_json(), "kind": "stages"}
    storage.save(teacher, tmp_path / "adapter", description)
    with pytest.raises(InputError, match="longest_side=64, not 128"):
        storage.load(tmp_path / "adapter", EncoderSettings(encoder="sam_tiny", longest_side=128), CLASSES)
    with pytest.raises(InputError, match="no tuned teacher"):
        storage.load(tmp_path / "missing", EncoderSettings(encoder="sam_tiny", longest_side=64), CLASSES)


def test_a_frozen_encoder_is_saved_with_only_its_standardisation(tmp_path, monkeypatch):
    monkeypatch.setattr(sam_build, "build_sam", lambda *_: copy.deepcopy(whole))
    whole = untrained_sam("sam_tiny").eval()
    chosen = TeacherToTune.model_validate(
        {"encoder": "sam_tiny", "longest_side": 64, "tune_teacher": {"steps": 0}},
    )
    teacher, view = storage.build_teacher(chosen, CLASSES, "frozen")
    assert tuning.standardise(teacher, view, Pictures()) == 3
    description = {"settings": chosen.model_dump(mode="json"), "classes": None, "kind": "frozen"}
    storage.save(teacher, tmp_path / "adapter", description)
    loaded, view = storage.load(tmp_path / "adapter", EncoderSettings(encoder="sam_tiny", longest_side=64), CLASSES)
    image, pixel = Pictures().image(0), np.array([[5.0, 6.0], [40.0, 20.0]], np.float32)
    before, after = (
        answer(each, view, [image], [pixel], logits=False, features=True)[0]["patch_feature"]
        for each in (teacher.eval(), loaded)
    )
    assert np.array_equal(before, after)
    assert before.shape == (2, 4, 416)
    assert not any(p.requires_grad for p in teacher.parameters())
