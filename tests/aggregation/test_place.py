"""The voxels of a place: sums equal a dictionary's after any number of frames, and memory is that of the window."""

import itertools

import numpy as np
import pytest

from elite_pipeline.aggregation.place import BITS, Place, summed, voxel_keys

CHANNELS = 5


def drawn(rng, voxels, most=60):
    """What a frame says of at most `most` of the `voxels`: (keys, values)."""
    keys = np.unique(rng.choice(voxels, rng.integers(0, most + 1)))
    return keys, rng.integers(-4000, 4000, (len(keys), CHANNELS)).astype(np.int32)


def totals(inside):
    """{key: (sums, frames)} of the frames `inside`: {frame: (keys, values)}."""
    found = {}
    for keys, values in inside.values():
        for key, row in zip(keys.tolist(), values, strict=True):
            sums, frames = found.get(key, (np.zeros(CHANNELS, np.int64), 0))
            found[key] = sums + row, frames + 1
    return found


def assert_equal(place, inside, voxels):
    """Every voxel of `voxels` (distinct, ascending) has the sums and frames of a dictionary."""
    expected = totals(inside)
    rows, sums, frames = place.at(voxels)
    assert voxels[rows].tolist() == sorted(expected)
    assert len(place) == len(expected)
    assert sorted(place.inside) == sorted(inside)
    for key, mine, count in zip(voxels[rows].tolist(), sums, frames, strict=True):
        assert (mine == expected[key][0]).all()
        assert count == expected[key][1]


@pytest.mark.parametrize("seed", range(3))
def test_sums_are_exact_after_thousands_of_frames_in_any_order(seed):
    rng = np.random.default_rng(seed)
    voxels = np.unique(rng.integers(-(1 << 62), 1 << 62, 400))
    place, inside, number = Place(CHANNELS), {}, itertools.count()
    for step in range(4000):
        if inside and (len(inside) > 30 or rng.random() < 0.5):
            gone = int(rng.choice(list(inside)))
            place.remove(gone)
            del inside[gone]
        else:
            frame = next(number)
            inside[frame] = drawn(rng, voxels)
            place.add(frame, *inside[frame])
        if step % 97 == 0:
            assert_equal(place, inside, voxels)
    assert inside
    assert_equal(place, inside, voxels)
    for frame in list(inside):
        place.remove(frame)
    assert (len(place), place.inside) == (0, [])
    assert not place._sums.any()
    assert not place._frames.any()


def test_memory_is_that_of_the_window_however_long_the_drive():
    rng = np.random.default_rng(0)
    place, most = Place(CHANNELS), 0
    for f in range(1500):
        keys = np.arange(100) + 50 * f + rng.integers(0, 20)  # ever new voxels, half of them seen twice
        place.add(f, keys, np.ones((100, CHANNELS), np.int32))
        if f >= 20:
            place.remove(f - 20)
        most = max(most, len(place))
        slots = len(place._sums)
        assert len(place._keys) == len(place._slots)
        assert len(place._frames) == slots == len(place._keys) + len(place._free), "each slot is in use or free"
        assert slots <= 1.5 * most + 1024
        assert len(np.unique(np.concatenate([place._slots, place._free]))) == slots, "no slot has two owners"
        assert (np.diff(place._keys) > 0).all()
    assert most < 21 * 100
    assert len(place.inside) == 20


def test_frames_without_points_come_and_go():
    nothing = np.zeros(0, np.int64), np.zeros((0, CHANNELS), np.int32)
    place = Place(CHANNELS)
    place.add(0, *nothing)
    assert [len(found) for found in place.at(np.array([3, 4]))] == [0, 0, 0]
    place.add(1, np.array([4]), np.full((1, CHANNELS), 7, np.int32))
    place.add(2, *nothing)
    rows, sums, frames = place.at(np.array([3, 4]))
    assert (rows.tolist(), sums.tolist(), frames.tolist()) == ([1], [[7] * CHANNELS], [1])
    assert [len(found) for found in place.at(nothing[0])] == [0, 0, 0]
    for frame in (0, 2):
        place.remove(frame)
    assert (len(place), place.inside) == (1, [1])
    place.remove(1)
    assert len(place) == 0


