"""The scans of a step: they depend only on seed and step, and are the same for one process and for two."""

from collections import Counter

import pytest
import torch

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.training.examples import Example
from elite_pipeline.training.sampling import draw, scans_per_batch, scans_seen, steps_of

LABELLED = [1, 4, 5, 9, 10]
"""The labelled ones of 13 scans."""


class Numbered:
    """Scans that can be identified: every remission is the number of the scan. All but the first have three points."""

    def __init__(self, labelled):
        self.labelled, self.classes = labelled, class_table("semantickitti")

    def __len__(self):
        return 13

    def __getitem__(self, item):
        points = torch.arange(12.0).view(3, 4)[: 3 if item else 1]
        points[:, 3] = item
        none = torch.zeros(0, dtype=torch.int64)
        labels = torch.full((len(points),), int(item in self.labelled))  # cars
        blank = torch.zeros(0, 4, 20), torch.zeros(0, 4, 5)
        return Example(points, labels, none, blank[0], labels * (item + 1), none, blank[1])


def settings_of(student_settings, **options):
    options = student_settings.train_student.model_copy(update=options)
    return student_settings.model_copy(update={"train_student": options})


def mixing(settings):
    """`settings` with a large share for all three ways of mixing."""
    shares = {"laser_mix": 0.7, "polar_mix": 0.7, "instance_cutmix": 0.7}
    return settings.model_copy(update={"augmentation": settings.augmentation.model_copy(update=shares)})


def draw_of(examples, settings, position):
    return draw(examples, settings.augmentation, settings.train_student, position)


def scans(batch):
    """The numbers of the scans in a batch, in order."""
    return [int(batch.points[batch.scan == k][0, 3]) for k in range(batch.scans)]


def contents(*batches):
    """The scans of some batches, sorted: the number of each scan, then all its augmented coordinates."""
    found = [batch.points[batch.scan == k] for batch in batches for k in range(batch.scans)]
    return sorted((int(points[0, 3]), points[:, :3].flatten().tolist()) for points in found)


@pytest.mark.parametrize(("share", "batch"), [(0.5, 4), (0.25, 4), (0.75, 4), (0.5, 2), (0.34, 3), (1.0, 2)])
def test_each_batch_has_its_labelled_share_and_every_scan_is_used(student_settings, share, batch):
    settings = settings_of(student_settings, labelled_share=share, batch=batch)
    examples, labelled = Numbered(LABELLED), round(share * batch)
    assert scans_seen(examples, settings.train_student) == (labelled, batch - labelled)  # pyright: ignore[reportArgumentType]
    seen = [scans(draw_of(examples, settings, batch * step)) for step in range(40)]  # pyright: ignore
    for items in seen:
        assert [item in LABELLED for item in items] == [True] * labelled + [False] * (batch - labelled)
    for own in (set(LABELLED), set(range(13)) - set(LABELLED)):
        times = [item for items in seen for item in items if item in own]
        epochs = [Counter(times[k : k + len(own)]) for k in range(0, len(times) - len(own) + 1, len(own))]
        assert all(set(epoch) == own for epoch in epochs)
        assert len({tuple(times[k : k + len(own)]) for k in range(0, len(times), len(own))}) > 1 or not times


@pytest.mark.parametrize(("batch", "unlabelled"), [(2, 1), (1, 1), (1, 3), (4, 2), (6, 20)])
def test_unlabelled_scans_come_beside_the_labelled_ones(student_settings, batch, unlabelled):
    settings = settings_of(student_settings, batch=batch, unlabelled=unlabelled)
    examples = Numbered(LABELLED)
    assert scans_seen(examples, settings.train_student) == (batch, unlabelled)
    scans_of_step = scans_per_batch(examples, settings.train_student)
    assert scans_of_step == batch + unlabelled
    seen = [scans(draw_of(examples, settings, scans_of_step * step)) for step in range(40)]
    for items in seen:
        assert [item in LABELLED for item in items] == [True] * batch + [False] * unlabelled
    for own in (set(LABELLED), set(range(13)) - set(LABELLED)):
        times = [item for items in seen for item in items if item in own]
        assert all(set(times[k : k + len(own)]) == own for k in range(0, len(times) - len(own) + 1, len(own)))


@pytest.mark.parametrize("mixed", [False, True])
def test_the_labelled_scans_do_not_depend_on_how_many_unlabelled_ones_are_beside_them(student_settings, mixed):
    """Neither which scans, nor their changes. So experiments that differ only there have the same labelled scans."""
    student_settings = mixing(student_settings) if mixed else student_settings
    one, three = (settings_of(student_settings, batch=2, unlabelled=n) for n in (1, 3))
    examples = Numbered(LABELLED)
    for step in range(8):
        few, many = draw_of(examples, one, 3 * step), draw_of(examples, three, 5 * step)
        assert torch.equal(few.points[few.scan < 2], many.points[many.scan < 2])


@pytest.mark.parametrize("labelled", [[], list(range(13))])
def test_nothing_comes_beside_if_all_scans_are_labelled_or_none_is(student_settings, labelled):
    settings, examples = settings_of(student_settings, batch=3, unlabelled=2), Numbered(labelled)
    plain = settings_of(student_settings, batch=3)
    assert scans_per_batch(examples, settings.train_student) == 3
    for position in (0, 3, 36):
        found, expected = (draw_of(examples, s, position) for s in (settings, plain))
        assert torch.equal(found.points, expected.points)


