"""Trains a network. Training is resumable; on a CPU, a resumed run ends in the same bits as an uninterrupted one.

The scans of a step depend only on the seed and the step (`sampling.py`). So a checkpoint needs only the step, the
weights and the optimiser.
"""

import hashlib
import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from elite_pipeline import sources
from elite_pipeline.config import Augmentation, Schedule
from elite_pipeline.config.validation import Section
from elite_pipeline.distributed import start
from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress
from elite_pipeline.training.examples import Batch, Examples
from elite_pipeline.training.loader import batches, readers_for
from elite_pipeline.training.sampling import scans_per_batch, steps_of
from elite_pipeline.training.schedule import warm_up_cosine

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Task(ABC):
    """A network to train, with its settings, its data and its loss."""

    name: str
    """Name of the stage, and of the section for `options`. If its code changes, an interrupted run is not resumed."""
    settings: Section
    augmentation: Augmentation
    options: Schedule
    examples: Examples
    learner: nn.Module
    frozen: Sequence[nn.Module] = ()
    """Parts of the learner that are not trained and stay in evaluation mode."""
    identity: Sequence[str] = ()
    """Further texts that identify what the result depends on."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trainable parameters, in groups with their `share` of the learning rate."""
        return [{"params": [p for p in self.learner.parameters() if p.requires_grad], "share": 1.0}]

    def to(self, device: torch.device) -> None:  # noqa: B027 (most tasks need nothing)
        """Move everything that `loss` needs, except the learner, to `device`."""

    @abstractmethod
    def loss(self, learner: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, its parts by name) of the batch of a step. learner: the task's own, or Fabric's wrapper around it."""


@dataclass(frozen=True)
class Trained:
    """The result of `train`."""

    steps: int
    log: Path
    """JSON lines, one per step: losses, learning rate, norm of the gradient, seconds, and the part of these seconds
    spent waiting for scans."""
    processes: int
    """Number of processes that trained together."""
    writes: bool
    """Whether this process writes the results and removes the folder of `log`. It is True in one process only."""


def train(task: Task, run: Path) -> Trained:
    """Train `task.learner` on the available device, or on one device per process (`distributed.py`).

    Checkpoints lie in a subfolder of `run`. Its name depends on the settings, the data, the code and the number of
    processes, so only the same run can resume from them. Only the first process reads and writes them, so machines need
    not share `run`. Raises `InputError` where the machine does not meet the settings, a scan cannot be read, or the
    loss is not finite.
    """
    options = task.options
    fabric = start(options.processes, options.precision, task.name)
    torch.set_num_threads(options.threads)
    learner, optimiser = fabric.setup(task.learner, _optimiser(options, task.parameter_groups()))
    task.to(fabric.device)
    code = sources.digest(task.name)
    run = run / fingerprint(task.settings, task.examples.digest(), code, fabric.world_size, *task.identity)
    steps = steps_of(task.examples, options, fabric.world_size)
    scans = scans_per_batch(task.examples, options)
    done = _restore(run / "checkpoint.pt", fabric, learner, optimiser)
    log = _Log(run / "training.jsonl", task.name, done, steps, writes=fabric.is_global_zero)
    learner.train()
    for part in task.frozen:
        part.eval()
    given = batches(
        task.examples,
        task.augmentation,
        options,
        range(done, steps),
        place=fabric.global_rank * scans,
        stride=fabric.world_size * scans,
        readers=readers_for(fabric.device, options.threads, task.name, processes=fabric.world_size),
    )
    with log, closing(given):
        for step in range(done, steps):
            began = time.perf_counter()
            batch = next(given).to(fabric.device)
            waited = time.perf_counter() - began
            rate = options.learning_rate * warm_up_cosine(step, steps, options.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"]
            values = _step(fabric, learner, optimiser, task, batch, step)
            if not math.isfinite(values["loss"]):
                raise InputError(f"the loss is {values['loss']} at step {step}: lower {task.name}.learning_rate")
            seconds = time.perf_counter() - began
            log.write(step=step, **values, learning_rate=rate, seconds=round(seconds, 4), waited=round(waited, 4))
            if (step + 1) % options.checkpoint_every == 0 or step + 1 == steps:
                _save(run / "checkpoint.pt", fabric, step + 1, learner, optimiser)
    return Trained(steps, log.path, fabric.world_size, writes=fabric.is_global_zero)


def fingerprint(settings: Section, *identities: object) -> str:
    """16 hexadecimal digits that depend on the settings and on `identities` of the data."""
    text = json.dumps([settings.model_dump(), *map(str, identities)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _step(
    fabric: "Fabric", learner: nn.Module, optimiser: torch.optim.Optimizer, task: Task, batch: Batch, step: int
) -> dict[str, float]:
    """Take one step of the optimiser. Returns the losses and the norm of the gradient by name."""
    optimiser.zero_grad()
    loss, parts = task.loss(learner, batch, step)
    fabric.backward(loss)
    # With 16-mixed, a gradient that is not finite is caused by the loss scale. The scaler handles it.
    norm = fabric.clip_gradients(learner, optimiser, max_norm=task.options.clip, error_if_nonfinite=False)
    optimiser.step()
    return {name: value.item() for name, value in {"loss": loss, **parts, "gradient": norm}.items()}


def _optimiser(options: Schedule, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimiser == "sgd":
        return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True, weight_decay=decay)
    return torch.optim.AdamW(groups, rate, weight_decay=decay)


def _save(path: Path, fabric: "Fabric", step: int, learner: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write a checkpoint to another file and rename it, so the checkpoint at `path` is always complete."""
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


def _restore(path: Path, fabric: "Fabric", learner: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load the checkpoint at `path` if the first process finds one. Returns the number of steps done."""
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
    """JSON lines, one per step, and the progress bar. Both exist only in the process that `writes`.

    Lines of steps from `done` on, which an interrupted run left behind, are removed.
    """

    def __init__(self, path: Path, label: str, done: int, steps: int, *, writes: bool) -> None:
        self.path, self.writes = path, writes
        if not writes:
            self.bar = tqdm(disable=True)
            return
        if done:
            print(f"resumed from {path.parent} at step {done} of {steps}")
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines(keepends=True)[:done] if path.exists() else []
        path.write_text("".join(lines))
        self.bar = progress(label=label, total=steps, initial=done, unit="step")

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def write(self, **values: float) -> None:
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
        self.bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
        self.bar.update()
