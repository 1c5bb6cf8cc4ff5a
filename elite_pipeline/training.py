"""Training a student: resumable, and on a CPU the same bits however often it was interrupted.

Which scans a step sees follows from the seed and the step alone (`sampling.py`), so that a checkpoint is a step, the
weights and the optimiser.
"""

import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from elite_pipeline import losses
from elite_pipeline.config import Student, TrainStudent
from elite_pipeline.datasets.semantickitti import CLASSES
from elite_pipeline.errors import InputError
from elite_pipeline.examples import Examples
from elite_pipeline.objective import ClassWeights, Learner, total_loss
from elite_pipeline.processes import start
from elite_pipeline.progress import progress
from elite_pipeline.provenance import code_digest
from elite_pipeline.sampling import draw
from elite_pipeline.schedule import warm_up_cosine
from elite_pipeline.student.model import build
from elite_pipeline.student.spvcnn import SPVCNN

CODE = [
    f"{module}.py"
    for module in (
        "training",
        "processes",
        "objective",
        "losses",
        "schedule",
        "examples",
        "recorded",
        "sampling",
        "mixing",
        "augmentation",
        "student/*",
    )
]
"""On which the trained weights depend: an interrupted run does not go on under other code."""


@dataclass(frozen=True)
class Trained:
    """What `train` ends with."""

    student: SPVCNN
    steps: int
    log: Path
    """JSON lines, one per step: losses, learning rate, norm of the gradient, seconds."""
    processes: int
    """How many trained together."""
    writes: bool
    """Whether this process is the one of them that writes what comes out, and removes `log`'s folder."""


def train(examples: Examples, settings: Student, run: Path) -> Trained:
    """A student of `examples`, trained on the device there is, or on as many as there are processes (`processes.py`).

    Checkpoints lie in a folder of `run` named after the settings, the data, the code and the number of processes, so
    that a run goes on where the same run was interrupted and nowhere else. The first process alone reads and writes
    them, so that machines need not share `run`.
    """
    options = settings.train_student
    _check_stages(examples, settings)
    fabric = start(options.processes, options.precision)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    student = build(settings.network, len(CLASSES))
    learner = Learner(student, len(CLASSES), _feature_channels(examples, settings))
    for stage, projection in enumerate(learner.projections):
        # DDP waits for the gradient of every parameter that asks for one.
        projection.requires_grad_(stage in settings.losses.stages)
    learner, optimiser = fabric.setup(learner, _optimiser(options, learner.parameters()))
    weights = _class_weights(examples, settings, fabric.device)
    code = code_digest(*CODE)
    run = run / fingerprint(settings, examples.digest(), code, fabric.world_size)
    scans_per_step = options.batch * fabric.world_size
    steps = options.steps or math.ceil((options.epochs or 0) * len(examples) / scans_per_step)
    done = _restore(run / "checkpoint.pt", fabric, learner, optimiser)
    log = _Log(run / "training.jsonl", done, steps, writes=fabric.is_global_zero)
    learner.train()
    with log:
        for step in range(done, steps):
            began = time.perf_counter()
            batch = draw(examples, settings, step * scans_per_step + fabric.global_rank * options.batch)
            rate = options.learning_rate * warm_up_cosine(step, steps, options.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate
            values = _step(fabric, learner, optimiser, batch.to(fabric.device), weights, settings)
            if not math.isfinite(values["loss"]):
                raise InputError(f"the loss is {values['loss']} at step {step}: lower train_student.learning_rate")
            log.write(step=step, **values, learning_rate=rate, seconds=round(time.perf_counter() - began, 4))
            if (step + 1) % options.checkpoint_every == 0 or step + 1 == steps:
                _save(run / "checkpoint.pt", fabric, step + 1, learner, optimiser)
    return Trained(student, steps, log.path, fabric.world_size, writes=fabric.is_global_zero)


def fingerprint(settings: Student, *identities):
    """16 hexadecimal digits that change with the settings and with `identities` of the data."""
    text = json.dumps([settings.model_dump(), *map(str, identities)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _class_weights(examples, settings, device):
    """The `ClassWeights` of all labelled scans, and of all of the teacher's answers where those are weighted."""
    answers = None
    if settings.losses.balanced and any(recorded.stages for recorded in examples.sequences):
        answers = losses.class_weights(examples.answer_counts()).to(device)
    return ClassWeights(losses.class_weights(examples.label_counts()).to(device), answers)


def _feature_channels(examples, settings):
    """Channels of the teacher's patch features where they are learnt, else 0."""
    if not settings.losses.features:
        return 0
    return max((recorded.feature_channels for recorded in examples.sequences), default=0)


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


def _optimiser(options: TrainStudent, parameters):
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)


def _check_stages(examples, settings):
    wanted = len(settings.network.scales)
    for recorded in examples.sequences:
        if settings.losses.taught and recorded.stages not in (None, wanted):
            raise InputError(
                f"the teacher of {recorded.recording.folder} has {recorded.stages} stages and the student {wanted}:"
                " give network.scales as many entries as the teacher has stages, or train without a teacher"
            )


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
    """Load the checkpoint that the first process finds at `path`, if it does; the number of steps done."""
    state = None
    if fabric.is_global_zero and path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
    state = fabric.broadcast(state)
    if state is None:
        return 0
    learner.load_state_dict(state["learner"])
    optimiser.load_state_dict(state["optimiser"])
    fabric.strategy.precision.load_state_dict(state["precision"])
    return state["step"]


class _Log:
    """JSON lines, one per step, and the progress bar; both only in the process that `writes`.

    Lines of steps from `done` on, which an interrupted run left behind, are dropped.
    """

    def __init__(self, path, done, steps, *, writes):
        self.path, self.writes = path, writes
        if not writes:
            self.bar = tqdm(disable=True)
            return
        if done:
            print(f"resumed from {path.parent} at step {done} of {steps}")
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines(keepends=True)[:done] if path.exists() else []
        path.write_text("".join(lines))
        self.bar = progress(label="train_student", total=steps, initial=done, unit="step")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def write(self, **values):
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
        self.bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
        self.bar.update()