@pytest.mark.parametrize(
    ("options", "labelled", "steps"),
    [
        ({"epochs": 2, "batch": 2}, LABELLED, 13),
        ({"epochs": 2, "batch": 2, "labelled_share": 0.5}, LABELLED, 13),
        ({"epochs": 2, "batch": 2, "unlabelled": 1}, LABELLED, 5),  # passes over the 5 labelled scans
        ({"epochs": 2, "batch": 2, "unlabelled": 7}, LABELLED, 5),
        ({"epochs": 2, "batch": 2, "unlabelled": 1}, [], 13),
        ({"epochs": 2, "batch": 2, "unlabelled": 1}, list(range(13)), 13),
        ({"epochs": None, "steps": 9, "batch": 2, "unlabelled": 1}, LABELLED, 9),
    ],
)
def test_an_epoch_with_unlabelled_scans_beside_is_a_pass_over_the_labelled_ones(
    student_settings, options, labelled, steps
):
    settings = settings_of(student_settings, **options).train_student
    assert steps_of(Numbered(labelled), settings, 1) == steps
    if options["epochs"]:
        assert steps_of(Numbered(labelled), settings, 2) == -(-steps // 2)


@pytest.mark.parametrize("share", [None, 0.5])
def test_every_scan_of_a_single_stream_is_seen_equally_often(student_settings, share):
    """There is one stream without a labelled share, and with one if all scans are labelled or none is."""
    settings = settings_of(student_settings, labelled_share=share, batch=3)
    for labelled in (list(range(13)), [], LABELLED)[: 3 if share is None else 2]:
        examples = Numbered(labelled)
        assert scans_seen(examples, settings.train_student) == (None, None)  # pyright: ignore[reportArgumentType]
        seen = [item for k in range(0, 39, 3) for item in scans(draw_of(examples, settings, k))]  # pyright: ignore
        assert [Counter(seen[k : k + 13]) for k in (0, 13, 26)] == [Counter(range(13))] * 3
        assert seen[:13] != seen[13:26]


@pytest.mark.parametrize(("share", "unlabelled"), [(None, 0), (0.5, 0), (None, 1), (None, 3)])
@pytest.mark.parametrize("mixed", [False, True])
def test_two_processes_see_the_same_scans_as_one_with_a_doubled_batch(student_settings, share, unlabelled, mixed):
    """Scans and points are the same: each scan has the same changes and is mixed with the same other scan."""
    student_settings = mixing(student_settings) if mixed else student_settings
    whole = settings_of(student_settings, labelled_share=share, batch=4, unlabelled=2 * unlabelled)
    half = settings_of(student_settings, labelled_share=share, batch=2, unlabelled=unlabelled)
    examples = Numbered(LABELLED)
    own = scans_per_batch(examples, half.train_student)
    assert own == 2 + unlabelled
    for step in range(12):
        ranks = [draw_of(examples, half, own * (2 * step + rank)) for rank in (0, 1)]  # pyright: ignore
        assert contents(*ranks) == contents(draw_of(examples, whole, 2 * own * step))  # pyright: ignore


@pytest.mark.parametrize(("share", "unlabelled"), [(None, 0), (0.5, 0), (None, 3)])
@pytest.mark.parametrize("mixed", [False, True])
def test_batches_depend_only_on_seed_and_position(student_settings, share, unlabelled, mixed):
    student_settings = mixing(student_settings) if mixed else student_settings
    settings = settings_of(student_settings, labelled_share=share, batch=4, unlabelled=unlabelled)
    examples = Numbered(LABELLED)

    def points(position, changed=settings):
        return draw_of(examples, changed, position).points  # pyright: ignore[reportArgumentType]

    forwards = [points(k) for k in (0, 4, 52)]
    torch.manual_seed(99)
    backwards = [points(k) for k in (52, 4, 0)]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert not torch.equal(forwards[0], points(0, settings_of(settings, seed=1)))


@pytest.mark.parametrize("way", ["laser_mix", "polar_mix", "instance_cutmix"])
def test_a_share_of_the_scans_is_mixed_with_any_other(student_settings, way):
    """The remissions show the sources of a mixture: the number of its own scan and that of any other scan."""
    examples, batch = Numbered(list(range(13))), 13

    def partners(share):
        augmentation = student_settings.augmentation.model_copy(update={way: share, "drop": 0.0})
        settings = settings_of(student_settings, batch=batch).model_copy(update={"augmentation": augmentation})
        found = []
        for step in range(20):
            drawn = draw_of(examples, settings, batch * step)  # pyright: ignore[reportArgumentType]
            found += [set(drawn.points[drawn.scan == k][:, 3].int().tolist()) for k in range(drawn.scans)]
        return found

    assert all(len(items) == 1 for items in partners(0.0))
    mixed, halves = partners(1.0), partners(0.5)
    assert {len(items) for items in mixed} <= {1, 2}
    several = [items for items in mixed if len(items) == 2]
    assert len(several) > 0.3 * len(mixed)
    assert {item for items in several for item in items} == set(range(13))
    assert 0.25 < sum(len(items) == 2 for items in halves) / len(several) < 0.75


def test_a_repeated_scan_is_changed_differently_each_time(student_settings):
    settings = settings_of(student_settings, labelled_share=0.5, batch=2)
    examples = Numbered([3])
    times = [draw_of(examples, settings, 2 * k).points[:1, :3] for k in range(5)]  # pyright: ignore[reportArgumentType]
    assert len({tuple(map(tuple, points.tolist())) for points in times}) == 5
