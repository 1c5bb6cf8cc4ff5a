"""Poses by kiss-icp agree with those of the simulator."""

import numpy as np
import pytest

from elite_pipeline.config import EstimatePoses
from elite_pipeline.recordings.odometry import estimate, first_motion
from elite_pipeline.recordings.overlap import ScanSurfaces


@pytest.fixture(scope="module")
def scans(driven, open_drive):
    recording = open_drive(driven)
    return [recording.points(frame) for frame in recording.frames()]


@pytest.fixture(scope="module")
def true(driven, open_drive):
    """(8, 4, 4): the simulator's poses, in the LiDAR frame of the first scan."""
    poses = open_drive(driven).poses()
    return np.linalg.inv(poses[0]) @ poses


def test_the_poses_are_those_of_the_simulator(scans, true):
    found = estimate(iter(scans), EstimatePoses())
    assert (found.shape, found.dtype) == ((8, 4, 4), np.float64)
    np.testing.assert_array_equal(found[0], np.eye(4))
    length = np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum()
    drift = np.linalg.norm(found[-1, :3, 3] - true[-1, :3, 3])
    assert length > 20
    assert drift < 0.02 * length
    step = np.linalg.inv(found[:-1]) @ found[1:]
    wrong = np.linalg.norm(step[:, :3, 3] - (np.linalg.inv(true[:-1]) @ true[1:])[:, :3, 3], axis=1)
    assert wrong.max() < 0.2
    np.testing.assert_array_equal(estimate(iter(scans), EstimatePoses()), found)


def test_the_first_motion_is_found_at_any_speed(scans, true):
    """Of scans 3 m and 9 m apart, and of a car that stands."""
    surfaces = [ScanSurfaces.of(scan) for scan in scans[:4]]
    for a, b in ((0, 1), (0, 3), (0, 0)):
        found = first_motion(surfaces[a], surfaces[b])
        np.testing.assert_allclose(found, np.linalg.inv(true[a]) @ true[b], atol=0.1)


def test_one_scan_is_at_the_origin(scans):
    np.testing.assert_array_equal(estimate(scans[:1], EstimatePoses()), np.eye(4)[None])