def test_a_voxel_whose_sums_are_zero_stays_known_while_a_frame_sees_it():
    place = Place(2)
    place.add(0, np.array([5]), np.array([[3, -1]], np.int32))
    place.add(1, np.array([5]), np.array([[-3, 1]], np.int32))
    rows, sums, frames = place.at(np.array([5]))
    assert (rows.tolist(), sums.tolist(), frames.tolist()) == ([0], [[0, 0]], [2])
    place.remove(0)
    assert place.at(np.array([5]))[1].tolist() == [[-3, 1]]


def test_keys_may_be_looked_up_in_any_order_and_twice():
    place = Place(1)
    place.add(0, np.array([-7, 2, 9]), np.array([[1], [2], [3]], np.int32))
    rows, sums, _ = place.at(np.array([9, 100, 2, 9, -8, -7]))
    assert rows.tolist() == [0, 2, 3, 5]
    assert sums[:, 0].tolist() == [3, 2, 3, 1]


@pytest.mark.parametrize("size", [0.1, 0.2, 0.5])
def test_each_voxel_has_its_own_key_within_a_hundred_kilometres(size):
    rng = np.random.default_rng(0)
    far = np.array([-100_000.0, -1.0, 0.0, 1.0, 99_999.0])
    corners = np.array(list(itertools.product(far, far, far)))
    points = np.repeat(corners, 40, axis=0) + rng.uniform(-2, 2, (len(corners) * 40, 3)) * size
    points = points[np.abs(points).max(1) <= 100_000]
    index = np.floor(points / size)
    clear = (np.abs(points / size - np.rint(points / size)) > 1e-6).all(1)  # not on a border, within the rounding
    points, index = points[clear], index[clear]
    keys = voxel_keys(points, size)
    assert keys.dtype == np.int64
    names, voxel = np.unique(index, axis=0, return_inverse=True)
    assert len(names) > 1000
    assert len(np.unique(keys)) == len(names)
    assert len(np.unique(np.column_stack([keys, voxel.ravel()]), axis=0)) == len(names)


def test_a_key_is_the_index_along_each_axis():
    points = np.array([[-0.3, 0.1, 12.7], [0.0, -0.5, -1e-9], [0.49, 0.5, 1.0]])
    half, mask = 1 << BITS - 1, (1 << BITS) - 1
    keys = voxel_keys(points, 0.5)
    index = [[(key >> shift & mask) - half for shift in (2 * BITS, BITS, 0)] for key in keys.tolist()]
    assert index == [[-1, 0, 25], [0, -1, -1], [0, 1, 2]]


def test_the_lower_border_belongs_to_a_voxel_and_the_upper_one_to_the_next():
    for k in (-400, -3, -1, 0, 1, 2, 77, 4000):
        low, high = k * 0.25, (k + 1) * 0.25
        x = np.array([low, np.nextafter(low, np.inf), np.nextafter(high, -np.inf), high, np.nextafter(low, -np.inf)])
        keys = voxel_keys(np.column_stack([x, np.zeros((5, 2))]), 0.25)
        if low == 0:  # the number before 0 is smaller than half of float64's precision of a voxel
            x[4] = -1e-12
            keys = voxel_keys(np.column_stack([x, np.zeros((5, 2))]), 0.25)
        assert keys[0] == keys[1] == keys[2]
        assert keys[3] > keys[2]
        assert keys[4] < keys[0]


def test_points_of_scans_in_float32_have_the_keys_of_float64():
    points = np.random.default_rng(0).uniform(-80, 80, (5000, 3)).astype(np.float32)
    assert (voxel_keys(points, 0.25) == voxel_keys(points.astype(np.float64), 0.25)).all()


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_rows_of_one_key_are_summed(count):
    rng = np.random.default_rng(count)
    keys, values = rng.integers(-30, 30, count), rng.integers(-(1 << 20), 1 << 20, (count, 3)).astype(np.int32)
    before = keys.copy(), values.copy()
    names, sums = summed(keys, values)
    assert sums.dtype == np.int32
    assert names.tolist() == sorted(set(keys.tolist()))
    assert sums.shape == (len(names), 3)
    for name, row in zip(names, sums, strict=True):
        assert (row == values[keys == name].astype(np.int64).sum(0)).all()
    assert (keys == before[0]).all()
    assert (values == before[1]).all()
