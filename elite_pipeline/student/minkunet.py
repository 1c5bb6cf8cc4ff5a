"""The student of UDAKD and FSKD: a sparse U-Net, and layers that map its features to those of an image network.

With a stem of 32, planes 32, 64, 128, 256, 256, 128, 96, 96 and blocks 2, 3, 4, 6, 2, 2, 2, 2, the U-Net is
Res16UNet34C of MinkowskiEngine in the version of SLidR (arXiv 2203.16258): a stem of one 3x3x3 convolution, four stages
down, four stages up. It has 37,845,568 parameters. That is 2,592 more than in SLidR, because this U-Net takes four
numbers per voxel and SLidR's takes one. An embedding of 64 channels adds 6,208 parameters.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from elite_pipeline.grouping import mean
from elite_pipeline.student.adaptation import Adaptation
from elite_pipeline.student.network import Output, StudentNetwork
from elite_pipeline.student.norm import BatchNorm, Normalised
from elite_pipeline.student.sparse import InverseConv3d, SparseTensor, StridedConv3d, SubMConv3d, sparse_tensor
from elite_pipeline.student.voxels import AXES, Frame, Pyramid, Volume

INPUTS = 4


class Block(nn.Module):
    """y = ReLU( BN(Conv( ReLU(BN(Conv(x))) )) + x ). Where the width changes, the second summand is BN(W x)."""

    def __init__(self, inputs: int, outputs: int, key: str) -> None:
        super().__init__()
        self.first = Normalised(SubMConv3d(inputs, outputs, key=key))
        self.second = Normalised(SubMConv3d(outputs, outputs, key=key), relu=False)
        self.shortcut = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Linear(inputs, outputs, bias=False), BatchNorm(outputs))

    def forward(self, x: SparseTensor) -> SparseTensor:
        y = self.second(self.first(x))
        return y.replace_feature(functional.relu(y.features + self.shortcut(x.features)))


class Up(nn.Module):
    """Upsamples from stride 2 `stride` to `stride`, and joins the features of the downward stage at `stride`."""

    def __init__(self, inputs: int, skip: int, outputs: int, number: int, stride: int) -> None:
        super().__init__()
        self.convolution = Normalised(InverseConv3d(inputs, outputs, key=f"below_{stride}"))
        self.blocks = _blocks(outputs + skip, outputs, number, stride)

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        x = self.convolution(x)
        return self.blocks(x.replace_feature(torch.cat([x.features, skip.features], dim=1)))


class UNet(nn.Module):
    """A sparse U-Net. planes, blocks: width and number of blocks of each stage, first down, then up."""

    def __init__(self, stem: int, planes: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        depth = len(planes) // 2
        down, up = [stem, *planes[:depth]], planes[depth - 1 :]
        strides = [2**k for k in range(depth + 1)]
        self.stem = Normalised(SubMConv3d(INPUTS, stem, key="stride_1"))
        self.down = nn.ModuleList(
            nn.Sequential(
                Normalised(StridedConv3d(inputs, inputs, key=f"below_{stride // 2}")),
                _blocks(inputs, outputs, number, stride),
            )
            for (inputs, outputs), number, stride in zip(pairwise(down), blocks[:depth], strides[1:], strict=True)
        )
        self.up = nn.ModuleList(
            Up(inputs, skip, outputs, number, stride)
            for (inputs, outputs), skip, number, stride in zip(
                pairwise(up), down[-2::-1], blocks[depth:], strides[-2::-1], strict=True
            )
        )

    def forward(self, features: Tensor, pyramid: Pyramid) -> Tensor:
        """(V, planes[-1]) features of the voxels of stride 1, from their inputs `features` (V, 4)."""
        scale, coarsest = pyramid[1], 2 ** len(self.down)
        shape = [-(-n // coarsest) * coarsest for n in scale.shape]
        x, skips = self.stem(sparse_tensor(features, scale.coordinates, shape, pyramid.scans)), []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up in self.up:
            x = up(x, skips.pop())
        return x.features


class MinkUNet(StudentNetwork):
    """Voxels -> logits, with the settings of `config.MinkUNetSettings`.

    U-Net -> `embedding` (Linear) -> `adaptation` -> layer normalisation over channels -> classifier. The layer
    normalisation is there because the features of an image network are normalised too. Without an embedding, the
    classifier reads the features of the U-Net. A "shared" classifier is the teacher's and is not trained.
    """

    title = "sparse U-Net"

    def __init__(
        self,
        *,
        frame: Frame,
        voxel_size: Sequence[float],
        volume: Volume,
        stem: int,
        planes: Sequence[int],
        blocks: Sequence[int],
        classes: int,
        embedding: int | None = None,
        adaptation: dict[str, int] | None = None,
        classifier: Literal["own", "shared"] = "own",
    ) -> None:
        """adaptation: `layers` and `pooling` of the `Adaptation`."""
        super().__init__()
        self.frame, self.voxel_size, self.volume = frame, voxel_size, volume
        self.stem, self.planes, self.blocks = stem, planes, blocks
        self.width = embedding or planes[-1]
        self.finest, self.strides = 1, []
        self.backbone = UNet(stem, planes, blocks)
        self.embedding = nn.Linear(planes[-1], embedding) if embedding else None
        self.adaptation = Adaptation(self.width, **adaptation) if adaptation else None
        self.classifier = nn.Linear(self.width, classes)
        self.classifier.requires_grad_(classifier == "own")

    @staticmethod
    def describe(settings: dict[str, Any]) -> str:
        """See `StudentNetwork`."""
        axes = AXES[settings["frame"]].items()
        size = " x ".join(f"{step:g} {unit}" for (_, unit), step in zip(axes, settings["voxel_size"], strict=True))
        planes = ", ".join(map(str, settings["planes"]))
        parts = [f"MinkUNet, {settings['frame']} voxels of {size}", f"channels {planes}"]
        if settings["embedding"]:
            parts.append(f"an embedding of {settings['embedding']}")
        if settings["adaptation"]:
            parts.append(f"a domain-adaptation module of {settings['adaptation']['layers']} layers")
        if settings["classifier"] == "shared":
            parts.append("its teacher's classifier")
        return "; ".join(parts)

    def voxelise(self, points: Tensor, scan: Tensor | None = None, scans: int = 1) -> Pyramid:
        """See `StudentNetwork`."""
        strides = [self.adaptation.pooling] if self.adaptation else []
        voxels = {"voxel_size": self.voxel_size, "volume": self.volume, "frame": self.frame}
        return Pyramid(points, scan, scans=scans, strides=strides, **voxels)

    def forward(self, pyramid: Pyramid) -> Output:
        inputs = voxel_features(pyramid).to(self.classifier.weight.dtype)
        features, embedding = self.backbone(inputs, pyramid), None
        if self.embedding:
            features = embedding = self.embedding(features)  # (V, E)
            if self.adaptation:
                features = self.adaptation(embedding, pyramid)  # (V, E)
            features = functional.layer_norm(features, [self.width])
        return Output(self.classifier(features), [], features, embedding)


def voxel_features(pyramid: Pyramid) -> Tensor:
    """(V, 4) float32: mean remission of a voxel's points, and their mean offset from its centre in voxels."""
    offset = (pyramid.inside - pyramid.corner) / pyramid.voxel_size - 0.5  # (N, 3)
    return mean(torch.cat([pyramid.points[:, 3:], offset], dim=1), pyramid[1].of_point, len(pyramid[1]))


def _blocks(inputs: int, outputs: int, number: int, stride: int) -> nn.Sequential:
    widths = [inputs, *[outputs] * number]
    return nn.Sequential(*(Block(*pair, key=f"stride_{stride}") for pair in pairwise(widths)))
