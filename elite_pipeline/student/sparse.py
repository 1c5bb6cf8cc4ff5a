"""Sparse convolutions by spconv, on a GPU and on a CPU: the one module that knows the difference.

On a CPU spconv (2.3.6 and 2.3.8) needs two things, found by running it: its `Native` algorithm, since the default one
has GPU kernels only, and a CUDA stream, for which it asks in every backward pass. With both, forward and backward equal
a dense convolution, and are the same from run to run, bit for bit.
"""

import logging
import warnings
from collections.abc import Sequence

import spconv.core
import torch
from torch import Tensor

if not torch.cuda.is_available():
    # While it is imported, spconv describes each of its 728 GPU kernels in Python: ten times the rest of the import.
    spconv.core.ALL_NATIVE_PARAMS.clear()
    spconv.core.ALL_IMPGEMM_PARAMS.clear()

# torch tells, once a process, how a function that spconv calls will change for export, which is not done here.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
with warnings.catch_warnings():
    # spconv imports torch.cuda.amp names that newer torch versions call deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from spconv import pytorch
    from spconv.pytorch import ops
    from spconv.pytorch.conv import SparseConvolution

if not torch.cuda.is_available():
    ops.get_current_stream = lambda: 0

SparseTensor = pytorch.SparseConvTensor


def sparse_tensor(features: Tensor, coordinates: Tensor, shape: Sequence[int], batch_size: int) -> SparseTensor:
    """`features` (V, C) at `coordinates` (V, 4) int32: scan, x, y, z, within `batch_size` and `shape` (x, y, z)."""
    # spconv reads memory as it lies: of what `nonzero` returns, column by column, it makes wrong neighbours silently.
    return SparseTensor(features, coordinates.contiguous(), list(shape), batch_size)


class _OnAnyDevice(SparseConvolution):
    """A convolution without bias that works by the algorithm of its input's device.

    Layers that share `key` share one kernel map (which voxel meets which), as long as they work on one tensor or on
    what `replace_feature` makes of it. Weights (out, 3, 3, 3, in) or (out, 2, 2, 2, in) are the same on every device.
    """

    def forward(self, x: SparseTensor) -> SparseTensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.algo = spconv.core.ConvAlgo.MaskImplicitGemm if x.features.is_cuda else spconv.core.ConvAlgo.Native
        return super().forward(x)


class SubMConv3d(_OnAnyDevice, pytorch.SubMConv3d):
    """A 3x3x3 submanifold convolution: outputs at its inputs' voxels only."""

    def __init__(self, inputs: int, outputs: int, *, key: str) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False, indice_key=key)


class StridedConv3d(_OnAnyDevice, pytorch.SparseConv3d):
    """A 2x2x2 convolution of stride 2: outputs at the voxels, twice as wide, that hold an input. Even shapes only."""

    def __init__(self, inputs: int, outputs: int, *, key: str) -> None:
        super().__init__(inputs, outputs, 2, stride=2, bias=False, indice_key=key)

    def forward(self, x: SparseTensor) -> SparseTensor:
        if any(n % 2 for n in x.spatial_shape):
            # spconv would drop the last voxels of an odd side.
            raise ValueError(f"a grid of {x.spatial_shape} voxels has an odd side, which stride 2 does not divide")
        return super().forward(x)


class InverseConv3d(_OnAnyDevice, pytorch.SparseInverseConv3d):
    """The transposed convolution of the `StridedConv3d` of the same `key`: outputs at that one's inputs, in order."""

    def __init__(self, inputs: int, outputs: int, *, key: str) -> None:
        super().__init__(inputs, outputs, 2, indice_key=key, bias=False)
