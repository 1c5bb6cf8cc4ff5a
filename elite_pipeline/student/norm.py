"""Batch normalisation over all processes that train together, alone and after a sparse convolution."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from elite_pipeline.distributed import summed, world
from elite_pipeline.student.sparse import SparseConvolution, SparseTensor


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the rows (N, C) of all processes that train together.

    A single row has no variance, so it is normalised with the running statistics. (torch's `SyncBatchNorm` refuses
    CPUs, and processes with one row.)
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and world() > 1:
            return self._of_all_processes(input)
        if self.training and len(input) < 2:
            return self._by_running_statistics(input)
        return super().forward(input)

    def fold(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The weight and the bias (C,) of one linear map: `weight`, then this normalisation by running statistics.

        weight: (C, ...), of a linear map without bias.
        """
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)  # pyright: ignore[reportOptionalOperand]
        bias = self.bias - self.running_mean * scale  # pyright: ignore[reportOptionalOperand]
        return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias

    def _by_running_statistics(self, input: Tensor) -> Tensor:
        return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def _of_all_processes(self, input: Tensor) -> Tensor:
        x = input.float()
        # float64 holds the number of rows exactly.
        sums = summed(torch.cat([x.sum(dim=0), x.new_tensor([len(x)])]).double())  # (C + 1,)
        rows = int(sums[-1])
        if rows < 2:
            return self._by_running_statistics(input)
        mean = (sums[:-1] / rows).float()
        # The variance needs a second pass: the mean of squares minus the square of the mean would lose precision.
        centred = x - mean
        variance = summed(centred.square().sum(dim=0)) / rows
        with torch.no_grad():
            for running, new in ((self.running_mean, mean), (self.running_var, variance * rows / (rows - 1))):
                running.lerp_(new, self.momentum)  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType, reportCallIssue]
            self.num_batches_tracked.add_(1)  # pyright: ignore[reportOptionalMemberAccess]
        y = centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return y.to(input.dtype)


class Normalised(nn.Module):
    """ReLU(BN(convolution(x))) of a sparse tensor x. If `relu` is False, there is no ReLU."""

    def __init__(self, convolution: SparseConvolution, *, relu: bool = True) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = BatchNorm(convolution.out_channels)
        self.relu = relu

    def forward(self, x: SparseTensor) -> SparseTensor:
        y = self.convolution(x)
        features = self.norm(y.features)
        return y.replace_feature(functional.relu(features) if self.relu else features)
