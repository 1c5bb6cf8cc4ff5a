"""The window of frames: those within a distance and a number of frames, and the same sums from any way to it."""

import numpy as np
import pytest

from elite_pipeline.aggregation.place import Place
from elite_pipeline.aggregation.window import move, travelled, within


def poses(positions):
    """(F, 4, 4) float64 of `positions` (F, 3), turned by any angle: only the positions count."""
    found = np.tile(np.eye(4), (len(positions), 1, 1))
    angle = np.arange(len(positions)) * 0.3
    found[:, 0, 0] = found[:, 1, 1] = np.cos(angle)
    found[:, 1, 0], found[:, 0, 1] = np.sin(angle), -np.sin(angle)
    found[:, :3, 3] = positions
    return found


DRIVES = {
    "steady": np.arange(40.0) * 2,
    "stands still": np.r_[np.arange(10.0), np.full(20, 9.0), np.arange(10.0, 20)],
    "never moves": np.zeros(30),
    "turns round": np.r_[np.arange(20.0), np.arange(20.0, 0, -1)],
    "one frame": np.zeros(1),
}


def test_the_way_is_summed_along_the_drive():
    square = np.array([[0, 0, 0], [3, 0, 0], [3, 4, 0], [0, 4, 0], [0, 0, 0], [0, 0, 2.0]])
    assert travelled(poses(square)).tolist() == [0, 3, 7, 10, 14, 16]
    assert travelled(poses(square + np.array([4e5, 5.4e6, 100.0]))).tolist() == [0, 3, 7, 10, 14, 16]
    assert travelled(poses(square[:1])).tolist() == [0]


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize(("distance", "frames"), [(5.0, 3), (3.0, 100), (np.inf, 2), (0.5, 100), (4.0, 0), (1e9, 1000)])
def test_frames_within_distance_and_number(drive, distance, frames):
    x = DRIVES[drive]
    metres = travelled(poses(np.column_stack([x, x * 0, x * 0])))
    for f in range(len(x)):
        found = within(metres, f, distance, frames)
        expected = [g for g in range(len(x)) if abs(metres[g] - metres[f]) <= distance and abs(g - f) <= frames]
        assert list(found) == expected
        assert f in found


def test_a_vehicle_that_stands_still_keeps_its_window_to_the_number_of_frames():
    metres = np.zeros(1000)
    assert list(within(metres, 500, 60.0, 60)) == list(range(440, 561))
    assert list(within(metres, 0, 60.0, 60)) == list(range(61))


def test_a_vehicle_that_turns_round_counts_the_way_and_not_the_place():
    """After the turn it is at the same place as before, but 20 m of way apart."""
    x = np.r_[np.arange(20.0), np.arange(20.0, -1, -1)]
    metres = travelled(poses(np.column_stack([x, x * 0, x * 0])))
    assert (x[10], x[30]) == (10.0, 10.0)
    assert list(within(metres, 30, 5.0, 100)) == list(range(25, 36))


VOXELS = np.arange(-200, 400)


def enter(frame):
    """What frame `frame` says: its own voxels and values, the same whenever it is asked; every seventh sees nothing."""
    rng = np.random.default_rng(frame)
    keys = np.unique(rng.integers(-10, 50, 0 if frame % 7 == 3 else 40) + 3 * frame)
    return keys, rng.integers(-500, 500, (len(keys), 3)).astype(np.int32)


def walked(windows):
    place = Place(3)
    for window in windows:
        move(place, window, enter)
    return place


def assert_same(one, other):
    assert sorted(one.inside) == sorted(other.inside)
    assert len(one) == len(other)
    for mine, yours in zip(one.at(VOXELS), other.at(VOXELS), strict=True):
        assert np.array_equal(mine, yours)


@pytest.mark.parametrize("drive", DRIVES)
def test_any_start_gives_the_sums_of_moving_frame_by_frame(drive):
    x = DRIVES[drive]
    metres = travelled(poses(np.column_stack([x, x * 0, x * 0])))
    windows = [within(metres, f, 6.0, 8) for f in range(len(x))]
    place = Place(3)
    for f, window in enumerate(windows):
        move(place, window, enter)
        assert_same(place, walked([window]))
        assert_same(place, walked(windows[max(f - 3, 0) : f + 1]))
        assert_same(place, walked([windows[-1], windows[0], window]))
        assert_same(place, walked([reversed(window)]))


def test_only_new_frames_enter():
    asked = []

    def counted(frame):
        asked.append(frame)
        return enter(frame)

    place = Place(3)
    for window in (range(5), range(2, 7), range(2, 7), [6, 2], range(2, 7), []):
        move(place, window, counted)
    assert asked == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5]
    assert (place.inside, len(place)) == ([], 0)
