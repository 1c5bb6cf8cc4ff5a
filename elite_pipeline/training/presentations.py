"""How many labelled scans a student saw in training: two arms can be compared only if they saw equally many."""

import torch

from elite_pipeline.config import Schedule
from elite_pipeline.training.examples import Examples
from elite_pipeline.training.sampling import ALL, generator, scans_seen


def labelled_presentations(examples: Examples, options: Schedule, steps: int, processes: int) -> int:
    """The number of labelled scans in all batches of `steps` steps of `processes` processes.

    A scan counts as often as it was drawn. A second scan that is mixed into it does not count.
    """
    labelled, _ = scans_seen(examples, options)
    if labelled is not None:
        return steps * labelled * processes
    epochs, rest = divmod(steps * options.batch * processes, len(examples))
    begun = torch.randperm(len(examples), generator=generator(options.seed, ALL, epochs))[:rest].tolist()
    return epochs * len(examples.labelled) + len(set(begun) & set(examples.labelled))
