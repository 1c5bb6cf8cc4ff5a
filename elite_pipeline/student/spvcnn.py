"""The student of ELiTe: a sparse point-voxel network without a decoder, small enough for real time.

It follows ELiTe (arXiv 2405.04121) and the "SPVCNN" variant of 2DPASS (arXiv 2207.04397). Each stage has submanifold
convolutions and a point branch. Mean pooling connects the stages; there are no strided convolutions. With four scales
and 64 channels, the network has 1,933,460 parameters.

The published code computes on points. Points in one voxel share their features, so this code computes on voxels. It is
the same function with fewer rows.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elite_pipeline.grouping import mean
from elite_pipeline.student.network import Output, StudentNetwork
from elite_pipeline.student.norm import BatchNorm
from elite_pipeline.student.sparse import SparseTensor, SubMConv3d, sparse_tensor
from elite_pipeline.student.voxels import Pyramid, Volume

SLOPE = 0.1
POINT_FEATURES = 10


class VoxelFeatures(nn.Module):
    """Points -> features of the finest voxels: the mean of an MLP (10-C-C) over a voxel's points."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.point = nn.Linear(POINT_FEATURES, width)
        self.voxel = nn.Linear(width, width)

    def forward(self, pyramid: Pyramid) -> Tensor:
        scale = pyramid[1]
        centre = mean(pyramid.inside, scale.of_point, len(scale)).index_select(0, scale.of_point)  # (N, 3)
        # The second offset is from the lower corner of the voxel, not from its centre, as in the code of 2DPASS.
        offsets = [pyramid.inside - centre, pyramid.inside - pyramid.corner]
        x = torch.cat([pyramid.points, *offsets], dim=1).to(self.point.weight.dtype)  # (N, 10)
        x = mean(functional.relu_(self.point(x)), scale.of_point, len(scale))  # (V, C)
        # A linear map commutes with the mean, so the second map runs on voxels.
        return self.voxel(x)  # (V, C)


class Residual(nn.Module):
    """y = LeakyReLU( BN(Conv( LeakyReLU(BN(Conv(x))) )) + BN(W x) ). Both convolutions are submanifold 3x3x3."""

    def __init__(self, width: int, key: str) -> None:
        super().__init__()
        self.conv1 = SubMConv3d(width, width, key=key)
        self.norm1 = BatchNorm(width)
        self.conv2 = SubMConv3d(width, width, key=key)
        self.norm2 = BatchNorm(width)
        self.shortcut = nn.Linear(width, width, bias=False)
        self.norm = BatchNorm(width)

    def forward(self, x: SparseTensor) -> SparseTensor:
        if not self.training and not x.features.is_cuda:
            return self._folded(x)
        y = self.conv1(x)
        y = self.conv2(y.replace_feature(functional.leaky_relu_(self.norm1(y.features), SLOPE)))
        shortcut = self.norm(self.shortcut(x.features))
        return y.replace_feature(functional.leaky_relu_(self.norm2(y.features) + shortcut, SLOPE))

    def _folded(self, x: SparseTensor) -> SparseTensor:
        """The same with each BN as part of the linear map before it: fewer passes over the features."""
        (weight1, bias1), (weight2, bias2) = self.norm1.fold(self.conv1.weight), self.norm2.fold(self.conv2.weight)
        weight, bias = self.norm.fold(self.shortcut.weight)
        y = self.conv1.on_cpu(x, weight1)
        y = self.conv2.on_cpu(y.replace_feature(functional.leaky_relu_(y.features.add_(bias1), SLOPE)), weight2)
        return y.replace_feature(
            functional.leaky_relu_(y.features.add_(bias2 + bias).addmm_(x.features, weight.T), SLOPE)
        )


