"""Aggregated soft labels on a scene of exact geometry: a wall, a road and moving boxes, seen by two cameras.

The points of the world lie in the middle of voxels, so that rounding decides nothing.
"""

from collections import Counter
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch

from elite_pipeline.aggregation.soft_targets import SCALE, Aggregation, Found, Seen
from elite_pipeline.config import AggregateTargets
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.soft_labels import STEP, decode

CLASSES = class_table("semantickitti")
K = len(CLASSES)
CAR, ROAD, BUILDING = 1, 9, 13
THINGS = {"voxel_size": 0.1, "frames": 2, "seen": 2}
SETTINGS = {
    "distance": 60.0,
    "frames": 60,
    "voxel_size": 0.2,
    "views": 1,
    "mean": "logarithms",
    "confidence": 0.0,
    "fade": None,
    "things": THINGS,
}
UTM = np.array([455_000.0, 5_428_000.0, 112.0])


def settings_of(things=(), **changes):
    return AggregateTargets.model_validate(SETTINGS | changes | {"things": THINGS | dict(things)})


def sure(classes, probability=0.9):
    """(n, K) float32: `probability` for each of `classes`, the rest equally for the others, none for `IGNORE`."""
    found = torch.full((len(classes), K), (1 - probability) / (K - 2))
    found[:, 0] = 0
    found[torch.arange(len(classes)), torch.as_tensor(classes)] = probability
    return found


def at(*positions):
    """Points of the world in the middle of voxels of 0.2 m and of 0.1 m. positions: (x, y, z) in whole voxels."""
    return np.array(positions, float).reshape(-1, 3) * 0.2 + 0.05


def seen(points, point=(), probabilities=None, depth=None, camera=None):
    """What one frame saw. points: (N, 3) metres, LiDAR frame."""
    count = len(point)
    return Seen(
        points=np.asarray(points, np.float32).reshape(-1, 3),
        point=np.asarray(point, np.int64),
        probabilities=torch.zeros(0, K) if probabilities is None else probabilities,
        depth=np.full(count, 5.0, np.float32) if depth is None else np.asarray(depth, np.float32),
        camera=np.zeros(count, np.int64) if camera is None else np.asarray(camera, np.int64),
    )


def standing(frames):
    return np.tile(np.eye(4), (frames, 1, 1))


def aggregated(drive, poses=None, **changes):
    """An `Aggregation` of the hand-made frames `drive`."""
    poses = standing(len(drive)) if poses is None else poses
    return Aggregation(settings_of(**changes), CLASSES, poses, drive.__getitem__)


def assert_same(one, other):
    for field in fields(Found):
        mine, yours = getattr(one, field.name), getattr(other, field.name)
        assert mine.dtype == yours.dtype, field.name
        assert mine.tobytes() == yours.tobytes(), field.name


# One place, frame by frame.


def test_a_point_seen_in_one_frame_has_its_answer_in_all_frames():
    place = at((10, 5, 2))
    frames = [seen(place) for _ in range(7)]
    frames[3] = seen(place, [0], sure([BUILDING], 0.8))
    aggregation = aggregated(frames)
    for f in range(7):
        found = aggregation.found(f)
        assert found.point.tolist() == [0]
        assert found.predicted.tolist() == [BUILDING]
        assert found.views.tolist() == [1]
        assert found.own.tolist() == [f == 3]
        probability = float(decode(torch.from_numpy(found.soft_label), K)[0, BUILDING].exp())
        assert probability == pytest.approx(0.8, abs=0.01)
        assert found.mass(K)[BUILDING] == pytest.approx(probability)
        assert found.mass(K).sum() == pytest.approx(1, abs=1e-5)


