"""Few labels: the selection of the scans that keep their labels."""

from dataclasses import replace

import numpy as np
import pytest

from elite_pipeline.config import LabelsToSelect
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.index import Index, Source
from elite_pipeline.recordings.label_selection import held_out, select


def index(labelled, shown=()):
    """The index of len(`labelled`) frames 000003, 000006, ...; `shown`: the classes in each frame."""
    frames = [f"{3 * (f + 1):06d}" for f in range(len(labelled))]
    counts = np.zeros((len(frames), 20), dtype=np.int64)
    for f, classes in enumerate(shown):
        counts[f, [0, *classes]] = 7  # every scan has points of the ignored class
    source = Source("semantickitti", "00", class_table("semantickitti"), {})
    return Index(source, frames, np.full(len(frames), 100), np.array(labelled, dtype=bool), counts, {})


def chosen(indices, labelled, **options):
    """The selected (sequence, frame) pairs in order."""
    found = select(indices, LabelsToSelect(labelled=labelled, **options))
    assert set(found) == set(indices)
    return sorted((s, frame) for s, frames in found.items() for frame in frames)


@pytest.fixture
def indices():
    """Sequences out of order. Every fourth scan has no labels: 33 of 44 scans are labelled."""
    gaps = [k % 4 != 1 for k in range(44)]
    return {"07": index(gaps[25:]), "00": index(gaps[:20]), "03": index(gaps[20:25])}


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7, 10, 20, 33, 50, 100])
def test_interval_is_every_kth_of_all_labelled_scans(indices, k):
    scans = [(s, indices[s].frames[f]) for s in sorted(indices) for f in np.flatnonzero(indices[s].labelled)]
    assert len(scans) == 33
    assert chosen(indices, 1 / k) == scans[::k]


@pytest.mark.parametrize("scans", [10, 30, 70, 100, 1000])
@pytest.mark.parametrize("percent", [1, 2, 5, 10, 20, 50, 100])
def test_shares_that_are_not_exact_in_binary(scans, percent):
    found = chosen({"00": index([True] * scans)}, percent / 100)
    assert found == [("00", f"{3 * (f + 1):06d}") for f in range(scans)][:: 100 // percent]


@pytest.mark.parametrize("by", ["interval", "classes"])
@pytest.mark.parametrize(("share", "count"), [(0.75, 25), (0.3, 10), (1e-6, 1), (1e-9, 1), (1.0, 33)])
def test_any_share_selects_its_number_of_scans_and_at_least_one(indices, by, share, count):
    found = chosen(indices, share, by=by)
    assert len(found) == len(set(found)) == count


RARE: list[tuple[int, ...]] = [(9, 17)] * 30
RARE[4], RARE[11], RARE[12], RARE[22] = (9, 8), (1, 2, 3), (1, 2), (3, 8)


@pytest.mark.parametrize("seed", range(6))
def test_selection_by_classes_covers_every_labelled_class(seed):
    """Three scans show all seven classes: scan 11, scan 4 or 22, and any common scan."""
    indices = {"00": index([True] * 16, RARE[:16]), "01": index([True] * 14, RARE[16:])}
    found = chosen(indices, 0.1, by="classes", seed=seed)
    assert len(found) == 3
    shown = {c for s, frame in found for c in np.flatnonzero(indices[s].class_points[indices[s].frames.index(frame)])}
    assert shown == {0, 1, 2, 3, 8, 9, 17}
    assert found == chosen(dict(reversed(indices.items())), 0.1, by="classes", seed=seed)


def test_selection_by_classes_depends_on_the_seed_and_skips_unlabelled_scans():
    indices = {"00": index([k != 11 for k in range(30)], RARE)}
    draws = {tuple(chosen(indices, 0.2, by="classes", seed=seed)) for seed in range(8)}
    assert len(draws) > 4
    assert all(("00", f"{3 * 12:06d}") not in draw for draw in draws)


@pytest.fixture
def drives():
    """Eight drives of 3 to 10 scans. 03 has no label at all; in the others every third scan has none."""
    return {f"0{d}": index([d != 3 and k % 3 != 1 for k in range(d + 3)]) for d in range(8)}


@pytest.mark.parametrize(
    ("share", "count"), [(0.125, 1), (1 / 7, 1), (0.3, 3), (0.5, 4), (1e-9, 1), (1.0, 7), (0.0, 0)]
)
def test_selection_by_drive_keeps_every_label_of_a_share_of_the_drives(drives, share, count):
    """The share is of the seven drives that have labels, rounded up as for scans."""
    found = chosen(drives, share, by="drive", seed=4)
    kept = {s for s, _ in found}
    assert len(kept) == count
    assert "03" not in kept
    assert found == [(s, drives[s].frames[f]) for s in sorted(kept) for f in np.flatnonzero(drives[s].labelled)]


def test_selection_by_drive_depends_on_the_seed_alone(drives):
    draws = [{s for s, _ in chosen(drives, 1 / 7, by="drive", seed=seed)} for seed in range(40)]
    assert set.union(*draws) == set(drives) - {"03"}, "every drive has its chance"
    backwards = dict(reversed(drives.items()))
    for seed in range(5):
        few, many = ({s for s, _ in chosen(backwards, n / 7, by="drive", seed=seed)} for n in (2, 5))
        assert few == {s for s, _ in chosen(drives, 2 / 7, by="drive", seed=seed)}
        assert few < many, "with one seed, more labels include the fewer ones"


def test_a_list_of_scans_is_used_unchanged(indices):
    listed = {"07": ["000009", "000006"], "00": []}
    assert chosen(indices, listed, by="classes", seed=5) == [("07", "000006"), ("07", "000009")]


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        ({"00": ["000006", "000003", "000000"]}, "sequence 00 has no labelled scans 000000, 000006: name others"),
        ({"00": []}, "name at least one scan"),
        ({"05": ["000003"]}, "sequences 05 are not in train"),
    ],
    ids=["unlabelled and unknown", "empty", "foreign sequence"],
)
def test_faulty_lists_are_refused(indices, listed, text):
    with pytest.raises(InputError, match=text):
        chosen(indices, listed)


