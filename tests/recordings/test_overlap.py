"""How well two scans fit: a wrong pose is recognised by its size, on simulated scans."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from elite_pipeline.recordings.overlap import RANGE, SAMPLE, ScanSurfaces, align, fit, likeness


@pytest.fixture(scope="module")
def pair(driven, open_drive):
    """(surfaces of a scan, of the next scan, the true pose between them)."""
    recording = open_drive(driven)
    poses = recording.poses()
    scans = [ScanSurfaces.of(recording.points(frame)) for frame in recording.frames()[2:4]]
    return *scans, np.linalg.inv(poses[2]) @ poses[3]


def moved(x=0.0, y=0.0, z=0.0, yaw=0.0):
    """(4, 4): a rotation around z in degrees, then a translation in metres."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", yaw, degrees=True).as_matrix()
    pose[:3, 3] = x, y, z
    return pose


def test_surfaces_are_near_the_sensor_and_have_unit_normals(pair):
    scan = pair[0]
    assert 500 < len(scan.sample) <= SAMPLE < len(scan.points)
    assert np.linalg.norm(scan.points, axis=1).max() < RANGE
    np.testing.assert_allclose(np.linalg.norm(scan.normals, axis=1), 1, atol=1e-9)
    road = (np.abs(scan.sample[:, 1]) < 3) & (np.abs(scan.sample[:, 0]) < 8) & (scan.sample[:, 2] < -1.5)
    assert road.sum() > 50
    assert np.median(np.abs(scan.normals[road, 2])) > 0.99


def test_the_right_pose_fits(pair):
    found = fit(*pair)
    assert found.matched > 0.6
    assert found.gap < 0.06
    assert found.shift < 0.02
    assert found.error == max(found.gap, found.shift)


@pytest.mark.parametrize("offset", [{"x": 0.3}, {"y": -0.3}, {"z": 0.3}, {"x": 0.2, "y": 0.2}])
def test_the_error_is_about_the_size_of_a_displacement(pair, offset):
    a, b, pose = pair
    size = np.linalg.norm(list(offset.values()))
    found = fit(a, b, moved(**offset) @ pose)
    assert found.shift == pytest.approx(size, abs=0.05)
    assert found.error >= found.shift


def test_a_rotation_is_an_error_too(pair):
    a, b, pose = pair
    errors = [fit(a, b, pose @ moved(yaw=yaw)).error for yaw in (0, 0.5, 2)]
    assert errors[0] < 0.06
    assert errors[1] > errors[0] + 0.02
    assert errors[2] > 0.2


def test_alignment_finds_the_true_pose_again(pair):
    a, b, pose = pair
    found = align(a, b, moved(x=0.5, y=-0.3, yaw=1.5) @ pose)
    np.testing.assert_allclose(found[:3, 3], pose[:3, 3], atol=0.02)
    np.testing.assert_allclose(found[:3, :3], pose[:3, :3], atol=0.002)


def test_scans_far_apart_have_no_place_in_common(pair):
    a, b, pose = pair
    far = moved(x=100) @ pose
    assert fit(a, b, far).error == np.inf
    np.testing.assert_array_equal(align(a, b, far), far)
    assert likeness(a, b, far) == 0


def test_rings_on_the_ground_do_not_hide_a_missing_motion(pair):
    """Without motion the rings of both scans coincide. Upright surfaces tell that this is wrong."""
    a, b, pose = pair
    assert fit(a, b, np.eye(4)).error > 2 * fit(a, b, pose).error
    assert likeness(a, b, pose) > likeness(a, b, np.eye(4)) + 0.1


@pytest.mark.parametrize("points", [np.zeros((0, 4)), np.ones((5, 4)), np.full((300, 4), 80.0)])
def test_an_empty_scan_fits_nothing(pair, points):
    empty = ScanSurfaces.of(points.astype(np.float32))
    assert fit(pair[0], empty, np.eye(4)).error == np.inf
    assert fit(empty, pair[0], np.eye(4)).error == np.inf
