"""The batches of a training run, one per step. For a GPU, separate processes read them ahead of the training process.

The scans of a step and their random changes depend only on the seed and the step (`sampling.py`). So the batches are
the same to the bit, whichever process reads them.
"""

import shutil
from collections.abc import Generator

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from elite_pipeline.config import Augmentation, Schedule
from elite_pipeline.errors import InputError
from elite_pipeline.training.examples import Batch, Examples
from elite_pipeline.training.sampling import draw

AHEAD = 2
"""Number of batches that each reader keeps ready."""

SHARED = 1 << 30
"""Bytes of shared memory per training process. With less, nothing is read ahead. A batch of SemanticKITTI takes about
50 MB, which is about all that Docker gives a container by default."""

MORE_MEMORY = "Give the container more shared memory, for example with docker run --shm-size=8g"


class _Steps(Dataset):
    def __init__(
        self, examples: Examples, augmentation: Augmentation, options: Schedule, place: int, stride: int
    ) -> None:
        self.of_step = lambda step: draw(examples, augmentation, options, step * stride + place)

    def __getitem__(self, step: int) -> Batch | InputError:
        # An error raised in a reader would arrive with the traceback of the reader.
        try:
            batch = self.of_step(step)
        except InputError as error:
            return error
        try:
            # If the queue moved a batch to shared memory and found no room, it would drop the batch silently. The
            # training process would then wait for it forever.
            return batch.share_memory() if get_worker_info() else batch
        except RuntimeError as error:
            return InputError(
                f"no shared memory for the scans of step {step} ({error}). {MORE_MEMORY}, or set fewer threads"
            )


def batches(
    examples: Examples,
    augmentation: Augmentation,
    options: Schedule,
    steps: range,
    *,
    place: int,
    stride: int,
    readers: int = 0,
) -> Generator[Batch]:
    """Yield the batches of `steps` in order, in CPU memory (pinned memory where readers fill it for a GPU).

    Step s starts at position `place` + s * `stride` of the stream of scans; see `draw`.
    readers: number of processes that read ahead. They are forked from this process and end with this generator.
    Raises the `InputError` of an unreadable scan at the step of that scan, and `InputError` where a reader was killed.
    """
    loader = DataLoader(
        _Steps(examples, augmentation, options, place, stride),
        sampler=steps,  # pyright: ignore[reportArgumentType]
        batch_size=None,
        num_workers=readers,
        prefetch_factor=AHEAD if readers else None,
        pin_memory=readers > 0 and torch.cuda.is_available(),
        multiprocessing_context="fork" if readers else None,
        generator=torch.Generator(),  # the loader draws a number; this leaves torch's own generator alone
    )
    try:
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a process that reads scans ahead was killed ({str(error).splitlines()[0]}), most likely because"
            " memory ran out: give the job more memory, or set fewer threads"
        ) from None


def readers_for(device: torch.device, threads: int, label: str, *, processes: int = 1) -> int:
    """Number of processes that read ahead for each of `processes` training processes.

    It is 0 on a CPU: readers would compete with training.
    """
    if device.type == "cpu":
        return 0
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        free = 0
    if free < SHARED * processes:
        print(f"{label}: only {free >> 20} MB of shared memory: no scan is read ahead, the GPU waits. {MORE_MEMORY}")
        return 0
    return threads