class PointBranch(nn.Module):
    """Combines the features of each voxel with those of the voxel around it that is twice as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.identity = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(SLOPE, inplace=True))
        self.context = nn.Sequential(
            nn.Linear(width, half),
            nn.LeakyReLU(SLOPE, inplace=True),
            BatchNorm(half),
            nn.Linear(half, half),
            nn.LeakyReLU(SLOPE, inplace=True),
            BatchNorm(half),
            nn.Linear(half, width),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        self.join = nn.Sequential(
            nn.Linear(2 * width, width), nn.LeakyReLU(SLOPE, inplace=True), nn.Linear(width, width)
        )

    def forward(self, x: Tensor, parent: Tensor, parents: int) -> Tensor:
        """(V, C) features from `x` (V, C). parent: (V,) int64, index of the wider voxel around each, below `parents`.

        parents: number of wider voxels.
        """
        context = self.context(mean(x, parent, parents))  # (parents, C)
        first, *rest = self.join
        joined = linear_of_parts(cast(nn.Linear, first), [(self.identity(x), None), (context, parent)])
        return nn.Sequential(*rest)(joined)  # (V, C)


def linear_of_parts(linear: nn.Linear, parts: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor:
    """(V, out): `linear` of the rows of all parts side by side.

    parts: (R, C) features, and (V,) int64 the row of each voxel; None: row v is of voxel v. Wider voxels have fewer
    rows. A linear map commutes with copying rows, so it runs before they are copied.
    """
    result, bias = None, linear.bias
    weights = linear.weight.split([features.shape[1] for features, _ in parts], dim=1)
    for (features, row), weight in zip(parts, weights, strict=True):
        y = functional.linear(features, weight, bias)
        y = y if row is None else y.index_select(0, row)
        result, bias = y if result is None else result + y, None
    assert result is not None
    return result


class Stage(nn.Module):
    """Convolutions and point branch at stride `stride`, with outputs pooled to stride `pooled`."""

    def __init__(self, width: int, stride: int, pooled: int) -> None:
        super().__init__()
        self.stride, self.pooled = stride, pooled
        self.convolutions = nn.Sequential(*(Residual(width, key=f"stride_{stride}") for _ in range(2)))
        self.point = PointBranch(width)

    def forward(self, x: SparseTensor, pyramid: Pyramid) -> tuple[SparseTensor, Tensor, Tensor]:
        """(convolved sparse tensor (V), pooled point branch (V', C), features of the next stage (V', C))."""
        voxel = self.convolutions(x)
        around = pyramid.parent(self.stride, 2 * self.stride)
        point = self.point(x.features + voxel.features, around, len(pyramid[2 * self.stride]))  # (V, C)
        point = pyramid.pool(point, self.stride, self.pooled)  # (V', C)
        return voxel, point, point + pyramid.pool(voxel.features, self.stride, self.pooled)


class SPVCNN(StudentNetwork):
    """Voxels -> logits. scales: the strides that the stages pool to. Each is a multiple of the previous one."""

    title = "sparse point-voxel network"

    def __init__(self, *, voxel_size: float, volume: Volume, scales: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.voxel_size, self.volume, self.scales, self.width = voxel_size, volume, list(scales), width
        self.strides = [1, *scales[:-1]]
        self.finest = self.scales[0]
        if any(after % before for before, after in pairwise([1, *scales])):
            raise ValueError(f"scales {self.scales}: each must be a multiple of the previous one")
        self.features = VoxelFeatures(width)
        self.stages = nn.ModuleList(Stage(width, *strides) for strides in pairwise([1, *scales]))
        self.classifier = nn.Sequential(
            nn.Linear(width * len(scales), 128), nn.ReLU(inplace=True), nn.Linear(128, classes)
        )

    @staticmethod
    def describe(settings: dict[str, Any]) -> str:
        """See `StudentNetwork`."""
        scales = ", ".join(map(str, settings["scales"]))
        return f"voxels of {settings['voxel_size']:g} m, {settings['width']} channels, scales {scales}"

    def voxelise(self, points: Tensor, scan: Tensor | None = None, scans: int = 1) -> Pyramid:
        """See `StudentNetwork`."""
        strides = sorted({*self.scales, *(2 * stride for stride in self.strides)})
        return Pyramid(points, scan, scans=scans, voxel_size=self.voxel_size, volume=self.volume, strides=strides)

    def forward(self, pyramid: Pyramid) -> Output:
        features, x = self.features(pyramid), None
        stages, outputs = [], []
        for stage in cast(Iterable[Stage], self.stages):
            x = self._at(pyramid, stage.stride, features, x)
            x, output, features = stage(x, pyramid)
            stages.append(x.features)
            same = stage.pooled == self.finest
            outputs.append((output, None if same else pyramid.parent(self.finest, stage.pooled)))
        first, *rest = self.classifier
        return Output(nn.Sequential(*rest)(linear_of_parts(cast(nn.Linear, first), outputs)), stages)

    def _at(self, pyramid: Pyramid, stride: int, features: Tensor, before: SparseTensor | None) -> SparseTensor:
        """`features` as a sparse tensor at `stride`.

        It reuses the kernel map of the previous stage, the result of which is `before`, if that stage has this stride.
        """
        scale = pyramid[stride]
        if before is not None and tuple(before.spatial_shape) == scale.shape:
            return before.replace_feature(features)
        return sparse_tensor(features, scale.coordinates, scale.shape, pyramid.scans)
