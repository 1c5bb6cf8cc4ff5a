"""What a student network is, and what it says."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from elite_pipeline.student.voxels import Pyramid


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


class StudentNetwork(nn.Module, ABC):
    """A network that labels the voxels of a scan. `choices.STUDENTS` lists them.

    It is built from the settings of its kind (`students.<name>.network`) and the number of classes, K.
    """

    title: ClassVar[str]
    """What it is, for its model card, as in "sparse U-Net"."""
    width: int
    """C, channels of each of `Output.stages`; of a network without stages D, those of `Output.features`."""
    finest: int
    """The stride of the voxels that carry logits, in voxels of the finest size."""
    strides: list[int]
    """The stride of the voxels of each of `Output.stages`; empty for a network without stages of its own."""

    @staticmethod
    @abstractmethod
    def describe(settings: dict[str, Any]) -> str:
        """Its size in a sentence without a full stop, for the model card; `settings`: `network` of `config.json`."""

    @abstractmethod
    def voxelise(self, points: Tensor, scan: Tensor | None = None, scans: int = 1) -> Pyramid:
        """The pyramid of `points` (N, 4) float32; `scan` (N,) int64 says to which of `scans` scans each belongs."""

    @abstractmethod
    def forward(self, pyramid: Pyramid) -> Output:
        """What it says of a pyramid that `voxelise` made."""


def parameters(network: nn.Module) -> int:
    """Number of trainable numbers of `network`."""
    return sum(parameter.numel() for parameter in network.parameters())


class StageHeads(nn.Module):
    """A 3D classifier (C-128-K) per stage, for training only: where the stage meets its labels and its teacher."""

    def __init__(self, *, stages: int, width: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, classes)) for _ in range(stages)
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Logits (V_s, K) of the features (V_s, C) of each of `stages`."""
        return [head(features) for head, features in zip(self.heads, stages, strict=True)]
