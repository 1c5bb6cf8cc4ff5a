"""What a student network is, and what it says."""

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """What a student says of the V voxels of stride `finest` of a pyramid."""

    logits: Tensor
    """(V, K)."""
    stages: list[Tensor]
    """(V_s, C) per stage: voxel features at the stage's own stride, before pooling; what its 3D head sees."""
    features: Tensor
    """(V, D): what the classifier sees."""
    embedding: Tensor | None = None
    """(V, E): before it was adapted to be the features; None of a network without an embedding."""


def parameters(network: nn.Module):
    """Number of trainable numbers of `network`."""
    return sum(parameter.numel() for parameter in network.parameters())
