"""Tune a teacher on pseudo-labels, measure it, and write its model card.

An interrupted run can be resumed. On a CPU it ends with exactly the same weights.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from elite_pipeline.config import TeacherToTune, TuneTeacher
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.progress import progress
from elite_pipeline.sam.view import View
from elite_pipeline.soft_labels import predicted_class
from elite_pipeline.teacher import adapters
from elite_pipeline.teacher.heads import EncoderStages, StageTeacher
from elite_pipeline.teacher.image_network import SegmentationTeacher
from elite_pipeline.teacher.tuning_images import ImageBatch, LabelledImages
from elite_pipeline.training.losses import class_weights, cross_entropy, lovasz_softmax
from elite_pipeline.training.schedule import warm_up_cosine

STATISTICS_IMAGES = 100
"""Number of images for the standardisation of features and for the measurement of the result, spread evenly."""

COUNTED_IMAGES = 1000
"""Number of images in which the pixels of each class are counted for the class weights, spread evenly.

It is larger than `STATISTICS_IMAGES` because some classes are rare."""

CLIP = 1.0
"""Largest gradient norm, as in ELiTe."""

ELITE_TRAINS = {"vit_b": {"adapters": 1_991_520, "upscalers": 2_656_896}}
"""Encoder -> number of parameters that ELiTe's released code trains.

It puts AdaLoRA with initial rank 12 on q, k, v, proj, lin1 and lin2."""

MODEL_CARD = """\
---
library_name: peft
tags: [image-segmentation, segment-anything, lidar]
---
# Teacher: {encoder} with {method} and 2D heads

An image encoder with 2D heads that predict the class of any pixel. `elite_pipeline` tuned it (rule `tune_teacher`) as
the teacher of a LiDAR network. It was trained on pseudo-labels, which were made from the labelled LiDAR points of the
training sequences.

- Input: RGB images scaled to {side} pixels on the longest side
- Trainable parameters: {sizes}
{elite}- Classes: {names}

The accuracy and the mIoU below are measured at the visible labelled points of *training* images. They show how well
the teacher fits its training data, not how well it generalises. The mIoU is the mean over the classes that occur.

| stage | accuracy | mIoU |
|---|---|---|
{stages}

| class, last stage | IoU |
|---|---|
{classes}