def test_the_place_counts_and_not_the_index_of_the_point():
    """The vehicle drives and turns between frames, and the world's origin is far away."""
    world = at((10, 5, 2), (-30, 7, 1), (4, -60, 0))
    poses, frames = standing(6), []
    for f in range(6):
        angle = 0.7 * f
        poses[f, :2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        poses[f, :3, 3] = [0.9 * f, -0.3 * f * f, 0.1 * f]
        points = (np.roll(world, f, axis=0) - poses[f, :3, 3]) @ poses[f, :3, :3]
        frames.append(seen(points, [0, 1], sure([(BUILDING, ROAD, 15)[-f % 3], (BUILDING, ROAD, 15)[(1 - f) % 3]])))
    frames[4] = seen(frames[4].points)
    far = poses.copy()
    far[:, :3, 3] += UTM
    turned = np.eye(4)
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    for poses_of_world in (poses, far, turned @ far):
        aggregation = aggregated(frames, poses_of_world)
        found = aggregation.found(4)
        assert found.point.tolist() == [0, 1, 2]
        assert found.predicted.tolist() == [15, BUILDING, ROAD]
        assert not found.own.any()
        assert found.views.tolist() == [3, 3, 4]
        assert_same(found, aggregated(frames, poses).found(4))


def test_the_number_of_images_that_saw_the_place():
    """Two cameras of one frame count twice. Two points of one voxel in one image count once."""
    pair = np.concatenate([at((10, 5, 2)), at((10, 5, 2)) + 0.06])
    frames = [
        seen(pair, [0, 0], sure([ROAD, ROAD]), camera=[0, 1]),
        seen(pair),
        seen(pair, [0, 1, 1], sure([ROAD] * 3), camera=[2, 2, 1]),
    ]
    aggregation = aggregated(frames)
    for f in range(3):
        assert aggregation.found(f).views.tolist() == [4, 4]
    many = [seen(pair[:1], [0, 0], sure([ROAD, ROAD]), camera=[0, 1]) for _ in range(130)]
    aggregation = aggregated(many, frames=1000)
    assert aggregation.found(0).views.tolist() == [255]
    assert aggregated(many, frames=100).found(0).views.tolist() == [202]


def test_too_few_images_do_not_reach_the_points_of_other_frames():
    place = at((10, 5, 2))
    twice = [seen(place, [0], sure([ROAD])), *(seen(place) for _ in range(6)), seen(place, [0], sure([ROAD]))]
    assert aggregated(twice, views=2).found(4).point.tolist() == [0]
    assert aggregated(twice, views=3).found(4).point.tolist() == []
    own = aggregated(twice, views=3).found(0)
    assert (own.point.tolist(), own.own.tolist(), own.views.tolist()) == ([0], [True], [1]), "what it sees itself"


def test_own_points_are_those_that_a_camera_sees_in_this_frame():
    places = at(*((10 + k, 5, 2) for k in range(6)))
    frames = [seen(places, [4, 1, 1], sure([ROAD] * 3), camera=[0, 0, 1]), seen(places, [0, 4], sure([ROAD] * 2))]
    for f, mine in enumerate(([1, 4], [0, 4])):
        found = aggregated(frames).found(f)
        assert found.point.tolist() == [0, 1, 4]
        assert found.point[found.own].tolist() == mine


def test_frames_out_of_the_window_do_not_count():
    place, road = at((10, 5, 2)), sure([ROAD])
    frames = [seen(place, [0], road), *(seen(place) for _ in range(9))]
    reached = [len(aggregated(frames, frames=4).found(f).point) for f in range(10)]
    assert reached == [1] * 5 + [0] * 5
    poses = standing(10)
    poses[:, 0, 3] = np.arange(10) * 2.0
    moved = [replace(one, points=(place - [2.0 * f, 0, 0]).astype(np.float32)) for f, one in enumerate(frames)]
    reached = [len(aggregated(moved, poses, distance=7.0).found(f).point) for f in range(10)]
    assert reached == [1] * 4 + [0] * 6


# What moves.


def passing(car_at):
    """A place of the road that every scan hits. A car stands there in the frames `car_at`: only those are seen."""
    place = at((10, 5, -8))
    return [seen(place, [0], sure([CAR])) if f in car_at else seen(place) for f in range(12)]


def test_a_car_that_stood_for_an_instant_gives_the_road_no_label():
    aggregation = aggregated(passing({4}))
    reached = {f: aggregation.found(f) for f in range(12)}
    assert [f for f, found in reached.items() if len(found.point)] == [2, 3, 4, 5, 6], "frames of nearly the same time"
    assert reached[4].predicted.tolist() == [CAR]


def test_a_parked_car_is_carried_on():
    aggregation = aggregated(passing({4, 5, 6}))
    for f in range(12):
        assert aggregation.found(f).predicted.tolist() == [CAR]


def test_the_road_after_a_car_is_road():
    """The mean of all frames says car. In the frames around 9, the road itself is seen."""
    place = at((10, 5, -8))
    frames = [seen(place) for _ in range(12)]
    for f in (1, 2, 3):
        frames[f] = seen(place, [0], sure([CAR], 0.99))
    frames[9] = seen(place, [0], sure([ROAD], 0.6))
    aggregation = aggregated(frames)
    said = [aggregation.found(f).predicted.tolist() for f in range(12)]
    assert said == [[CAR]] * 7 + [[ROAD]] * 5


def test_the_voxels_of_things_are_smaller():
    """A point 0.1 m beside the car is in the same voxel of the mean, but not in the same one of things."""
    beside = np.concatenate([at((10, 5, -8)), at((10, 5, -8)) + np.array([0.1, 0, 0])])
    car = sure([CAR])
    frames = [seen(beside), seen(beside, [0], car), seen(beside)]
    for f in range(3):
        assert aggregated(frames).found(f).point.tolist() == [0]
    assert aggregated(frames, things={"voxel_size": 0.2}).found(0).point.tolist() == [0, 1]


def test_a_voxel_that_was_a_thing_only_once_is_no_place_of_a_thing():
    """The car is seen in one frame, the road in another one with less confidence. The mean says car."""
    place = at((10, 5, -8))
    frames = [seen(place) for _ in range(20)]
    frames[2], frames[6] = seen(place, [0], sure([CAR], 0.99)), seen(place, [0], sure([ROAD], 0.6))
    aggregation = aggregated(frames)
    assert aggregation.found(4).predicted.tolist() == [CAR]  # both are near in time
    for f in range(12, 20):
        assert CAR not in aggregation.found(f).predicted


# Against a direct computation.


def scene(frames=12, seed=0, offset=(0.0, 0.0, 0.0)):
    """A drive along a wall past a moving box: (poses, [Seen]). Two cameras look ahead, with an overlap.

    Frame 5 has no visible point, frame 8 no point at all. The order of the points differs between scans.
    """
    rng = np.random.default_rng(seed)
    wall = at(*((x, 30, z) for x in range(0, 100, 3) for z in range(-4, 6, 2)))
    road = at(*((x, y, -8) for x in range(0, 100, 2) for y in range(-12, 13, 4)))
    poses, drive = standing(frames), []
    for f in range(frames):
        angle = 0.05 * f
        poses[f, :2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        poses[f, :3, 3] = [1.2 * f, 0.02 * f * f, 0.01 * f]
        box = at(*((4 * f + 10 + x, y - 10, z) for x in range(4) for y in range(3) for z in (-8, -6)))
        world = np.concatenate([wall, road, box])
        truth = np.repeat([BUILDING, ROAD, CAR], [len(wall), len(road), len(box)])
        order = rng.permutation(len(world))[rng.random(len(world)) < 0.9]
        if f == 8:
            order = order[:0]
        points = (world[order] - poses[f, :3, 3]) @ poses[f, :3, :3]
        rows, camera = [], []
        for c, (near, far) in enumerate(((2.0, 7.0), (5.0, 11.0))):
            row = np.flatnonzero((points[:, 0] > near) & (points[:, 0] < far) & (f != 5))
            rows.append(row)
            camera.append(np.full(len(row), c))
        rows, camera = np.concatenate(rows), np.concatenate(camera)
        logits = rng.normal(0, 1.5, (len(rows), K))
        logits[np.arange(len(rows)), truth[order][rows]] += 4
        logits[:, 0] = -np.inf
        drive.append(seen(points, rows, torch.from_numpy(logits).softmax(1).float(), points[rows, 0], camera))
    poses[:, :3, 3] += offset
    return poses, drive


class Plain:
    """The same rules in float64, with dictionaries."""

    def __init__(self, settings, poses, drive):
        self.settings, self.drive = settings, drive
        self.poses = np.linalg.inv(poses[0]) @ poses
        self.way = np.r_[0, np.cumsum(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1))]

    def placed(self, f):
        return self.drive[f].points.astype(np.float64) @ self.poses[f, :3, :3].T + self.poses[f, :3, 3]

    @cache  # noqa: B019
    def said(self, g, size):
        """What frame `g` says: [(voxel, weight, weighted value (K,), camera)]."""
        s, one = self.settings, self.drive[g]
        p = one.probabilities.double().numpy()
        weight = p[:, 1:].max(1) ** s.confidence * (np.exp(-one.depth.astype(float) / s.fade) if s.fade else 1.0)
        value = np.log(np.maximum(p, np.exp(-15.0))) if s.mean == "logarithms" else p
        voxel = map(tuple, np.floor(self.placed(g)[one.point] / size).tolist())
        return list(zip(voxel, weight, weight[:, None] * value, one.camera.tolist(), strict=True))

    def voxels(self, frames, size):
        """{voxel: [weighted sum (K,), sum of weights, {(frame, camera)}, {frame in which it was a thing}]}."""
        found = {}
        for g in frames:
            own = {}
            for voxel, weight, value, camera in self.said(g, size):
                own[voxel] = own.get(voxel, 0) + value
                entry = found.setdefault(voxel, [np.zeros(K), 0.0, set(), set()])
                entry[0] += value
                entry[1] += weight
                entry[2].add((g, camera))
            for voxel, value in own.items():
                if value[1:].argmax() + 1 in CLASSES.things:
                    found[voxel][3].add(g)
        return found

    def found(self, f, margin):
        """{point: (mean (K,) of logarithms or probabilities, views)}, and the points that are almost as likely a thing.

        Rounding decides about those within `margin`.
        """
        s, count = self.settings, len(self.drive)
        near = [g for g in range(count) if abs(self.way[g] - self.way[f]) <= s.distance and abs(g - f) <= s.frames]
        long = self.voxels(near, s.voxel_size)
        short = self.voxels([g for g in range(count) if abs(g - f) <= s.things.frames], s.things.voxel_size)
        result, own, unsure = {}, set(self.drive[f].point.tolist()), set()
        for k, point in enumerate(self.placed(f)):
            known = long.get(tuple(np.floor(point / s.voxel_size).tolist()))
            instead = short.get(tuple(np.floor(point / s.things.voxel_size).tolist()))
            if known is not None:
                mean = known[0] / known[1]
                stuff = np.delete(mean, [0, *CLASSES.things])
                if abs(mean[list(CLASSES.things)].max() - stuff.max()) < margin:
                    unsure.add(k)
            thing = known is not None and known[0][1:].argmax() + 1 in CLASSES.things
            enough = known is not None and len(known[2]) >= s.views
            if enough and (len(known[3]) >= s.things.seen or not thing):
                result[k] = known
            if instead is not None and (thing or (k in own and k not in result)):
                result[k] = instead
        return {k: (total / weight, len(images)) for k, (total, weight, images, _) in result.items()}, unsure


def compare(settings, poses, drive, check, margin=0.0):
    """Compares every frame. check: (soft_label (R, 8), mean (R, K)). margin: see `Plain.found`."""
    aggregation, plain = Aggregation(settings, CLASSES, poses, drive.__getitem__), Plain(settings, poses, drive)
    counts, unsure = Counter(), 0
    for f in range(len(drive)):
        found, (expected, doubtful) = aggregation.found(f), plain.found(f, margin)
        assert found.soft_label.dtype == found.views.dtype == np.uint8
        assert found.soft_label.shape == (len(found.point), 8)
        assert (np.diff(found.point) > 0).all()
        assert (found.own == np.isin(found.point, drive[f].point)).all()
        rows = np.flatnonzero(~np.isin(found.point, list(doubtful)))
        points = sorted(expected.keys() - doubtful)
        assert found.point[rows].tolist() == points
        assert found.views[rows].tolist() == [expected[k][1] for k in points]
        check(found.soft_label[rows], np.array([expected[k][0] for k in points]).reshape(-1, K))
        unsure += len(doubtful)
        counts.update(own=int(found.own.sum()), carried=int((~found.own).sum()))
        counts.update(car=int((found.predicted == CAR).sum()), several=int((found.views > 1).sum()))
    assert min(counts[name] for name in ("own", "carried", "car", "several")) > 20, counts
    assert unsure < 0.01 * counts.total()


WEIGHTS = [
    ({}, 0.004),
    ({"confidence": 1.0}, 0.2),
    ({"fade": 50.0}, 0.08),
    ({"views": 2}, 0.004),
    ({"distance": 4.0}, 0.004),
]
"""Settings, and the allowed error of a logarithm. A sum of whole numbers of 1 / `SCALE` errs by half of one per term.
Relative to the least weight here (0.2 of a class that is not sure, 0.8 at 11 m), also times the largest logarithm."""


@pytest.mark.parametrize(("changes", "error"), WEIGHTS, ids=["plain", "confidence", "fade", "views", "distance"])
def test_the_mean_of_logarithms_is_a_direct_one(changes, error, check_compact):
    def check(soft_label, mean):
        mean[:, 0] = 0
        check_compact(soft_label, mean, slack=error)

    compare(settings_of(**changes), *scene(), check, margin=error)


def test_the_mean_of_probabilities_is_a_direct_one():
    def check(soft_label, mean):
        ids, steps = soft_label[:, :4].astype(int), soft_label[:, 4:].astype(float)
        mean = np.take_along_axis(mean, ids, 1)
        first, ratio = mean[:, :1], np.exp(-steps[:, :3] * STEP)
        exact, error = mean[:, 1:] / first, 0.5 / SCALE["probabilities"]
        # Half a step of the compact form; each of two probabilities errs by half of 1 / SCALE; 255 steps at most.
        bound = (
            exact * (np.exp(STEP / 2) - 1) + (1 + STEP) * error * (1 + exact) / (first - error) + np.exp(-255 * STEP)
        )
        assert (np.abs(ratio - exact) <= bound).all()

    compare(settings_of(mean="probabilities"), *scene(), check, margin=1 / SCALE["probabilities"])


@pytest.mark.parametrize("seed", [1, 2])
def test_other_scenes_and_an_origin_far_away(seed, check_compact):
    def check(soft_label, mean):
        mean[:, 0] = 0
        check_compact(soft_label, mean, slack=0.004)

    compare(settings_of(), *scene(seed=seed, offset=UTM), check)


def test_means_are_not_the_same():
    poses, drive = scene()
    logarithms, probabilities = (
        aggregated(drive, poses, mean=mean).found(7) for mean in ("logarithms", "probabilities")
    )
    (_, mine, yours) = np.intersect1d(logarithms.point, probabilities.point, return_indices=True)
    assert len(mine) > 100
    assert (logarithms.soft_label[mine, 0] != probabilities.soft_label[yours, 0]).any()


@pytest.mark.parametrize(("fade", "depth"), [(10.0, 30.0), (10.0, 50.0), (10.0, 80.0)])
def test_the_answer_of_a_place_that_is_only_seen_from_far_away_is_kept(fade, depth, check_compact):
    """One image saw it: whatever its weight, the mean is its answer."""
    place, p = at((10, 5, 2)), sure([ROAD], 0.7)
    found = aggregated([seen(place, [0], p, depth=[depth]), seen(place)], fade=fade).found(1)
    check_compact(found.soft_label, p.log(), slack=0.05)


def test_the_mean_of_probabilities_keeps_ratios_of_rare_classes(check_compact):
    """Rare: not below the whole numbers of 1 / `SCALE` in which probabilities are summed."""
    place = at((10, 5, 2))
    p = torch.tensor([[0, 0.988, 0.006, 0.003, 0.001, *[0.002 / 15] * 15]])
    found = aggregated([seen(place, [0], p), seen(place)], mean="probabilities").found(1)
    check_compact(found.soft_label, p.log(), slack=0.1)


# Resuming, and frames without points.


@pytest.mark.parametrize("changes", [{}, {"distance": 5.0}, {"frames": 3, "mean": "probabilities", "confidence": 1.0}])
def test_a_frame_computed_first_equals_the_one_in_sequence(changes):
    poses, drive = scene()
    whole = aggregated(drive, poses, **changes)
    in_sequence = [whole.found(f) for f in range(len(drive))]
    for f, found in enumerate(in_sequence):
        assert_same(aggregated(drive, poses, **changes).found(f), found)
    for start in (3, 9):
        resumed = aggregated(drive, poses, **changes)
        for f in range(start, len(drive)):
            assert_same(resumed.found(f), in_sequence[f])


def test_each_frame_is_read_once_and_old_ones_are_forgotten():
    poses, drive = scene(frames=20)
    asked = Counter()

    def read(f):
        asked[f] += 1
        return drive[f]

    aggregation = Aggregation(settings_of(frames=4), CLASSES, poses, read)
    held = []
    for f in range(20):
        aggregation.found(f)
        held.append(len(aggregation._loaded))
    assert set(asked.values()) == {1}
    assert max(held) <= 4 + 1 + THINGS["frames"]


def test_frames_without_points_or_without_cameras():
    place = at((10, 5, 2), (11, 5, 2))
    nothing = seen(np.zeros((0, 3)))
    unseen = seen(place)
    for frames in ([nothing] * 3, [unseen] * 3, [nothing, unseen, nothing], [unseen]):
        aggregation = aggregated(frames)
        for f in range(len(frames)):
            found = aggregation.found(f)
            assert found.point.shape == found.views.shape == found.own.shape == found.predicted.shape == (0,)
            assert found.soft_label.shape == (0, 8)
            assert (found.soft_label.dtype, found.views.dtype, found.own.dtype) == (np.uint8, np.uint8, np.bool_)
            assert found.mass(K).tolist() == [0] * K
    aggregation = aggregated([nothing, seen(place, [1], sure([ROAD])), nothing, unseen])
    assert [aggregation.found(f).point.tolist() for f in range(4)] == [[], [1], [], [1]]
