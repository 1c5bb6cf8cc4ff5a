"""Sparse convolutions: spconv's on a GPU, those of `cpu_convolution` on a CPU. Only this module knows the difference.

Layers, weights and sparse tensors are spconv's on both. On a CPU, every run gives the same bits.
"""

import logging
import warnings
from collections.abc import Sequence

import spconv.core
import torch
from torch import Tensor

from elite_pipeline.student.cpu_convolution import Pairs, convolution, submanifold_pairs

if not torch.cuda.is_available():
    # On import, spconv describes each of its 728 GPU kernels in Python. It takes ten times as long as all the rest.
    spconv.core.ALL_NATIVE_PARAMS.clear()
    spconv.core.ALL_IMPGEMM_PARAMS.clear()

# Once per process, torch warns that a function which spconv calls will change for export. Nothing is exported here.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
with warnings.catch_warnings():
    # spconv imports names from torch.cuda.amp that are deprecated in newer torch versions.
    warnings.simplefilter("ignore", FutureWarning)
    from spconv import pytorch
    from spconv.pytorch import ops
    from spconv.pytorch.conv import SparseConvolution

SparseTensor = pytorch.SparseConvTensor


def sparse_tensor(features: Tensor, coordinates: Tensor, shape: Sequence[int], batch_size: int) -> SparseTensor:
    """A sparse tensor with `features` (V, C) at `coordinates` (V, 4) int32: scan, x, y, z.

    shape: number of voxels along x, y and z. batch_size: number of scans.
    """
    # spconv ignores strides. Coordinates from `nonzero` lie in memory column by column: spconv would silently find
    # wrong neighbours.
    return SparseTensor(features, coordinates.contiguous(), list(shape), batch_size)


class _OnAnyDevice(SparseConvolution):
    """A convolution without bias that uses the algorithm for the device of its input.

    Layers with the same `key` share one kernel map, that is, the pairs of input and output voxels. They must work on
    one tensor, or on results of its `replace_feature`. Weights have the shape (out, 3, 3, 3, in) or (out, 2, 2, 2, in)
    on every device.
    """

    products = torch.float32
    """The type of the matrix products on a CPU. Their inputs and outputs are float32."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not x.features.is_cuda:
            return self.on_cpu(x, self.weight)
        self.algo = spconv.core.ConvAlgo.MaskImplicitGemm
        return super().forward(x)

    def on_cpu(self, x: SparseTensor, weight: Tensor) -> SparseTensor:
        """The same as `forward`, on a CPU and with another `weight` of the same shape."""
        raise NotImplementedError

    def convolved(self, x: SparseTensor, weight: Tensor, pairs: Pairs) -> Tensor:
        """(outputs, C') features of the output voxels, on a CPU."""
        weight = weight.flatten(1, 3).to(self.products)
        return convolution(x.features.to(self.products), weight, pairs).to(x.features.dtype)


class SubMConv3d(_OnAnyDevice, pytorch.SubMConv3d):
    """A 3x3x3 submanifold convolution: its output voxels are its input voxels."""

    def __init__(self, inputs: int, outputs: int, *, key: str) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False, indice_key=key)

    def on_cpu(self, x: SparseTensor, weight: Tensor) -> SparseTensor:
        if self.indice_key not in x.indice_dict:
            x.indice_dict[self.indice_key] = submanifold_pairs(x.indices, x.spatial_shape)
        return x.replace_feature(self.convolved(x, weight, x.indice_dict[self.indice_key]))


class StridedConv3d(_OnAnyDevice, pytorch.SparseConv3d):
    """A 2x2x2 convolution of stride 2. Its output voxels are twice as wide; each holds an input. Even shapes only."""

    def __init__(self, inputs: int, outputs: int, *, key: str) -> None:
        super().__init__(inputs, outputs, 2, stride=2, bias=False, indice_key=key)

    def forward(self, x: SparseTensor) -> SparseTensor:
        if any(n % 2 for n in x.spatial_shape):
            # spconv would drop the last voxels along an odd side.
            raise ValueError(f"a grid of {x.spatial_shape} voxels has an odd side: stride 2 needs even sides")
        return super().forward(x)

    def on_cpu(self, x: SparseTensor, weight: Tensor) -> SparseTensor:
        native = spconv.core.ConvAlgo.Native
        kernel = self.kernel_size, self.stride, self.padding, self.dilation, self.output_padding
        below, pairs, number = ops.get_indice_pairs(x.indices, x.batch_size, x.spatial_shape, native, *kernel)
        inputs, outputs = ([rows[:n].long() for rows, n in zip(side, number, strict=True)] for side in pairs)
        found = Pairs(inputs, outputs, (len(x.indices), len(below)), range(len(number)))
        x.indice_dict[self.indice_key] = found, x.indices, x.spatial_shape
        shape = [n // 2 for n in x.spatial_shape]
        return SparseTensor(self.convolved(x, weight, found), below, shape, x.batch_size, indice_dict=x.indice_dict)


class InverseConv3d(_OnAnyDevice, pytorch.SparseInverseConv3d):
    """The transposed convolution of the `StridedConv3d` with the same `key`.

    Its output voxels are the input voxels of that layer, in the same order.
    """

    def __init__(self, inputs: int, outputs: int, *, key: str) -> None:
        super().__init__(inputs, outputs, 2, indice_key=key, bias=False)

    def on_cpu(self, x: SparseTensor, weight: Tensor) -> SparseTensor:
        pairs, above, shape = x.indice_dict[self.indice_key]
        features = self.convolved(x, weight, pairs.transposed)
        return SparseTensor(features, above, shape, x.batch_size, indice_dict=x.indice_dict)


def bfloat16_on_cpu() -> bool:
    """Whether the CPU multiplies bfloat16 matrices faster than those of float32."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
