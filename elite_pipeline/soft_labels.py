"""Soft labels (the probabilities of a teacher for each class of a point), and their compact form in stores.

Class 0 (`IGNORE`) is not a class: no teacher learns it, and it has no part in a soft label.

The compact form names the likeliest classes, and states for each how much less likely it is than the first. All other
classes share one such number, so only their mean is kept. A number is a difference of logarithms in steps of `STEP`,
from 0 to 254 steps; 255 says that the class is excluded. So the ratio of a named class to the likeliest one is wrong by
at most a factor of exp(STEP / 2) = 1.025, and a probability below exp(-254.5 STEP) = 3e-6 of the likeliest becomes 0.
With at least five classes, a soft label takes eight bytes; the logits of 19 classes in float16 take 40.
"""

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from elite_pipeline.datasets.classes import IGNORE

Logits = TypeVar("Logits", np.ndarray, Tensor)

NAMED = 4
"""Classes that a compact soft label names, if there are as many."""

STEP = 0.05
"""Size of one step of a code, in units of the natural logarithm."""

NEVER = -1e4
"""Log-probability of `IGNORE` and of excluded classes: their probability is exactly zero, at any usual temperature. A
student with a shared classifier has such a logit for classes that its teacher does not know. Any small probability
times that logit would be a large divergence."""

EXCLUDED = 255
"""Code of a class whose probability becomes 0."""

TIE = 0.25
"""Code 0 means this many steps, so that the likeliest class stays the likeliest."""


def named(classes: int) -> int:
    """Returns how many classes a compact soft label names. classes: K, the number of classes with `IGNORE`."""
    return min(NAMED, classes - 1)


def encode(logits: Tensor) -> Tensor:
    """Returns the compact form of `logits` (..., K): (..., 2T) uint8, T = `named(K)`.

    The first T numbers are the likeliest classes, in order. The next T - 1 say how much less likely than the first the
    others are. The last one says it of the mean of all remaining classes. Logits need not be normalised. Raises
    `ValueError` where a soft label has no likeliest class, because its logits are not numbers or not finite.
    """
    count = named(logits.shape[-1])
    values, ids = logits[..., 1:].float().topk(count, dim=-1)
    likeliest = values[..., :1]
    if not likeliest.isfinite().all():
        raise ValueError("logits are not finite, so they are no soft label")
    rest = logits[..., 1:].float().scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    remaining = max(logits.shape[-1] - 1 - count, 1)
    below = likeliest - torch.cat([values[..., 1:], rest - np.log(remaining)], dim=-1)
    codes = (below / STEP).round().clamp(0, 255)
    return torch.cat([ids + 1, codes.long()], dim=-1).to(torch.uint8)


def decode(codes: Tensor, classes: int) -> Tensor:
    """Returns the log-probabilities of compact soft labels `codes` (..., 2T): (..., K) float32, K = `classes`.

    `IGNORE` gets `NEVER`.
    """
    count = codes.shape[-1] // 2
    below = codes[..., count:].float().clamp_min(TIE) * -STEP
    below = torch.where(codes[..., count:] == EXCLUDED, NEVER, below)
    found = below[..., -1:].expand(*codes.shape[:-1], classes).clone()
    found[..., IGNORE] = -torch.inf
    first = torch.zeros_like(below[..., :1])
    found.scatter_(-1, codes[..., :count].long(), torch.cat([first, below[..., :-1]], dim=-1))
    found = found.log_softmax(-1)
    found[..., IGNORE] = NEVER
    return found


def tempered(codes: Tensor, temperature: float) -> Tensor:
    """Returns compact soft labels `codes` (..., 2T) with their logits divided by `temperature`, again compact.

    A code is a difference of logits, so only the codes change. The result is as exact as any compact soft label. An
    excluded class stays excluded.
    """
    if temperature == 1:
        return codes
    ids, below = codes.chunk(2, dim=-1)
    divided = (below.float().clamp_min(TIE) / temperature).round().clamp(0, EXCLUDED).to(torch.uint8)
    return torch.cat([ids, torch.where(below == EXCLUDED, below, divided)], dim=-1)


def class_mass(logits: np.ndarray) -> np.ndarray:
    """Returns the points of each class: (S, K) float64, the sum over points of the softmax of `logits` (n, S, K)."""
    return torch.from_numpy(logits.astype(np.float32)).softmax(2).sum(0).double().numpy()


def predicted_class(logits: Logits) -> Logits:
    """Returns the most likely class of (n, K) logits: (n,) int64, array or tensor. Never `IGNORE`."""
    found: Any = logits[:, 1:].argmax(1) + 1
    return found
