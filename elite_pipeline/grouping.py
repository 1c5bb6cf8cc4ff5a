"""Means, majorities and counts over groups of rows. Sparse networks, losses and soft labels use them."""

import torch
from torch import Tensor


def mean(features: Tensor, group: Tensor, groups: int, weights: Tensor | None = None) -> Tensor:
    """Returns the mean of `features` (R, C) per group, weighted by `weights` (R,): (groups, C); 0 for an empty group.

    group: (R,) int64. Sums are in float32, because sums over a coarse voxel overflow float16.
    """
    rows = features.float()
    weighted = rows if weights is None else rows * weights[:, None]
    if weights is None:
        weights = torch.ones(len(rows), device=rows.device)
    sums = torch.zeros(groups, rows.shape[1], device=rows.device).index_add_(0, group, weighted)
    total = torch.zeros(groups, device=rows.device).index_add_(0, group, weights)
    return (sums / total.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).to(features.dtype)


def majority(labels: Tensor, group: Tensor, groups: int, classes: int) -> Tensor:
    """Returns the most frequent of `labels` (R,) int64 in each group: (groups,) int64. Ties: the lowest label."""
    votes = torch.bincount(group * classes + labels, minlength=groups * classes)
    return votes.view(groups, classes).argmax(dim=1)


def pairs(group: Tensor, labels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the distinct pairs of `group` and `labels` ((R,) int64 each), and how often each pair occurs.

    With `weights` (R,) float32, it is the sum of the weights of each pair in place of the number.
    Returns (P,) int64 groups, (P,) int64 labels and (P,) float32 repeats.
    """
    base = int(labels.max()) + 1 if len(labels) else 1
    keys = group * base + labels
    if weights is None:
        keys, repeats = torch.unique(keys, return_counts=True)
        return keys // base, keys % base, repeats.float()
    keys, of_row = torch.unique(keys, return_inverse=True)
    return keys // base, keys % base, weights.new_zeros(len(keys)).index_add_(0, of_row, weights)
