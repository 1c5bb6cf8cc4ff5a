"""Several processes that train one student, each on scans of its own, as if they were one with all the scans.

Why the gradient is that of one process. Every process computes the same loss L from the rows of all (`gathered`), and
differentiates as if the W losses of the W processes were summed: what reaches its own rows x_r is W dL/dx_r, and what
reaches the weights is W dL/dx_r dx_r/dweights. Fabric's DDP strategy averages that over the processes, which leaves
sum_r dL/dx_r dx_r/dweights = dL/dweights. Sums inside the network (`summed`) are differentiated by the same rule.
"""

import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, distributed
from torch.autograd import Function

from elite_pipeline.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def start(processes: int, precision: Literal["32-true", "16-mixed"], section: str = "train_student") -> "Fabric":
    """Fabric with its processes running: torchrun's where that started this one, else `processes` on this machine.

    The others are started as this one was, with the same command line; so only a command may ask for several. Raises
    `InputError`, which names the `section` of the configuration, where there are too few GPUs, or where `precision`
    needs one and there is none.
    """
    # Here, since whoever predicts imports this module too.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    cuda = torch.cuda.is_available()
    if precision == "16-mixed" and not cuda:
        raise InputError(f"{section}.precision 16-mixed needs a GPU, and there is none: write 32-true")
    if TorchElasticEnvironment.detect():
        environment, here = TorchElasticEnvironment(), int(os.environ["LOCAL_WORLD_SIZE"])
        machines, setting = environment.world_size() // here, "torchrun --nproc-per-node"
    else:
        # Processes are ours to start, also inside a SLURM job, where Fabric would otherwise look for srun's.
        environment, here, machines, setting = LightningEnvironment(), processes, 1, f"{section}.processes"
    if cuda and here > torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise InputError(f"{setting} is {here}, and this machine has {found} GPUs, one per process: write {found}")
    several = here * machines > 1
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=here,
        num_nodes=machines,
        # The buffers are running statistics, which `summed` makes alike in all processes.
        strategy=DDPStrategy(forward_sync_buffers=False) if several else "auto",
        precision=precision,
        plugins=environment,
    )
    if several and isinstance(environment, LightningEnvironment) and environment.local_rank() > 0:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    fabric.launch()
    return fabric


def world() -> int:
    """The number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gathered(*rows: Tensor) -> tuple[Tensor, ...]:
    """`rows`, tensors of one length, of all processes end to end; in each the same.

    Lengths differ from process to process, and where they are 0 the other sizes mean nothing. What is computed from
    the result must be the same in all processes, since gradients are taken to be so.
    """
    if world() == 1:
        return rows
    own = torch.tensor([size for tensor in rows for size in tensor.shape], device=rows[0].device)
    shapes = torch.stack(_exchanged(own))  # (W, sizes of the first tensor, of the second, ...)
    lengths = shapes[:, 0].tolist()
    if not any(lengths):
        return rows
    sizes = shapes[lengths.index(max(lengths))].split([tensor.ndim for tensor in rows])
    aligned = [t if len(t) else t.reshape(0, *size[1:].tolist()) for t, size in zip(rows, sizes, strict=True)]
    return tuple(_Gathered.apply(tensor, lengths) for tensor in aligned)  # pyright: ignore[reportReturnType]


def summed(tensor: Tensor) -> Tensor:
    """The sum of `tensor` over all processes, in each the same to the bit."""
    return _Summed.apply(tensor) if world() > 1 else tensor  # pyright: ignore[reportReturnType]


class _Gathered(Function):
    """Backward needs no exchange: each process holds the gradient of the W equal losses at its own rows already."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, lengths: Sequence[int]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        rank = distributed.get_rank()
        ctx.first, ctx.count = sum(lengths[:rank]), lengths[rank]
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        return torch.cat([part[:length] for part, length in zip(_exchanged(padded), lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return world() * gradient.narrow(0, ctx.first, ctx.count), None


class _Summed(Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Summed.forward(ctx, gradient.contiguous())


def _exchanged(tensor: Tensor) -> list[Tensor]:
    """`tensor`, of the same shape in all processes, of each."""
    parts = [torch.empty_like(tensor) for _ in range(world())]
    distributed.all_gather(parts, tensor)
    return parts


def _end_with(parent: int) -> None:
    """End this process when its parent has ended: one that is killed cannot tell the others, which wait for it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
