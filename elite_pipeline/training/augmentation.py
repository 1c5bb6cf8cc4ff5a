"""Random changes of a scan. Its labels and its teacher targets stay valid."""

import math

import torch
from torch import Tensor

from elite_pipeline.config import Augmentation


def augment(points: Tensor, settings: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A changed copy of `points` (N, 4) float32, and the rows of `points` that are left: (n,) int64, sorted.

    Points are dropped first. Then the rest is changed about the sensor, in this order: rotation about z, mirroring,
    scaling (one factor for x, y and z), translation.
    """
    rows = _kept(len(points), settings.drop, generator)
    points = points[rows]
    angle = 2 * math.pi * _uniform(generator) if settings.rotate else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    motion = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    if settings.flip:
        motion[0] *= 1 if _uniform(generator) < 0.5 else -1
        motion[1] *= 1 if _uniform(generator) < 0.5 else -1
    motion *= 1 + settings.scale * (2 * _uniform(generator) - 1)
    shift = settings.translate * torch.randn(3, generator=generator)
    return torch.cat([points[:, :3] @ motion.T + shift, points[:, 3:]], dim=1), rows


def remap(indices: Tensor, rows: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Map `indices` (M,) of `points` points to positions in the kept `rows`.

    Returns (positions of the indices that are left, their new values). Indices of dropped points are removed.
    """
    new = torch.full((points,), -1)
    new[rows] = torch.arange(len(rows))
    left = torch.nonzero(new[indices] >= 0).squeeze(1)
    return left, new[indices[left]]


def _kept(points: int, drop: float, generator: torch.Generator) -> Tensor:
    share = drop * _uniform(generator)
    kept = torch.rand(points, generator=generator) >= share
    kept[0] = True  # a scan is never empty
    return torch.nonzero(kept).squeeze(1)


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()