def test_sequences_without_any_labelled_scan_are_refused():
    with pytest.raises(InputError, match="sequences 00, 01 hold no labelled scan"):
        chosen({"01": index([False]), "00": index([False, False])}, 0.5)


def held(indices, share):
    """The held-out (sequence, frame index) pairs of a list of (sequence, index)."""
    known = [replace(index, source=replace(index.source, sequence=name)) for name, index in indices]
    found = held_out(known, share)
    assert [(rows.dtype, len(rows)) for rows in found] == [(bool, len(index.frames)) for index in known]
    return [(name, int(f)) for (name, _), rows in zip(indices, found, strict=True) for f in np.flatnonzero(rows)]


@pytest.mark.parametrize(
    ("share", "drives"),
    [(0.0, []), (0.01, ["09"]), (0.25, ["09"]), (0.26, ["07", "09"]), (0.5, ["07", "09"]), (0.99, ["03", "07", "09"])],
)
def test_whole_drives_are_held_out_the_last_ones_in_sorted_order(share, drives):
    """Of four drives with labels. Sequence 08 has none, and the order of the list does not count."""
    some = {"07": [1, 0, 1], "09": [0, 1, 1], "00": [1, 1, 1], "08": [0, 0, 0], "03": [1, 0, 0]}
    found = held([(name, index([bool(x) for x in gaps])) for name, gaps in some.items()], share)
    assert found == [(name, f) for name, gaps in some.items() if name in drives for f in range(3) if gaps[f]]


@pytest.mark.parametrize(
    ("share", "scans"), [(0.0, []), (0.1, [7]), (0.4, [6, 7]), (0.41, [4, 6, 7]), (0.99, [2, 4, 6, 7])]
)
def test_of_a_single_drive_the_last_labelled_scans_are_held_out(share, scans):
    one = index([f in (1, 2, 4, 6, 7) for f in range(9)])
    assert held([("03", index([False] * 4)), ("00", one)], share) == [("00", f) for f in scans]


@pytest.mark.parametrize("labels", [[], [3]])
def test_nothing_is_held_out_where_nothing_would_be_left(labels):
    assert held([("00", index([f in labels for f in range(5)])), ("01", index([False] * 5))], 0.9) == []
