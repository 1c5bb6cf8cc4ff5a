"""Which scans a step sees, and how they are changed: a function of the seed and the step alone.

Nothing is drawn from a shared state, so that a run that was interrupted sees what an uninterrupted one would have.
"""

from collections.abc import Sequence

import numpy as np
import torch

from elite_pipeline.config import Augmentation, Schedule
from elite_pipeline.training.examples import Batch, Example, Examples, collate
from elite_pipeline.training.mixing import mix

ALL, LABELLED, UNLABELLED = 0, 2, 3
"""Streams of scans; 1 is the seed of their changes, and `PAIRS` that of the pairs that a step contrasts."""

PAIRS = 4


def draw(examples: Examples, augmentation: Augmentation, options: Schedule, position: int) -> Batch:
    """The batch that starts at `position` of an endless stream of scans.

    Each epoch of the stream is a shuffle of all scans; with `labelled_share`, where some scans are unlabelled, labelled
    and unlabelled ones are streams of their own, which share out the places of each batch. Raises `InputError` where a
    scan cannot be read.
    """
    places = range(position, position + options.batch)
    return collate([_changed(examples, augmentation, options, place) for place in places])


def scans_seen(examples: Examples, options: Schedule) -> tuple[int, int] | tuple[None, None]:
    """(labelled, unlabelled) scans in each batch; None for either where they come as they come."""
    labelled = examples.labelled
    if options.labelled_share is None or len(labelled) in (0, len(examples)):
        return None, None
    share = round(options.labelled_share * options.batch)
    return share, options.batch - share


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
    """Where the scan at `place` comes from: the items of its stream, the stream's number, and its place in that.

    A scan's changes follow from its place in its own stream, so that two processes with half a batch each make the
    scans that one with the whole batch makes.
    """
    labelled, unlabelled = scans_seen(examples, options)
    if labelled is None or unlabelled is None:
        return range(len(examples)), ALL, place
    with_labels = examples.labelled
    batch, slot = divmod(place, options.batch)
    if slot < labelled:
        return with_labels, LABELLED, batch * labelled + slot
    without = sorted(set(range(len(examples))) - set(with_labels))
    return without, UNLABELLED, batch * unlabelled + slot - labelled


def _shuffled(items: Sequence[int], seeds: tuple[int, ...], place: int) -> int:
    """The element at `place` of the endless stream of shuffles of `items`."""
    epoch, index = divmod(place, len(items))
    return items[int(torch.randperm(len(items), generator=generator(*seeds, epoch))[index])]


def generator(*seeds: int) -> torch.Generator:
    """A generator that starts in a state of its own for any `seeds`, natural numbers."""
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
