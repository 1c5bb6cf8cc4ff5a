"""The batches of a training run, one per step; for a GPU, read ahead by processes beside the one that trains.

Which scans a step sees, and how they are changed, follows from the seed and the step alone (`sampling.py`), so that who
reads them makes no difference to the bits.
"""

import shutil
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from elite_pipeline.config import Augmentation, Schedule
from elite_pipeline.errors import InputError
from elite_pipeline.examples import Batch, Examples
from elite_pipeline.sampling import draw

AHEAD = 2
"""Batches that each reader holds ready."""

SHARED = 1 << 30
"""Bytes of shared memory below which nothing is read ahead: a batch of SemanticKITTI is some 50 MB, and readers die
where it does not fit, as in a container with Docker's default of 64 MB."""


class _Steps(Dataset):
    def __init__(self, examples, augmentation, options, first, stride):
        self.of_step = lambda step: draw(examples, augmentation, options, step * stride + first)

    def __getitem__(self, step) -> Batch | InputError:
        try:
            return self.of_step(step)
        except InputError as error:
            return error  # raised in a reader, it would come with the reader's traceback


def batches(
    examples: Examples, augmentation: Augmentation, options: Schedule, steps: range, *, place=0, stride=None, readers=0
) -> Iterator[Batch]:
    """The batches of `steps`, in order, in memory (pinned where readers fill it for a GPU).

    Step s begins at position `place` + s * `stride` of the stream of scans, as `draw` has it; `stride` is one batch
    unless several processes share the scans of a step. With `readers`, as many processes read ahead, forked from this
    one. Raises the `InputError` of a scan that cannot be read at its own step.
    """
    loader = DataLoader(
        _Steps(examples, augmentation, options, place, stride or options.batch),
        sampler=steps,  # pyright: ignore[reportArgumentType]
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=readers,
        prefetch_factor=AHEAD if readers else None,
        pin_memory=readers > 0 and torch.cuda.is_available(),
        multiprocessing_context="fork" if readers else None,
        generator=torch.Generator(),  # its own, since the loader draws a number that nothing here needs
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def readers_for(device, threads, label):
    """How many processes shall read ahead: none for a CPU, which has better to do, and `threads` for a GPU."""
    if device.type == "cpu":
        return 0
    free = shutil.disk_usage("/dev/shm").free
    if free < SHARED:
        print(
            f"{label}: only {free >> 20} MB of shared memory, so that no scan is read ahead and the GPU waits for each:"
            " give the container more, as in docker run --shm-size=2g"
        )
        return 0
    return threads


def _as_it_is(batch):
    return batch
