"""What soft labels say: the likeliest class of a point, and how many points a class gets."""

from typing import Any, TypeVar

import numpy as np
import torch

Logits = TypeVar("Logits", np.ndarray, torch.Tensor)


def class_mass(logits: np.ndarray) -> np.ndarray:
    """(S, K) float64: points given to each class, the sum over points of the softmax of `logits` (n, S, K)."""
    return torch.from_numpy(logits.astype(np.float32)).softmax(2).sum(0).double().numpy()


def predicted_class(logits: Logits) -> Logits:
    """Most likely class of (n, K) logits, never 0 (nothing is tuned towards it): (n,) int64, an array or a tensor."""
    found: Any = logits[:, 1:].argmax(1) + 1
    return found
