"""The interface of a student network, and its output."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from elite_pipeline.student.voxels import Pyramid


class Output(NamedTuple):
    """Output of a student for the V voxels of stride `finest` in a pyramid."""

    logits: Tensor
    """(V, K) logits of the classes."""
    stages: list[Tensor]
    """(V_s, C) per stage: voxel features at the stage's own stride, before pooling. They are inputs of its 3D head."""
    features: Tensor | None = None
    """(V, D): input of the classifier; None for a network with stages, where nothing else reads it."""
    embedding: Tensor | None = None
    """(V, E): features before the adaptation; None for a network without an embedding."""


class StudentNetwork(nn.Module, ABC):
    """A network that labels the voxels of a scan. `choices.STUDENTS` lists all kinds.

    It is built from the settings of its kind (`students.<name>.network`) and the number of classes K.
    """

    title: ClassVar[str]
    """Name of the kind for the model card, for example "sparse U-Net"."""
    width: int
    """C, number of channels of each of `Output.stages`. Without stages: D, number of channels of `Output.features`."""
    finest: int
    """Stride of the voxels that have logits, in voxels of the finest size."""
    strides: list[int]
    """Stride of the voxels of each of `Output.stages`; empty for a network without stages."""

    @staticmethod
    @abstractmethod
    def describe(settings: dict[str, Any]) -> str:
        """Size of the network for the model card, in a sentence without a full stop.

        settings: `network` of `config.json`.
        """

    @abstractmethod
    def voxelise(self, points: Tensor, scan: Tensor | None = None, scans: int = 1) -> Pyramid:
        """The pyramid of `points` (N, 4) float32. scan: (N,) int64, index of the scan of each point; below `scans`."""

    @abstractmethod
    def forward(self, pyramid: Pyramid) -> Output:
        """The output for a pyramid from `voxelise`."""


def parameters(network: nn.Module) -> int:
    """Number of parameters of `network`."""
    return sum(parameter.numel() for parameter in network.parameters())


class StageHeads(nn.Module):
    """A 3D classifier (C-128-K) per stage, for training only. It learns from labels and from the teacher."""

    def __init__(self, *, stages: int, width: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, classes)) for _ in range(stages)
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """(V_s, K) logits per stage, from `stages`: (V_s, C) features per stage."""
        return [head(features) for head, features in zip(self.heads, stages, strict=True)]
