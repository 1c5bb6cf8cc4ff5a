"""Names with a seed. `<experiment>-seed7` is the experiment with seed 7.

The seed is always that of the student and of its pre-training. Where the data set draws its labelled drives
(`draws_drives`), seed 7 draws these too: the data set becomes `<dataset>-seed7`, with a teacher of its own, tuned with
seed 7. So runs of one experiment differ in all that chance decides.
"""

from collections.abc import Mapping
from typing import Any

MARK = "-seed"


def entry(name: str) -> str:
    """Returns the entry of the configuration that a name is of: `demo` for `demo-seed7`, and for `demo`."""
    return name.partition(MARK)[0]


def seed_of(name: str) -> int | None:
    """Returns the seed in a name; None for a name without a seed."""
    seed = name.partition(MARK)[2]
    return int(seed) if seed else None


def draws_drives(dataset: Mapping[str, Any]) -> bool:
    """Returns whether a data set draws the drives that keep their labels: some of them, but not all, and by chance.

    dataset: an entry of the configuration's `datasets`, as JSON values.
    """
    labelled = dataset["labelled"]
    by_drive = dataset["select_labels"]["by"] == "drive"
    return by_drive and not isinstance(labelled, Mapping) and 0 < labelled < 1


def dataset_of(name: str, dataset: str, datasets: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the data set of a job that belongs to `name`, an experiment or a pre-training, with or without a seed.

    dataset: the data set that its entry names. It gets the seed of `name` if it draws its labelled drives. datasets:
    the configuration's.
    """
    _, mark, seed = name.partition(MARK)
    return f"{dataset}{mark}{seed}" if mark and draws_drives(datasets[dataset]) else dataset
