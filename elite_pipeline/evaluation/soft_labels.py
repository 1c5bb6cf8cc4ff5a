"""What soft labels say: the likeliest class of a point, and how many points a class gets."""

import numpy as np
import torch


def class_mass(logits):
    """(S, K) float64: points given to each class, the sum over points of the softmax of `logits` (n, S, K)."""
    return torch.from_numpy(logits.astype(np.float32)).softmax(2).sum(0).double().numpy()


def predicted_class(logits):
    """Most likely class of (n, K) logits, never 0 (nothing is tuned towards it): (n,) int64 array."""
    return logits[:, 1:].argmax(1) + 1
