"""Training a student: resumable, and on a CPU the same bits however often it was interrupted.

Nothing random is drawn from a shared state. Which scans a step sees, and how they are changed, follow from the seed and
the step alone, so that a checkpoint is a step, the weights and the optimiser.
"""

import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from elite_pipeline import losses
from elite_pipeline.config import Losses, Student, TrainStudent
from elite_pipeline.datasets.semantickitti import CLASSES
from elite_pipeline.errors import InputError
from elite_pipeline.examples import Batch, Examples, collate
from elite_pipeline.progress import progress
from elite_pipeline.provenance import code_digest
from elite_pipeline.schedule import warm_up_cosine
from elite_pipeline.student.model import build
from elite_pipeline.student.spvcnn import SPVCNN, StageHeads
from elite_pipeline.student.voxels import majority, pairs


class Learner(nn.Module):
    """The student with the heads that only training needs."""

    def __init__(self, student: SPVCNN, classes: int):
        super().__init__()
        self.student = student
        self.heads = StageHeads(stages=len(student.scales), width=student.width, classes=classes)

    def forward(self, points, scan, scans):
        """The pyramid of a batch, the student's logits (V, K) and each stage's (V_s, K), per voxel."""
        pyramid = self.student.voxelise(points, scan, scans)
        logits, stages = self.student(pyramid)
        return pyramid, logits, self.heads(stages)


def total_loss(output, batch: Batch, student: SPVCNN, weights: Tensor, settings: Losses):
    """The sum of all losses, and its parts by name. With S stages (ELiTe's code, its 2D losses aside):

    L = CE + l * Lovasz  +  a * sum_s (CE_s + m * Lovasz_s)  +  d / S * sum_s KL_s

    CE and Lovasz are over points; CE_s and Lovasz_s, of stage s's own 3D head, over voxels with their majority label;
    KL_s is of that head against the teacher's stage s, over the points that the teacher saw.
    """
    pyramid, logits, stages = output
    # Points of one voxel have the same logits: a loss over points is one over the distinct pairs of voxel and label.
    voxel, label, repeats = pairs(pyramid[student.scales[0]].of_point, batch.labels)
    logits, s, zero = logits.index_select(0, voxel), settings, logits.new_zeros(())
    cross_entropy = losses.cross_entropy(logits, label, weights, repeats)
    lovasz = losses.lovasz_softmax(logits.softmax(dim=1), label, repeats) if s.lovasz else zero
    auxiliary, distillation = zero, zero
    for index, (stage, stride) in enumerate(zip(stages, student.strides, strict=True)):
        of_point = pyramid[stride].of_point
        label = majority(batch.labels, of_point, len(stage), len(CLASSES))
        auxiliary = auxiliary + losses.cross_entropy(stage, label, weights)
        if s.auxiliary_lovasz:
            auxiliary = auxiliary + s.auxiliary_lovasz * losses.lovasz_softmax(stage.softmax(dim=1), label)
        if s.distillation and len(batch.taught):
            seen, answers = stage.index_select(0, of_point[batch.taught]), batch.teacher[:, index]
            distillation = distillation + losses.distillation(
                seen, answers, temperature=s.temperature, reduction=s.reduction
            ) / len(stages)  # fmt: skip
    parts = {
        "cross_entropy": cross_entropy,
        "lovasz": s.lovasz * lovasz,
        "auxiliary": s.auxiliary * auxiliary,
        "distillation": s.distillation * distillation,
    }
    return torch.stack(list(parts.values())).sum(), parts


@dataclass(frozen=True)
class Trained:
    """What `train` ends with."""

    student: SPVCNN
    steps: int
    log: Path
    """JSON lines, one per step: losses, learning rate, norm of the gradient, seconds."""