Files: `adapter_config.json` and `adapter_model.safetensors` (peft; only with an adapter), `heads.safetensors` (heads
and the standardisation of their inputs), `teacher.json` (settings, classes, versions, digests of the inputs).
"""


def tune(
    teacher: EncoderStages | SegmentationTeacher,
    view: View,
    images: LabelledImages,
    settings: TeacherToTune,
    run: Path,
    *,
    device: str | torch.device = "cpu",
) -> None:
    """Train the adapter and the heads of `teacher` on `images`. The teacher must predict classes.

    run: folder for the checkpoint. If it already holds one, training resumes from it.

    Raises `InputError` where `device` lacks the precision of `view`, an image is damaged, or an image is too large for
    the encoder.
    """
    assert isinstance(teacher, StageTeacher | SegmentationTeacher)
    rule, of_steps, folder = settings.tune_teacher, settings.tune_teacher.of_steps, Path(run)
    view.autocast(device)  # raises now, not after hours, if the device lacks the precision
    if view.precision == "16-mixed":
        # Small gradients vanish in float16. Therefore float16, unlike bfloat16, is only used for the frozen teacher.
        view = replace(view, precision="32-true")
    teacher.to(device).train()
    trained = {name: p for name, p in teacher.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(trained.values(), lr=of_steps.learning_rate, weight_decay=of_steps.weight_decay)
    checkpoint = folder / "checkpoint.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        teacher.load_state_dict(state["teacher"], strict=False)
        optimiser.load_state_dict(state["optimiser"])
        adapters.restore_allocator(teacher.encoder, state["allocator"])
        start, weights = state["step"], state["weights"]
    else:
        standardise(teacher, view, images, device=device)
        weights = class_weights(torch.from_numpy(class_pixels(images))).to(device)

    every = max(10, rule.steps // 40)
    bar = progress(total=rule.steps, label="tune_teacher", unit="step", initial=start)
    for step, batch in _prefetch(images, view, rule, start):
        for group in optimiser.param_groups:
            group["lr"] = of_steps.learning_rate * warm_up_cosine(step, rule.steps, of_steps.warmup)
        batch = batch.to(device)
        with view.autocast(device):
            logits = teacher.point_logits(batch.images, batch.pixels)
        loss = segmentation_loss(logits.float(), batch.labels, weights, of_steps.lovasz)
        loss = loss + adapters.orthogonality(teacher.encoder, settings.peft)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)
        optimiser.step()
        adapters.allocate_ranks(teacher.encoder, settings.peft, step)
        optimiser.zero_grad()
        bar.set_postfix_str(f"loss {float(loss.detach()):.3f}", refresh=False)
        bar.update()
        if (step + 1) % every == 0:
            state = {name: value for name, value in teacher.state_dict().items() if not name.startswith("encoder.")}
            _save_checkpoint(
                checkpoint,
                step=step + 1,
                teacher={**state, **{name: p.detach() for name, p in trained.items()}},
                optimiser=optimiser.state_dict(),
                allocator=adapters.allocator_state(teacher.encoder, settings.peft),
                weights=weights,
            )
    bar.close()
    teacher.eval()


def standardise(
    teacher: EncoderStages | SegmentationTeacher,
    view: View,
    images: LabelledImages,
    *,
    device: str | torch.device = "cpu",
) -> int:
    """Set the mean and standard deviation of the features of `teacher`, measured on at most `STATISTICS_IMAGES` images.

    A frozen encoder needs no other preparation. Returns the number of images. Raises `InputError` where `tune` does.
    """
    teacher.to(device)
    some = images.spread(STATISTICS_IMAGES)
    seen = progress(some, label="standardise features", unit="image")
    with view.autocast(device):
        teacher.calibrate(view.prepare(images.image(i))[None].to(device) for i in seen)
    return len(some)


def trainable_parameters(teacher: EncoderStages | SegmentationTeacher) -> dict[str, int]:
    """Return the numbers of trainable parameters, {"encoder": ..., "heads": ..., "upscalers": ...}.

    The upscalers are part of the heads.
    """

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    heads = teacher.heads.named_parameters()
    upscalers = sum(p.numel() for name, p in heads if ".upscaler." in name and p.requires_grad)
    return {"encoder": count(teacher.encoder), "heads": count(teacher.heads), "upscalers": upscalers}


def elite_trains(encoder: str) -> str:
    """Return a sentence on the parameters that ELiTe's released code trains in `encoder`, and why they differ.

    Returns "" where the numbers are unknown.
    """
    if encoder not in ELITE_TRAINS:
        return ""
    return (
        "For comparison, ELiTe's released code trains {adapters:,} parameters in adapters and {upscalers:,} in"
        " upscalers. It has separate adapters of rank 12 on q, k and v; here, SAM's fused qkv has a single adapter"
    ).format(**ELITE_TRAINS[encoder])


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, lovasz: float) -> torch.Tensor:
    """Return the mean over stages of cross entropy + `lovasz` * Lovasz loss.

    logits: (n, S, K). labels: (n,). weights: (K,) class weights of the cross entropy.
    """
    stages = logits.unbind(1)
    losses = [cross_entropy(x, labels, weights) + lovasz * lovasz_softmax(x.softmax(1), labels) for x in stages]
    return torch.stack(losses).mean()


@torch.no_grad()
def agreement_at_points(
    teacher: EncoderStages | SegmentationTeacher,
    view: View,
    images: LabelledImages,
    *,
    device: str | torch.device = "cpu",
) -> list[Confusion]:
    """Compare the teacher's predictions with the labels of visible points, on at most `STATISTICS_IMAGES` images.

    The teacher must predict classes. Returns one `Confusion` per stage. Raises `InputError` where `tune` does.
    """
    assert isinstance(teacher, StageTeacher | SegmentationTeacher)
    stages = [Confusion(images.classes) for _ in teacher.heads]
    for item in progress(images.spread(STATISTICS_IMAGES), label="measure the teacher", unit="image"):
        image = images.image(item)
        pixel, label = images.points(item)
        pixel = torch.from_numpy(view.pixels(pixel, image.shape[:2])).to(device)
        with view.autocast(device):
            logits = teacher.point_logits(view.prepare(image)[None].to(device), [pixel])
        for s, agreement in enumerate(stages):
            agreement.add(label, predicted_class(logits[:, s]).cpu().numpy())
    return stages


def model_card(description: Mapping[str, Any]) -> str:
    """Text of the `README.md` in the folder of a tuned teacher.

    description: the content of its `teacher.json`.
    """
    tuned, sizes, stages = (description[key] for key in ("settings", "trainable_parameters", "train_points"))
    return MODEL_CARD.format(
        encoder=tuned["encoder"],
        method=tuned["peft"]["method"],
        side=tuned["longest_side"],
        sizes=f"{sizes['encoder']:,} in adapters, {sizes['heads']:,} in heads ({sizes['upscalers']:,} in upscalers)",
        elite=f"- {elite}\n" if (elite := elite_trains(tuned["encoder"])) else "",
        names=", ".join(description["classes"]["names"][1:]),
        stages="\n".join(f"| {s} | {stage['accuracy']:.3f} | {stage['miou']:.3f} |" for s, stage in enumerate(stages)),
        classes="\n".join(f"| {name} | {iou:.3f} |" for name, iou in stages[-1]["iou"].items()),
    )


def class_pixels(images: LabelledImages) -> np.ndarray:
    """Return the number of pixels of each class, (K,) int64, in at most `COUNTED_IMAGES` images.

    Class 0 counts the unlabelled pixels. Raises `InputError` where labels are damaged.
    """
    items = images.spread(COUNTED_IMAGES)
    return np.sum([np.bincount(images.labels(i).ravel(), minlength=len(images.classes)) for i in items], axis=0)


def _prefetch(
    images: LabelledImages, view: View, rule: TuneTeacher, start: int, ahead: int = 3
) -> Iterator[tuple[int, ImageBatch]]:
    """Yield (step, batch) from step `start` on. Threads read the next `ahead` batches at the same time."""
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[Future[ImageBatch]] = deque()
        for step in range(start - ahead, rule.steps):
            if step + ahead < rule.steps:
                waiting.append(pool.submit(images.batch, view, step + ahead, rule.of_steps.batch, rule.seed))
            if step >= start:
                yield step, waiting.popleft().result()


def _save_checkpoint(path: Path, **state: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
