"""Mixing two scans. The remission of each point is a unique mark that determines its labels and targets."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from elite_pipeline.config import Augmentation
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.training.examples import Example, collate
from elite_pipeline.training.mixing import (
    instance_cutmix,
    join,
    laser_mix,
    mix,
    polar_mix,
    swap_bands,
    swap_half_turn,
    take,
    turned,
)

THINGS = class_table("semantickitti").things
NONE = Augmentation(rotate=False, flip=False, scale=0, translate=0, drop=0)
ALL = NONE.model_copy(update={"laser_mix": 1.0, "polar_mix": 1.0, "instance_cutmix": 1.0})
SECOND = 10_000
"""Marks from this number on belong to the second scan."""


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scan(points, start=0, labelled=True, taught=True):
    """Points marked `start`, `start` + 1, ... Two cameras saw some of them twice. One in five has no cached patch.

    Half of them have an aggregated soft label if the scan is taught, and half a carried label if it is unlabelled.
    """
    generator = seeded(start + points)
    xyz = torch.randn(points, 3, generator=generator) * torch.tensor([20.0, 20.0, 3.0])
    marks = torch.arange(start, start + points)
    labels, instances = expected_labels(marks), expected_instances(marks)
    if not labelled:
        labels, instances = torch.zeros_like(labels), torch.zeros_like(instances)
    seen = torch.randint(points, (points if taught else 0,), generator=generator)
    reached, carried = (torch.randperm(points, generator=generator)[: (points + 1) // 2] for _ in range(2))
    reached, carried = reached[: points * taught], carried[: points * (not labelled)]
    names = (marks // 7).unique()
    names = names[torch.randperm(len(names), generator=generator)]
    patch_of = torch.argmax((names == (marks[seen] // 7)[:, None]).int(), dim=1)
    # Without cached targets, the other sizes differ from those of a scan with targets.
    return Example(
        points=torch.cat([xyz, marks[:, None].float()], dim=1),
        labels=labels,
        instances=instances,
        taught=seen,
        teacher=marks[seen, None, None].float().expand(-1, 4, 20).clone() if taught else torch.zeros(0, 0, 20),
        patch_of=torch.where(marks[seen] % 5 == 0, -1, patch_of),
        patches=names[:, None, None].float().expand(-1, 4, 5).clone() if taught else torch.zeros(0, 0, 0),
        reached=reached,
        aggregated=expected_codes(marks[reached]) if taught else torch.zeros(0, 0, dtype=torch.uint8),
        carried=carried,
        carried_label=marks[carried] % 19 + 1,
        carried_weight=marks[carried] % 100 / 100,
    )


def expected_codes(marks):
    return torch.stack([marks // 256, marks % 256] * 4, dim=1).to(torch.uint8)


def expected_labels(marks):
    return (marks * 7) % 20


def expected_instances(marks):
    return torch.where((marks * 7) % 20 < 9, marks % 4, 0) * 10


def marks(example):
    return example.points[:, 3].long()


def come_from(example, start):
    """Sorted marks of the points of one of the two scans."""
    return sorted(mark for mark in marks(example).tolist() if (mark >= SECOND) == (start >= SECOND))


def assert_equal(one, other):
    assert all(torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Example))


def assert_all_followed(mixed, *sources):
    """Every point of `mixed` has the labels and teacher targets that its mark had in one of `sources`."""
    mark = marks(mixed)
    origin = torch.cat([marks(source) for source in sources])
    assert torch.isin(mark, origin).all()
    row = {m: k for k, m in enumerate(origin.tolist())}
    rows = torch.tensor([row[m] for m in mark.tolist()])
    assert torch.equal(mixed.labels, torch.cat([source.labels for source in sources])[rows])
    known = torch.cat([source.instances for source in sources])[rows]
    assert torch.equal(mixed.instances == 0, known == 0)
    assert mixed.labels.dtype == mixed.instances.dtype == mixed.taught.dtype == mixed.patch_of.dtype == torch.int64
    objects = torch.stack([mixed.instances, (mark >= SECOND).long(), known], dim=1)[known != 0].unique(dim=0)
    assert len(objects) == len(objects[:, 0].unique())  # each id belongs to one object of one scan
    answers = torch.cat([torch.bincount(source.taught, minlength=len(source.points)) for source in sources])
    assert torch.equal(torch.bincount(mixed.taught, minlength=len(mark)), answers[rows])
    assert len(mixed.taught) == len(mixed.teacher) == len(mixed.patch_of)
    seen = mark[mixed.taught]
    assert (mixed.teacher == seen[:, None, None]).all()
    assert torch.equal(mixed.patch_of < 0, seen % 5 == 0)
    shown = mixed.patch_of >= 0
    assert (mixed.patches[mixed.patch_of[shown]] == (seen[shown] // 7)[:, None, None]).all()
    for name in ("reached", "carried"):
        had = torch.cat([torch.bincount(getattr(source, name), minlength=len(source.points)) for source in sources])
        assert torch.equal(torch.bincount(getattr(mixed, name), minlength=len(mark)), had[rows])
    if len(mixed.reached):
        assert torch.equal(mixed.aggregated, expected_codes(mark[mixed.reached]))
    assert torch.equal(mixed.carried_label, mark[mixed.carried] % 19 + 1)
    assert torch.equal(mixed.carried_weight, mark[mixed.carried] % 100 / 100)


PAIRS = {
    "ragged": (scan(403), scan(251, SECOND)),
    "second unlabelled": (scan(97), scan(300, SECOND, labelled=False)),
    "first unlabelled": (scan(97, labelled=False), scan(300, SECOND)),
    "second untaught": (scan(200), scan(150, SECOND, taught=False)),
    "first untaught": (scan(200, taught=False), scan(150, SECOND)),
    "both untaught": (scan(50, taught=False), scan(60, SECOND, taught=False)),
    "single points": (scan(1), scan(1, SECOND)),
}
WAYS = {
    "laser_mix": laser_mix,
    "polar_mix": lambda first, second, generator: polar_mix(first, second, THINGS, generator),
    "instance_cutmix": lambda first, second, _: instance_cutmix(first, second),
    "all": lambda first, second, generator: mix(first, second, ALL, THINGS, generator),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pair", PAIRS)
def test_labels_and_teacher_targets_follow_their_points(way, pair):
    first, second = PAIRS[pair]
    for seed in range(4):
        mixed = WAYS[way](first, second, seeded(seed))
        assert len(mixed.points) >= 1
        assert_all_followed(mixed, first, second)
        changed = collate([mixed.augmented(NONE.model_copy(update={"drop": 0.5}), seeded(seed)), mixed])
        assert torch.equal(changed.carried_label, changed.points[changed.carried, 3].long() % 19 + 1)
        if len(changed.reached):
            assert torch.equal(changed.aggregated, expected_codes(changed.points[changed.reached, 3].long()))
        assert (changed.teacher == changed.points[changed.taught, 3][:, None, None]).all()


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 6])
def test_bands_alternate_from_the_top(bands):
    first, second = PAIRS["ragged"]
    mixed = swap_bands(first, second, bands)
    elevations = []
    for example in (first, second, mixed):
        x, y, z, _ = example.points.double().numpy().T
        elevations.append(np.arctan(z / np.sqrt(x**2 + y**2)))
    low, high = np.quantile(np.concatenate(elevations[:2]), [0.01, 0.99])
    edges = np.linspace(high, low, bands + 1)
    edges[0], edges[-1] = np.inf, -np.inf
    for k in range(bands):
        source = (first, second)[k % 2]
        inside = [(e <= edges[k]) & (e > edges[k + 1]) for e in (elevations[k % 2], elevations[2])]
        assert inside[0].any()
        assert sorted(marks(mixed)[inside[1]].tolist()) == marks(source)[inside[0]].tolist()


def test_stray_points_do_not_stretch_the_bands():
    first, second = PAIRS["ragged"]
    stray = replace(first, points=first.points.clone())
    up = first.points[:, 2].argmax()
    stray.points[up, :3] = torch.tensor([0.0, 0.0, 50.0])  # straight up
    before, after = (come_from(swap_bands(one, second, 5), SECOND) for one in (first, stray))
    assert len(set(before) ^ set(after)) < 10


def test_laser_mix_draws_three_to_six_bands():
    first, second = PAIRS["ragged"]
    bands = {tuple(marks(swap_bands(first, second, n)).tolist()): n for n in range(1, 12)}
    assert {bands[tuple(marks(laser_mix(first, second, seeded(k))).tolist())] for k in range(60)} == {3, 4, 5, 6}


@pytest.mark.parametrize("start", [0.0, 0.3, 2.0, math.pi, 4.0, 6.2, -1.0])
def test_a_half_turn_is_swapped_exactly(start):
    first, second = PAIRS["ragged"]
    mixed = swap_half_turn(first, second, start)

    def left(example):  # left of the line from the sensor towards `start`
        return math.cos(start) * example.points[:, 1] - math.sin(start) * example.points[:, 0] > 0

    assert come_from(mixed, 0) == marks(first)[~left(first)].tolist()
    assert come_from(mixed, SECOND) == marks(second)[left(second)].tolist()
    assert 0 < left(second).sum() < len(second.points)


def test_polar_mix_swaps_half_of_the_scans_at_any_azimuth():
    first, second = PAIRS["second unlabelled"]  # the second scan has no known objects
    middles = []
    for seed in range(150):
        mixed = polar_mix(first, second, THINGS, seeded(seed))
        if len(come_from(mixed, SECOND)) == 0:
            assert_equal(mixed, first)
            continue
        came = mixed.points[marks(mixed) >= SECOND, :2]
        x, y = torch.nn.functional.normalize(came, dim=1).mean(dim=0).tolist()
        middles.append(math.atan2(y, x))
    assert 50 < len(middles) < 100
    assert np.histogram(middles, bins=4, range=(-math.pi, math.pi))[0].min() > 8


def test_objects_are_pasted_in_place_and_at_two_turned_places():
    first, second = PAIRS["ragged"]
    objects = take(second, (second.labels >= 1) & (second.labels <= 8))
    n, first_turns, second_turns = len(objects.points), [], []
    assert 0 < n < len(second.points)
    for seed in range(40):
        mixed = polar_mix(first, second, THINGS, seeded(seed))
        pasted = mixed.points[-3 * n :].reshape(3, n, 4)
        assert torch.equal(pasted[0], objects.points)
        assert torch.equal(pasted[:, :, 2:], objects.points[:, 2:].expand(3, n, 2))
        flat = torch.view_as_complex(pasted[:, :, :2].contiguous())
        turns = flat[1:] / flat[0]
        torch.testing.assert_close(turns, turns[:, :1].expand(2, n), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(turns.abs(), torch.ones(2, n))
        angles = turns[:, 0].angle() % (2 * math.pi)
        first_turns.append(angles[0].item())
        second_turns.append(angles[1].item())
        # Three copies are three objects each.
        ids = mixed.instances[-3 * n :].reshape(3, n)
        assert not set(ids[0][ids[0] > 0].tolist()) & set(ids[1][ids[1] > 0].tolist())
        assert not set(ids[2][ids[2] > 0].tolist()) & set(ids[1][ids[1] > 0].tolist())
    third = 2 * math.pi / 3
    assert all(0 <= angle < third for angle in first_turns)
    assert all(third <= angle < 2 * third for angle in second_turns)
    assert len(set(first_turns)) > 30
    assert max(first_turns) > 0.8 * third
    assert min(second_turns) < 1.2 * third


def test_things_are_the_classes_that_move(classes):
    names = "car bicycle motorcycle truck other-vehicle person bicyclist motorcyclist"
    assert [classes.names[k] for k in THINGS] == names.split()


def test_turning_goes_from_x_towards_y_and_changes_nothing_else():
    example = replace(scan(2), points=torch.tensor([[1.0, 0.0, 5.0, 0.0], [0.0, 2.0, -1.0, 1.0]]))
    after = turned(example, math.pi / 2).points
    torch.testing.assert_close(after, torch.tensor([[0.0, 1.0, 5.0, 0.0], [-2.0, 0.0, -1.0, 1.0]]))


def test_cutmix_adds_every_point_of_an_instance_unchanged():
    first, second = PAIRS["ragged"]
    mixed = instance_cutmix(first, second)
    added = expected_instances(marks(second)) != 0
    assert torch.equal(mixed.points, torch.cat([first.points, second.points[added]]))
    assert torch.equal(mixed.instances[: len(first.points)], first.instances)
    assert torch.equal(mixed.instances[len(first.points) :], second.instances[added] + first.instances.max())
    unlabelled = PAIRS["second unlabelled"]
    assert_equal(instance_cutmix(*unlabelled), unlabelled[0])


def test_taking_removes_patches_that_no_point_hits():
    first, _ = PAIRS["ragged"]
    some = take(first, marks(first) < 70)
    assert_all_followed(some, first)
    assert sorted(some.patch_of[some.patch_of >= 0].unique().tolist()) == list(range(len(some.patches)))
    assert 0 < len(some.patches) <= 10 < len(first.patches)
    nothing = take(first, torch.zeros(403, dtype=torch.bool))
    assert [len(getattr(nothing, field.name)) for field in fields(Example)] == [0] * 12
    assert_equal(join(nothing, first, nothing), first)


@pytest.mark.parametrize("way", ["laser_mix", "polar_mix", "instance_cutmix"])
def test_a_share_of_the_scans_is_mixed(way):
    first, second = PAIRS["ragged"]
    changed = {}
    for share in (0.0, 0.3, 1.0):
        settings = NONE.model_copy(update={way: share})
        mixed = [mix(first, second, settings, THINGS, seeded(seed)) for seed in range(100)]
        changed[share] = [len(come_from(m, SECOND)) > 0 for m in mixed]
        for m, there in zip(mixed, changed[share], strict=True):
            if not there:
                assert_equal(m, first)
    assert not any(changed[0.0])
    assert all(changed[1.0])
    assert 15 < sum(changed[0.3]) < 47


def test_ways_of_mixing_are_drawn_independently_and_applied_in_order():
    first, second = PAIRS["ragged"]

    def only(**shares):
        return [mix(first, second, NONE.model_copy(update=shares), THINGS, seeded(seed)) for seed in range(40)]

    drawn = np.array([[len(come_from(m, SECOND)) > 0 for m in only(**{w: 0.5})] for w in list(WAYS)[:3]])
    assert {tuple(column) for column in drawn.T} == set(np.ndindex(2, 2, 2))  # every combination occurs
    for seed, mixed in enumerate(only(laser_mix=1.0, polar_mix=1.0, instance_cutmix=1.0)):
        generator = seeded(seed)
        torch.rand(3, generator=generator)
        by_hand = polar_mix(laser_mix(first, second, generator), second, THINGS, generator)
        assert_equal(mixed, instance_cutmix(by_hand, second))


@pytest.mark.parametrize("pair", PAIRS)
def test_depends_only_on_its_generator(pair):
    first, second = PAIRS[pair]
    state = torch.get_rng_state()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(results))
        results.append(mix(first, second, ALL, THINGS, seeded(seed)))
    torch.set_rng_state(state)
    assert_equal(results[0], results[1])
    if pair == "ragged":
        assert not torch.equal(results[0].points[:50], results[2].points[:50])


@pytest.mark.parametrize("settings", [NONE, ALL], ids=["none", "all"])
@pytest.mark.parametrize("pair", PAIRS)
def test_shares_no_memory_with_its_sources(pair, settings):
    sources = PAIRS[pair]
    before = [join(source) for source in sources]
    for seed in range(5):
        mixed = mix(*sources, settings, THINGS, seeded(seed))
        for field in fields(Example):
            getattr(mixed, field.name).fill_(-77)
    for source, copy in zip(sources, before, strict=True):
        assert_equal(source, copy)


def test_a_scan_that_would_lose_all_its_points_stays_unchanged():
    ahead, behind = scan(40), scan(40, SECOND)
    ahead = replace(ahead, points=ahead.points * torch.tensor([1.0, 0.1, 1.0, 1.0]))
    ahead.points[:, 0] = ahead.points[:, 0].abs() + 20
    behind = replace(behind, points=behind.points.clone())
    behind.points[:, 0] = -behind.points[:, 0].abs() - 20
    behind.points[:, 1] *= 0.1
    assert_equal(swap_half_turn(ahead, behind, -math.pi / 2), ahead)
    assert come_from(swap_half_turn(ahead, behind, math.pi / 2), SECOND) == marks(behind).tolist()
    low, high = (replace(e, points=e.points.clone()) for e in (ahead, behind))
    low.points[:, 2], high.points[:, 2] = -5.0, 5.0
    assert_equal(swap_bands(low, high, 2), low)
    assert len(swap_bands(high, low, 2).points) == 80