def train(examples: Examples, settings: Student, run: Path) -> Trained:
    """A student of `examples`, trained on the device there is.

    Checkpoints lie in a folder of `run` named after the settings, the data and the code, so that a run goes on where
    the same run was interrupted and nowhere else.
    """
    options = settings.train_student
    torch.set_num_threads(options.threads)
    fabric = _fabric(options.precision)
    torch.manual_seed(options.seed)
    student = build(settings.network, len(CLASSES))
    learner = Learner(student, len(CLASSES))
    learner, optimiser = fabric.setup(learner, _optimiser(options, learner.parameters()))
    counts = examples.label_counts()
    weights = losses.class_weights(counts).to(fabric.device)
    _check_stages(examples, settings)
    code = code_digest("training.py", "examples.py", "augmentation.py", "losses.py", "schedule.py", "student/*.py")
    run = run / fingerprint(settings, examples.digest(), code)
    run.mkdir(parents=True, exist_ok=True)
    scans_per_step = options.batch * fabric.world_size
    steps = math.ceil(options.epochs * len(examples) / scans_per_step)
    start = _restore(run / "checkpoint.pt", fabric, learner, optimiser)
    if start:
        print(f"resumed from {run} at step {start} of {steps}")
    log = _Log(run / "training.jsonl", start)
    learner.train()
    with progress(label="train_student", total=steps, initial=start, unit="step") as bar:
        for step in range(start, steps):
            began = time.perf_counter()
            batch = draw(examples, settings, step * scans_per_step + fabric.global_rank * options.batch)
            rate = options.learning_rate * warm_up_cosine(step, steps, options.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate
            values = _step(fabric, learner, optimiser, batch.to(fabric.device), weights, settings)
            if not math.isfinite(values["loss"]):
                raise InputError(f"the loss is {values['loss']} at step {step}: lower train_student.learning_rate")
            log.write(step=step, **values, learning_rate=rate, seconds=round(time.perf_counter() - began, 4))
            bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            bar.update()
            if (step + 1) % options.checkpoint_every == 0 or step + 1 == steps:
                _save(run / "checkpoint.pt", fabric, step + 1, learner, optimiser)
    return Trained(student, steps, log.path)


def draw(examples: Examples, settings: Student, position) -> Batch:
    """The batch that starts at `position` of the endless stream of shuffled epochs."""
    options, scans = settings.train_student, []
    for place in range(position, position + options.batch):
        epoch, index = divmod(place, len(examples))
        order = torch.randperm(len(examples), generator=_generator(options.seed, 0, epoch))
        example = examples[int(order[index])]
        scans.append(example.augmented(settings.augmentation, _generator(options.seed, 1, place)))
    return collate(scans)


def fingerprint(settings: Student, *identities):
    """16 hexadecimal digits that change with the settings and with `identities` of the data."""
    text = json.dumps([settings.model_dump(), *map(str, identities)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _step(fabric, learner, optimiser, batch, weights, settings):
    """One step of the optimiser; the losses and the gradient's norm by name."""
    optimiser.zero_grad()
    output = learner(batch.points, batch.scan, batch.scans)
    loss, parts = total_loss(output, batch, learner.student, weights, settings.losses)
    fabric.backward(loss)
    # Under 16-mixed a non-finite gradient is a matter of the loss scale, which the scaler sees to.
    norm = fabric.clip_gradients(learner, optimiser, max_norm=settings.train_student.clip, error_if_nonfinite=False)
    optimiser.step()
    return {name: value.item() for name, value in {"loss": loss, **parts, "gradient": norm}.items()}


def _fabric(precision):
    cuda = torch.cuda.is_available()
    if precision == "16-mixed" and not cuda:
        raise InputError("train_student.precision 16-mixed needs a GPU, and there is none: write 32-true")
    # Processes are ours to start, also inside a SLURM job, where Fabric would otherwise look for srun's.
    here = LightningEnvironment()
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=1, precision=precision, plugins=here)


def _optimiser(options: TrainStudent, parameters):
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)


def _check_stages(examples, settings):
    wanted = len(settings.network.scales)
    for recorded in examples.sequences:
        if settings.losses.distillation and recorded.stages not in (None, wanted):
            raise InputError(
                f"the teacher of {recorded.recording.folder} has {recorded.stages} stages and the student {wanted}:"
                " give network.scales as many entries as the teacher has stages, or set losses.distillation: 0"
            )


def _generator(*seeds):
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _save(path, fabric, step, learner, optimiser):
    """Write a checkpoint aside and rename it, so that the one at `path` is always whole."""
    if not fabric.is_global_zero:
        return
    state = {
        "step": step,
        "learner": learner.state_dict(),
        "optimiser": optimiser.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),
    }
    torch.save(state, path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


def _restore(path, fabric, learner, optimiser):
    """Load the checkpoint at `path`, if there is one; the number of steps done."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=fabric.device, weights_only=True)
    learner.load_state_dict(state["learner"])
    optimiser.load_state_dict(state["optimiser"])
    fabric.strategy.precision.load_state_dict(state["precision"])
    return state["step"]


class _Log:
    """JSON lines, one per step; steps from `start` on, which an interrupted run left behind, are dropped."""

    def __init__(self, path, start):
        self.path = path
        lines = path.read_text().splitlines(keepends=True)[:start] if path.exists() else []
        path.write_text("".join(lines))

    def write(self, **values):
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
