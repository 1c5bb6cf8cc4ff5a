"""Names with a seed, and the data sets that draw their labelled drives."""

import pytest

from elite_pipeline.config.seeds import dataset_of, draws_drives, entry, seed_of


def of(labelled, by="drive"):
    return {"labelled": labelled, "select_labels": {"by": by, "seed": 0}}


def test_names():
    assert (entry("demo-seed12"), seed_of("demo-seed12")) == ("demo", 12)
    assert (entry("demo"), seed_of("demo")) == ("demo", None)
    assert seed_of("demo-seed0") == 0, "seed 0 is a seed"


@pytest.mark.parametrize(
    ("dataset", "draws"),
    [
        (of(0.125), True),
        (of(1.0), False),
        (of(0.0), False),
        (of({"00": ["000000"]}), False),
        (of(0.125, "classes"), False),
        (of(0.125, "interval"), False),
    ],
)
def test_only_some_drives_drawn_by_chance_depend_on_the_seed(dataset, draws):
    assert draws_drives(dataset) is draws
    assert dataset_of("x-seed3", "d", {"d": dataset}) == ("d-seed3" if draws else "d")
    assert dataset_of("x", "d", {"d": dataset}) == "d"
