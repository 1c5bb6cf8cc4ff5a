"""Sums over groups of rows, as sparse networks, losses and soft labels need them."""

import torch
from torch import Tensor


def mean(features: Tensor, group: Tensor, groups: int, weights: Tensor | None = None) -> Tensor:
    """Mean of `features` (R, C) per `group` (R,) int64, weighted by `weights` (R,): (groups, C), 0 for an empty group.

    Summed in float32, since the sums of a coarse voxel overflow float16.
    """
    rows = features.float()
    if weights is None:
        weights = torch.ones(len(rows), device=rows.device)
    sums = torch.zeros(groups, rows.shape[1], device=rows.device).index_add_(0, group, rows * weights[:, None])
    total = torch.zeros(groups, device=rows.device).index_add_(0, group, weights)
    return (sums / total.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).to(features.dtype)


def majority(labels: Tensor, group: Tensor, groups: int, classes: int) -> Tensor:
    """The most frequent of `labels` (R,) int64 in each group: (groups,) int64; the lowest of equals."""
    votes = torch.bincount(group * classes + labels, minlength=groups * classes)
    return votes.view(groups, classes).argmax(dim=1)


def pairs(group: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct pairs of `group` and `labels`, (R,) int64 each: (P,) groups, (P,) labels, (P,) float32 repeats."""
    base = int(labels.max()) + 1 if len(labels) else 1
    keys, repeats = torch.unique(group * base + labels, return_counts=True)
    return keys // base, keys % base, repeats.float()
