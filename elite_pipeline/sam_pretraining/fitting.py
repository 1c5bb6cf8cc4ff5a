"""The resumable training loop that both parts of the pre-training share."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from elite_pipeline.config import PretrainSam
from elite_pipeline.progress import progress

CHECKPOINT_EVERY = 100
"""Steps."""


MASKS_ONLY = {"mask_steps", "calibration_worlds"}
"""Settings that do not affect the training of the encoder.

If only these change, the checkpoint of the encoder stays valid and only the masks are trained again."""


def fit(
    module: nn.Module,
    loss: Callable[[int, np.random.Generator], torch.Tensor],
    settings: PretrainSam,
    *,
    steps: int,
    checkpoint: Path,
    label: str,
    learning_rate: float | None = None,
) -> None:
    """Train the parameters of `module` that require a gradient, for `steps` steps of AdamW.

    The learning rate has a linear warm-up and a cosine schedule. `loss(step, rng)` returns the scalar loss of a step.
    `checkpoint` holds the state of the run. An interrupted run with the same `settings` resumes from it.
    """
    peak = learning_rate or settings.learning_rate
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for _, p in named if p.ndim > 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed}, {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.98),
        weight_decay=settings.weight_decay,
    )
    identity = settings.model_dump(mode="json", exclude=MASKS_ONLY if label == "pretrain dense" else None)
    start = _resume(checkpoint, identity, module, optimiser)
    module.train()
    bar = progress(label=label, total=steps, unit="step", initial=start)
    for step in range(start, steps):
        rate = peak * min((step + 1) / max(1, settings.warmup), 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        total = loss(step, np.random.default_rng((settings.seed, *label.encode(), step)))
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimiser.step()
        bar.set_postfix(loss=f"{total.item():.3f}", refresh=False)
        bar.update()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            state = {"module": module.state_dict(), "optimiser": optimiser.state_dict()}
            _save(checkpoint, {"settings": identity, "step": step + 1, **state})
    bar.close()


def _resume(checkpoint: Path, identity: dict[str, Any], module: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load `checkpoint` and return the next step; return 0 if it is missing or has other settings."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if state["settings"] != identity:
        print(f"{checkpoint} has other settings. Training restarts from step 0 and overwrites it.")
        return 0
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"]


def _save(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
