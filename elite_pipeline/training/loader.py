"""The batches of a training run, one per step; for a GPU, read ahead by processes beside the one that trains.

Which scans a step sees, and how they are changed, follows from the seed and the step alone (`sampling.py`), so that who
reads them makes no difference to the bits.
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
"""Batches that each reader holds ready."""

SHARED = 1 << 30
"""Bytes of shared memory per training process below which nothing is read ahead. A batch of SemanticKITTI is some
50 MB, all that Docker gives a container unless told otherwise."""

MORE_MEMORY = "Give the container more shared memory, as in docker run --shm-size=8g"


class _Steps(Dataset):
    def __init__(
        self, examples: Examples, augmentation: Augmentation, options: Schedule, place: int, stride: int
    ) -> None:
        self.of_step = lambda step: draw(examples, augmentation, options, step * stride + place)

    def __getitem__(self, step: int) -> Batch | InputError:
        # Raised in a reader, an error would come with the reader's traceback.
        try:
            batch = self.of_step(step)
        except InputError as error:
            return error
        try:
            # Left to the queue, a batch that finds no room would be dropped silently and waited for forever.
            return batch.share_memory() if get_worker_info() else batch
        except RuntimeError as error:
            return InputError(
                f"no shared memory for the scans of step {step} ({error}). {MORE_MEMORY}, or fewer threads"
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
    """The batches of `steps`, in order, in memory (pinned where readers fill it for a GPU).

    Step s begins at position `place` + s * `stride` of the stream of scans, as `draw` has it. With `readers`, as many
    processes read ahead, forked from this one; they end with this generator.
    Raises the `InputError` of a scan that cannot be read at its own step, and one where a reader was killed.
    """
    loader = DataLoader(
        _Steps(examples, augmentation, options, place, stride),
        sampler=steps,  # pyright: ignore[reportArgumentType]
        batch_size=None,
        num_workers=readers,
        prefetch_factor=AHEAD if readers else None,
        pin_memory=readers > 0 and torch.cuda.is_available(),
        multiprocessing_context="fork" if readers else None,
        generator=torch.Generator(),  # its own, since the loader draws a number that nothing here needs
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
            f"a process that reads scans ahead was killed ({str(error).splitlines()[0]}), most likely for its memory:"
            " give the job more, or write fewer threads"
        ) from None


def readers_for(device: torch.device, threads: int, label: str, *, processes: int = 1) -> int:
    """How many processes shall read ahead for each of `processes`: for a CPU none, which has better to do."""
    if device.type == "cpu":
        return 0
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        free = 0
    if free < SHARED * processes:
        print(f"{label}: {free >> 20} MB of shared memory: no scan is read ahead, and the GPU waits. {MORE_MEMORY}")
        return 0
    return threads
