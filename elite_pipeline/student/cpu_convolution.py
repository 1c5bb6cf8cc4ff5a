"""Sparse convolutions on a CPU, forward and backward, on all cores. (There, spconv gathers and scatters on one.)

A layer is one matrix product for each offset of its kernel: of the rows that have an input at this offset. The products
go into one table. An output is the sum of its rows in the table. Sums are made in the order of spconv's `Native`
algorithm, so the results have the same bits. (Of voxels that are not sorted, the gradients of weights are equal to
rounding.)
"""

import threading
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from elite_pipeline.student.voxels import pack

Rows = Tensor | None
"""(P,) int64 indices of rows, or None for all rows in their order."""
CENTRE = 13
"""The offset (0, 0, 0) of a 3x3x3 kernel. Offsets are numbered in the order of x, y, z."""


class Pairs:
    """The pairs of input and output rows at each offset of a kernel. No offset has an output twice."""

    def __init__(
        self, inputs: Sequence[Rows], outputs: Sequence[Rows], rows: tuple[int, int], order: Sequence[int]
    ) -> None:
        """inputs, outputs: the rows at each offset. rows: number of inputs and of outputs.

        order: of the offsets, in which the sum of an output is made.
        """
        self.inputs, self.outputs, self.rows, self.order = inputs, outputs, rows, order
        self.sizes = [rows[1] if index is None else len(index) for index in outputs]
        """The number of pairs at each offset."""

    @cached_property
    def transposed(self) -> "Pairs":
        """The pairs with inputs and outputs swapped."""
        return Pairs(self.outputs, self.inputs, (self.rows[1], self.rows[0]), self.order)

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor]:
        """(P,) int64 rows of the table of products, output by output, and (outputs,) int64 where each output begins."""
        every, starts = torch.arange(self.rows[1]), [0, *accumulate(self.sizes)]
        outputs = [every if index is None else index for index in self.outputs]
        number = torch.bincount(torch.cat(outputs), minlength=self.rows[1])
        begin = number.cumsum(0) - number
        place, products = begin.clone(), torch.empty(starts[-1], dtype=torch.int64)
        for k in self.order:
            of_output = place.index_select(0, outputs[k])
            products[of_output] = torch.arange(starts[k], starts[k + 1])
            place[outputs[k]] = of_output + 1
        return products, begin

    def add(self, products: Tensor) -> Tensor:
        """(outputs, C): the sum of each output's `products` (P, C)."""
        rows, begin = self.sums
        return functional.embedding_bag(rows, products, begin, mode="sum")


def submanifold_pairs(coordinates: Tensor, shape: Sequence[int]) -> Pairs:
    """The pairs of a 3x3x3 submanifold convolution. coordinates: (V, 4) int32, distinct: scan, x, y, z."""
    padded = [side + 2 for side in shape]
    cells = coordinates.long()
    cells[:, 1:] += 1
    keys = pack(cells, padded)
    order = None
    if bool((keys[1:] < keys[:-1]).any()):
        keys, order = keys.sort()
    before = _before(keys, padded)
    if order is not None:
        before = [(order[there], order[here]) for there, here in before]
    pairs = [*before, (None, None), *((here, there) for there, here in reversed(before))]
    inputs, outputs = zip(*pairs, strict=True)
    return Pairs(inputs, outputs, (len(keys), len(keys)), [CENTRE, *range(CENTRE), *range(CENTRE + 1, 27)])


def _before(keys: Tensor, padded: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """For each offset before the centre: the pairs (voxel there, voxel here). keys: sorted, in a grid with a border."""
    end = torch.cat([keys, keys.new_full((1,), -1)])
    found = []
    for column in (-padded[1] - 1, -padded[1], -padded[1] + 1, -1):
        wanted = keys + (column * padded[2] - 1)
        place = torch.searchsorted(keys, wanted)
        for _ in range(3):
            hit = end.index_select(0, place) == wanted
            here = hit.nonzero()[:, 0]
            found.append((place.index_select(0, here), here))
            place += hit
            wanted += 1
    below = (keys[1:] - keys[:-1] == 1).nonzero()[:, 0]
    return [*found, (below, below + 1)]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        table = _workspace("products", sum(pairs.sizes), weight.shape[0], features)
        for index, w, products in zip(pairs.inputs, weight.unbind(1), table.split(pairs.sizes), strict=True):
            torch.mm(_rows(features, index), w.T, out=products)
        return pairs.add(table)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (features, weight), pairs = ctx.saved_tensors, ctx.pairs
        gradient = gradient.contiguous()
        of_features, of_weight = ctx.needs_input_grad[:2]
        table = _workspace("products", sum(pairs.sizes), weight.shape[2], features)
        products, sums = table.split(pairs.sizes), torch.empty_like(weight)
        for k, w in enumerate(weight.unbind(1)):
            after = _rows(gradient, pairs.outputs[k])
            if of_features:
                torch.mm(after, w, out=products[k])
            if of_weight:
                sums[:, k] = after.T @ _rows(features, pairs.inputs[k], "inputs")
        return pairs.transposed.add(table) if of_features else None, sums if of_weight else None, None


def convolution(features: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    """(outputs, C') from `features` (inputs, C) and `weight` (C', offsets, C)."""
    return _Convolution.apply(features, weight, pairs)  # pyright: ignore[reportReturnType]


def _rows(x: Tensor, index: Rows, name: str = "gathered") -> Tensor:
    if index is None:
        return x
    return torch.index_select(x, 0, index, out=_workspace(name, len(index), x.shape[1], x))


_workspaces = threading.local()


def _workspace(name: str, rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows, columns) memory that the next call with this `name` uses again: new memory is slow to touch."""
    held = _workspaces.__dict__
    if name not in held or len(held[name]) < rows * columns or held[name].dtype != like.dtype:
        held.pop(name, None)
        with torch.inference_mode(False):  # memory from inference mode could not be used in training
            held[name] = torch.empty(rows * columns, dtype=like.dtype)
    return held[name][: rows * columns].view(rows, columns)
