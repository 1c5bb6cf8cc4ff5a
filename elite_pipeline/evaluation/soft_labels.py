"""Summaries of soft labels: the most likely class of a point, and the number of points per class."""

from typing import Any, TypeVar

import numpy as np
import torch

Logits = TypeVar("Logits", np.ndarray, torch.Tensor)


def class_mass(logits: np.ndarray) -> np.ndarray:
    """Return the points of each class: (S, K) float64, the sum over points of the softmax of `logits` (n, S, K)."""
    return torch.from_numpy(logits.astype(np.float32)).softmax(2).sum(0).double().numpy()


def predicted_class(logits: Logits) -> Logits:
    """Return the most likely class of (n, K) logits: (n,) int64, array or tensor. Never 0: no teacher learns it."""
    found: Any = logits[:, 1:].argmax(1) + 1
    return found
