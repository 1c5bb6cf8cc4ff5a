"""The domain-adaptation module of UDAKD and FSKD (arXiv 2509.00379): point features -> image-like features.

Its layers are the self-calibrated convolutions of SCNet (CVPR 2020), transferred to sparse voxels. Each convolution
becomes a convolution whose output voxels are its input voxels. Average pooling becomes a mean over occupied voxels.
Nearest-neighbour upsampling becomes a copy of the features of the wider voxel around each voxel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from elite_pipeline.grouping import mean
from elite_pipeline.student.norm import BatchNorm, Normalised
from elite_pipeline.student.sparse import SparseTensor, SubMConv3d, sparse_tensor
from elite_pipeline.student.voxels import Pyramid


class SelfCalibrated(nn.Module):
    """y = x + BN(W [a, b]) with a = K1(A x), b = K4(K3(B x) * sigmoid(B x + up(K2(pool(B x))))): SCNet's bottleneck.

    A and B halve the number of channels C (Linear, BN, ReLU). K1 to K4 are 3x3x3 convolutions with BN; K1 and K4 also
    have a ReLU. pool averages over the voxels in a wider voxel. up copies the features of the wider voxel to each voxel
    in it. The caller applies the ReLU after the sum.
    Number of parameters: 27 C^2 in K1 to K4, 2 C^2 in A, B and W, 8 C in the BNs.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.plain, self.calibrated = (
            nn.Sequential(nn.Linear(width, half, bias=False), BatchNorm(half), nn.ReLU()) for _ in range(2)
        )
        self.k1 = Normalised(SubMConv3d(half, half, key="fine"))
        self.k2 = Normalised(SubMConv3d(half, half, key="wide"), relu=False)
        self.k3 = Normalised(SubMConv3d(half, half, key="fine"), relu=False)
        self.k4 = Normalised(SubMConv3d(half, half, key="fine"))
        self.join = nn.Sequential(nn.Linear(2 * half, width, bias=False), BatchNorm(width))

    def forward(self, x: SparseTensor, wide: SparseTensor, parent: Tensor) -> tuple[SparseTensor, SparseTensor]:
        """(y as a sparse tensor, a sparse tensor of the wider voxels for the next layer). Both hold the kernel maps.

        parent: (V,) int64, index in `wide` of the wider voxel around each voxel of `x`. The features of `wide` are not
        used.
        """
        a = self.k1(x.replace_feature(self.plain(x.features)))
        b = self.calibrated(x.features)  # (V, C / 2)
        wide = self.k2(wide.replace_feature(mean(b, parent, len(wide.indices))))
        gate = torch.sigmoid(b + wide.features.index_select(0, parent))
        c = self.k3(a.replace_feature(b))
        c = self.k4(c.replace_feature(c.features * gate))
        y = self.join(torch.cat([a.features, c.features], dim=1))  # (V, C)
        return c.replace_feature(x.features + y), wide


class Adaptation(nn.Module):
    """Layers of self-calibrated convolution with a ReLU between them.

    pooling: width of a wider voxel, in voxels. There is no ReLU after the last layer, so the output features may be
    negative, like those of an image encoder.
    """

    def __init__(self, width: int, *, layers: int, pooling: int) -> None:
        super().__init__()
        self.pooling = pooling
        self.layers = nn.ModuleList(SelfCalibrated(width) for _ in range(layers))

    def forward(self, features: Tensor, pyramid: Pyramid, scale: int = 1) -> Tensor:
        """(V, C): the adapted `features` (V, C) of the voxels of stride `scale`.

        The `pyramid` must also have the stride `scale * pooling`.
        """
        fine, coarse = pyramid[scale], pyramid[scale * self.pooling]
        parent = pyramid.parent(scale, scale * self.pooling)
        x = sparse_tensor(features, fine.coordinates, fine.shape, pyramid.scans)
        wide = sparse_tensor(features, coarse.coordinates, coarse.shape, pyramid.scans)
        for index, layer in enumerate(self.layers):
            x = x.replace_feature(functional.relu(x.features)) if index else x
            x, wide = layer(x, wide, parent)
        return x.features
