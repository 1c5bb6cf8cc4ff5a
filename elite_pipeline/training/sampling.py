"""The scans of a step and their random changes. Both depend only on the seed and the step.

Nothing is drawn from a shared random state. So an interrupted run sees the same scans as an uninterrupted run.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from elite_pipeline.config import Augmentation, Schedule
from elite_pipeline.training.examples import Batch, Example, Examples, collate
from elite_pipeline.training.mixing import mix

ALL, LABELLED, UNLABELLED = 0, 2, 3
"""Seed numbers of the streams of scans. 1 is the seed number of their changes, `PAIRS` that of contrasted pairs."""

PAIRS = 4


def draw(examples: Examples, augmentation: Augmentation, options: Schedule, position: int) -> Batch:
    """The batch that starts at `position` of an endless stream of scans.

    Each epoch of the stream is a shuffle of all scans. With `labelled_share` or `unlabelled`, and if some scans are
    labelled and some are not, they are two separate streams, and each has its places in every batch. Raises
    `InputError` where a scan cannot be read.
    """
    places = range(position, position + scans_per_batch(examples, options))
    return collate([_changed(examples, augmentation, options, place) for place in places])


def scans_seen(examples: Examples, options: Schedule) -> tuple[int, int] | tuple[None, None]:
    """Numbers of (labelled, unlabelled) scans in each batch; (None, None) where they are not fixed."""
    if len(examples.labelled) in (0, len(examples)):
        return None, None
    if options.unlabelled:
        return options.batch, options.unlabelled
    if options.labelled_share is None:
        return None, None
    share = round(options.labelled_share * options.batch)
    return share, options.batch - share


def scans_per_batch(examples: Examples, options: Schedule) -> int:
    """Number of scans in each batch: `batch`, and `unlabelled` more where labelled and unlabelled scans exist."""
    labelled, unlabelled = scans_seen(examples, options)
    return options.batch if labelled is None or unlabelled is None else labelled + unlabelled


def steps_of(examples: Examples, options: Schedule, processes: int) -> int:
    """Number of steps of a training run with `processes` processes.

    An epoch is a pass over all scans. With `unlabelled` it is a pass over the labelled scans, if there are any. So the
    number of steps does not depend on the unlabelled scans that are added to each batch.
    """
    if options.steps:
        return options.steps
    passed = len(examples.labelled) if options.unlabelled and examples.labelled else len(examples)
    return math.ceil((options.epochs or 0) * passed / (options.batch * processes))


def _changed(examples: Examples, augmentation: Augmentation, options: Schedule, place: int) -> Example:
    items, stream, place = _stream(examples, options, place)
    seed = options.seed
    example = examples[_shuffled(items, (seed, stream), place)]
    rng = generator(seed, 1, place) if stream == ALL else generator(seed, 1, stream, place)
    if augmentation.laser_mix or augmentation.polar_mix or augmentation.instance_cutmix:
        other = examples[int(torch.randint(len(examples), (), generator=rng))]
        example = mix(example, other, augmentation, examples.classes.things, rng)
    return example.augmented(augmentation, rng)


def _stream(examples: Examples, options: Schedule, place: int) -> tuple[Sequence[int], int, int]:
    """Stream of the scan at `place`: (items of the stream, number of the stream, place of the scan in the stream).

    The changes of a scan depend on its place in its own stream. So two processes with half a batch each make the same
    scans as one process with the whole batch.
    """
    labelled, unlabelled = scans_seen(examples, options)
    if labelled is None or unlabelled is None:
        return range(len(examples)), ALL, place
    with_labels = examples.labelled
    batch, slot = divmod(place, labelled + unlabelled)
    if slot < labelled:
        return with_labels, LABELLED, batch * labelled + slot
    without = sorted(set(range(len(examples))) - set(with_labels))
    return without, UNLABELLED, batch * unlabelled + slot - labelled


def _shuffled(items: Sequence[int], seeds: tuple[int, ...], place: int) -> int:
    """The item at `place` in the endless stream of shuffles of `items`."""
    epoch, index = divmod(place, len(items))
    return items[int(torch.randperm(len(items), generator=generator(*seeds, epoch))[index])]


def generator(*seeds: int) -> torch.Generator:
    """A random generator that starts in a different state for each tuple of `seeds` (natural numbers)."""
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
