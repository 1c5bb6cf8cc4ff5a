"""Training of one student by several processes, each with its own scans, equal to one process with all scans.

Why the gradient equals that of one process: every process computes the same loss L from the rows of all processes
(`gathered`), and differentiates as if the W losses of the W processes were summed. Its own rows x_r then get the
gradient W dL/dx_r, and its weights get W dL/dx_r dx_r/dweights. Fabric's DDP strategy averages the weight gradients
over the processes, which gives sum_r dL/dx_r dx_r/dweights = dL/dweights. Sums inside the network (`summed`) are
differentiated by the same rule.
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
    """Returns a launched Fabric: with torchrun's processes if torchrun started this one, else with `processes` here.

    The other processes are started with the command line of this one, so only a command may ask for several. Raises
    `InputError` where there are too few GPUs, or where `precision` needs a GPU and the machine has none. The error
    names the `section` of the configuration.
    """
    # Imported here because prediction imports this module too, and does not need Fabric.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    cuda = torch.cuda.is_available()
    if precision == "16-mixed" and not cuda:
        raise InputError(f"{section}.precision 16-mixed needs a GPU, but this machine has none. Write 32-true")
    if TorchElasticEnvironment.detect():
        environment, here = TorchElasticEnvironment(), int(os.environ["LOCAL_WORLD_SIZE"])
        machines, setting = environment.world_size() // here, "torchrun --nproc-per-node"
    else:
        # We start the processes ourselves, also inside a SLURM job, where Fabric would otherwise look for srun's.
        environment, here, machines, setting = LightningEnvironment(), processes, 1, f"{section}.processes"
    if cuda and here > torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise InputError(f"{setting} is {here}, but this machine has {found} GPUs. Write {found}: one process per GPU")
    several = here * machines > 1
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=here,
        num_nodes=machines,
        # No broadcast: the buffers are running statistics, and `summed` makes them equal in all processes.
        strategy=DDPStrategy(forward_sync_buffers=False) if several else "auto",
        precision=precision,
        plugins=environment,
    )
    if several and isinstance(environment, LightningEnvironment) and environment.local_rank() > 0:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    fabric.launch()
    return fabric


def world() -> int:
    """Returns the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gathered(*rows: Tensor) -> tuple[Tensor, ...]:
    """Returns `rows` (tensors of one length) of all processes, concatenated. The result is equal in all processes.

    Lengths may differ between processes. A tensor of length 0 may have any other sizes. All processes must compute the
    same values from the result, because the gradient relies on it.
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
    """Returns the sum of `tensor` over all processes, bit for bit equal in all of them."""
    return _Summed.apply(tensor) if world() > 1 else tensor  # pyright: ignore[reportReturnType]


class _Gathered(Function):
    """Gathers rows. Backward needs no exchange: each process already has the gradient of the loss at its own rows."""

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
    """Returns `tensor` of every process. Its shape must be the same in all processes."""
    parts = [torch.empty_like(tensor) for _ in range(world())]
    distributed.all_gather(parts, tensor)
    return parts


def _end_with(parent: int) -> None:
    """End this process when its parent has ended. A killed parent cannot notify the others, which would wait for it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
