"""carried: votes of labelled scans, compared with a plain loop over voxels; what moves does not smear."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from elite_pipeline.aggregation.carried import Carrier
from elite_pipeline.config import CarriedThings, CarryLabels
from elite_pipeline.datasets.classes import IGNORE

CAR, PERSON, ROAD, BUILDING = 1, 6, 9, 13
SETTINGS = CarryLabels(distance=6.0, frames=4, voxel_size=0.5, things=CarriedThings(voxel_size=0.25, frames=1))


def poses(frames, spacing=1.0, origin=(0.0, 0.0, 0.0)):
    """(F, 4, 4): a drive along x that turns slowly."""
    found = np.tile(np.eye(4), (frames, 1, 1))
    turn = 0.05 * np.arange(frames)
    found[:, 0, 0] = found[:, 1, 1] = np.cos(turn)
    found[:, 1, 0], found[:, 0, 1] = np.sin(turn), -np.sin(turn)
    found[:, :3, 3] = np.array(origin)
    found[:, 0, 3] += spacing * np.arange(frames)
    return found


def carrier(classes, world_from_lidar, labelled, points, labels, settings=SETTINGS):
    def read(f):
        assert labelled[f], "labels of unlabelled scans are never read"
        return labels[f]

    return Carrier(settings, classes, world_from_lidar, np.array(labelled), points=points.__getitem__, labels=read)


def voted(*arguments, **options):
    """[per frame {point: (label, confidence, scans)}]"""
    carries = carrier(*arguments, **options)
    found = [carries.voted(f) for f in range(len(arguments[1]))]
    return [
        {int(p): (int(a), int(b), int(c)) for p, a, b, c in zip(v.point, v.label, v.confidence, v.scans, strict=True)}
        for v in found
    ]


def expected(classes, world_from_lidar, labelled, points, labels, settings):
    """The same as `voted`, voxel by voxel in dictionaries."""
    first_from_lidar = np.linalg.inv(world_from_lidar[0]) @ world_from_lidar

    def place(f):
        return points[f][:, :3] @ first_from_lidar[f, :3, :3].T + first_from_lidar[f, :3, 3]

    def ballots(f, frames, size):
        votes, scans = defaultdict(Counter), defaultdict(set)
        for g in range(len(points)):
            steps = np.linalg.norm(np.diff(world_from_lidar[min(f, g) : max(f, g) + 1, :3, 3], axis=0), axis=1).sum()
            if labelled[g] and abs(f - g) <= frames and steps <= settings.distance:
                for at, label in zip(map(tuple, np.floor(place(g) / size).astype(int)), labels[g], strict=True):
                    if label != IGNORE:
                        votes[at][int(label)] += 1
                        scans[at].add(g)
        return votes, scans

    result = []
    for f in range(len(points)):
        found = {}
        s = settings
        kinds = [(ballots(f, s.frames, s.voxel_size), s.voxel_size)]
        kinds += [(ballots(f, s.things.frames, s.things.voxel_size), s.things.voxel_size)]
        for p, at in enumerate(place(f) if not labelled[f] else ()):
            for (votes, scans), size in kinds:
                key = tuple(np.floor(at / size).astype(int))
                found.pop(p, None)
                if key not in votes:
                    break
                label = min(votes[key], key=lambda k: (-votes[key][k], k))
                share = votes[key][label] / votes[key].total()
                found[p] = (label, round(255 * share), len(scans[key]))
                if label not in classes.things:
                    break
        result.append(found)
    return result


@pytest.mark.parametrize("step", [2, 3, 5])
def test_votes_equal_a_loop_over_voxels(classes, step):
    rng = np.random.default_rng(step)
    frames = 12
    points = [rng.uniform(-3, 3, (400, 4)).astype(np.float32) for _ in range(frames)]
    labels = [rng.choice([IGNORE, CAR, PERSON, ROAD, ROAD, BUILDING], 400) for _ in range(frames)]
    labelled = [f % step == 0 for f in range(frames)]
    arguments = (classes, poses(frames), labelled, points, labels)
    found = voted(*arguments)
    assert found == expected(*arguments, SETTINGS)
    labels_found = Counter(label for frame in found for label, _, _ in frame.values())
    assert min(labels_found[k] for k in (CAR, PERSON, ROAD, BUILDING)) > 5
    assert max(scans for frame in found for _, _, scans in frame.values()) > 1
    assert all(not found[f] for f in range(0, frames, step)), "labelled scans have their own labels"


def test_result_of_a_frame_does_not_depend_on_where_the_run_began(classes):
    rng = np.random.default_rng(1)
    points = [rng.uniform(-2, 2, (200, 3)).astype(np.float32) for _ in range(9)]
    labels = [rng.choice([IGNORE, CAR, ROAD, BUILDING], 200) for _ in range(9)]
    arguments = (classes, poses(9), [f % 3 == 0 for f in range(9)], points, labels)
    whole, resumed = carrier(*arguments), carrier(*arguments)
    before = [whole.voted(f) for f in range(9)]
    for f in (5, 7, 8):
        again = resumed.voted(f)
        for name in ("point", "label", "confidence", "scans"):
            np.testing.assert_array_equal(getattr(again, name), getattr(before[f], name))
    assert len(before[8].point) > 10


def test_ignored_points_neither_vote_nor_count_as_a_scan_that_saw(classes):
    here = np.array([[0.1, 0.1, 0.1]], np.float32)
    still = np.tile(np.eye(4), (4, 1, 1))
    labelled = [True, True, True, False]
    labels = [np.array([IGNORE]), np.array([ROAD]), np.array([IGNORE])]
    assert voted(classes, still, labelled, [here] * 4, labels)[3] == {0: (ROAD, 255, 1)}
    assert voted(classes, still, labelled, [here] * 4, [np.array([IGNORE])] * 3)[3] == {}


def test_equal_votes_go_to_the_smaller_id(classes):
    here = np.array([[0.1, 0.1, 0.1]], np.float32)
    still = np.tile(np.eye(4), (3, 1, 1))
    labels = [np.array([BUILDING]), np.array([ROAD])]
    assert voted(classes, still, [True, True, False], [here] * 3, labels)[2] == {0: (ROAD, 128, 2)}


def test_car_that_drove_away_leaves_no_label(classes):
    """Frame 0 has a car at a place. Frame 1 still sees it; in frame 3 a wall of other points is there."""
    here, still = np.array([[0.1, 0.1, 0.1], [2.1, 0.1, 0.1]], np.float32), np.tile(np.eye(4), (4, 1, 1))
    labels = [np.array([CAR, BUILDING])]
    found = voted(classes, still, [True, False, False, False], [here] * 4, labels)
    assert found[1] == {0: (CAR, 255, 1), 1: (BUILDING, 255, 1)}
    assert found[2] == found[3] == {1: (BUILDING, 255, 1)}


def test_things_of_no_frame(classes):
    """things.frames: 0 carries no things."""
    here, still = np.array([[0.1, 0.1, 0.1], [2.1, 0.1, 0.1]], np.float32), np.tile(np.eye(4), (2, 1, 1))
    settings = SETTINGS.model_copy(update={"things": CarriedThings(voxel_size=0.25, frames=0)})
    found = voted(classes, still, [True, False], [here] * 2, [np.array([CAR, ROAD])], settings=settings)
    assert found[1] == {1: (ROAD, 255, 1)}


def test_confidence_and_number_of_scans_stay_in_a_byte(classes):
    frames = 301
    still, here = np.tile(np.eye(4), (frames, 1, 1)), np.full((1, 3), 0.1, np.float32)
    labels = [np.array([ROAD])] * (frames - 1)
    settings = SETTINGS.model_copy(update={"frames": 1000})
    carries = carrier(classes, still, [True] * 300 + [False], [here] * frames, labels, settings)
    found = carries.voted(300)
    assert (found.label.tolist(), found.confidence.tolist(), found.scans.tolist()) == ([ROAD], [255], [255])
    assert {array.dtype for array in (found.label, found.confidence, found.scans)} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("empty", [0, 1])
def test_scans_without_points(classes, empty):
    """Scan 0 is labelled, scan 1 is not."""
    points, labels = [np.full((1, 3), 0.1, np.float32)] * 2, [np.array([ROAD])]
    points[empty] = np.zeros((0, 3), np.float32)
    labels = [labels[0][: len(points[0])]]
    still = np.tile(np.eye(4), (2, 1, 1))
    assert voted(classes, still, [True, False], points, labels) == [{}, {}]


def test_world_whose_origin_is_far_away(classes):
    """UTM coordinates: millions of metres."""
    points = [np.float32([[0.3, 0.2, 0.1], [1.3, -0.8, 0.1]])] * 3
    far = poses(3, spacing=0.0, origin=(4.5e5, 5.4e6, 100.0))
    far[:, :3, :3] = far[0, :3, :3]
    found = voted(classes, far, [True, False, False], points, [np.array([ROAD, BUILDING])])
    assert found[2] == {0: (ROAD, 255, 1), 1: (BUILDING, 255, 1)}
