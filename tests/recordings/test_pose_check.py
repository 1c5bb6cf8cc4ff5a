"""The check of a drive's poses: silent for right poses, and a warning with frames and remedy for wrong ones."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from elite_pipeline.recordings.pose_check import check_poses


@pytest.fixture(scope="module")
def recording(driven, open_drive):
    return open_drive(driven)


def check(recording, poses, estimated=False):
    return check_poses(recording, recording.frames(), poses, estimated=estimated)


def noisy(poses, metres=0.0, degrees=0.0):
    """`poses` with normal noise: the root of the mean square of its length and of its angle are as given."""
    rng = np.random.default_rng(0)
    noise = np.tile(np.eye(4), (len(poses), 1, 1))
    noise[:, :3, 3] = metres * rng.normal(size=(len(poses), 3)) / 3**0.5
    angles = np.radians(degrees) * rng.normal(size=(len(poses), 3)) / 3**0.5
    noise[:, :3, :3] = Rotation.from_rotvec(angles).as_matrix()
    return poses @ noise


def test_right_poses_pass(recording, capsys):
    found = check(recording, recording.poses())
    assert found.warning is None
    assert found.pairs.tolist() == list(range(7))
    assert found.errors.max() < 0.07
    assert str(found).startswith("sequence 00: 0 of 7 compared pairs of scans fit poorly; median error 0.0")
    assert "check poses 00: 7/7 pairs" in capsys.readouterr().err


@pytest.mark.parametrize("noise", [{"metres": 0.03}, {"degrees": 0.1}])
def test_small_noise_passes(recording, noise):
    assert check(recording, noisy(recording.poses(), **noise)).warning is None


@pytest.mark.parametrize("noise", [{"metres": 0.2}, {"metres": 0.5}, {"degrees": 1.0}, {"degrees": 2.0}])
def test_larger_noise_is_a_warning(recording, noise):
    warning = check(recording, noisy(recording.poses(), **noise)).warning
    assert warning is not None
    assert warning.startswith("warning: sequence 00: the poses do not fit the scans. In ")
    assert "Check that the poses belong to these scans" in warning


def test_poses_of_camera_0_taken_for_the_lidars_are_a_warning(recording, driven):
    camera = np.tile(np.eye(4), (8, 1, 1))
    camera[:, :3] = np.loadtxt(driven / "poses.txt").reshape(-1, 3, 4)
    warning = check(recording, camera).warning
    assert warning is not None
    assert "In 7 of 7 compared pairs" in warning
    assert "worst after frame 000000 (no overlap), 000001 (no overlap), 000002 (no overlap)." in warning
    assert "(camera 0 in poses.txt). Otherwise set datasets.<name>.poses: estimated, or none." in warning


def test_inverted_poses_are_a_warning(recording):
    assert "In 7 of 7" in (check(recording, np.linalg.inv(recording.poses())).warning or "")


def test_a_single_wrong_pose_is_named(recording):
    poses = recording.poses()
    poses[4, :3, 3] += poses[4, :3, 1] * 0.8  # to the side, so that two pairs are wrong
    found = check(recording, poses, estimated=True)
    assert found.warning is not None
    assert "In 2 of 7 compared pairs" in found.warning
    assert set(np.argsort(-found.errors)[:2].tolist()) == {3, 4}
    assert "000003 (0." in found.warning
    assert "Try another estimate_poses.voxel_size" in found.warning


def test_a_jump_is_a_warning_and_is_not_compared(recording):
    poses = recording.poses()
    poses[5:, 2, 3] += 80
    found = check(recording, poses)
    assert found.pairs.tolist() == [0, 1, 2, 3, 5, 6]
    assert "1 of 7 steps between consecutive poses are longer than 50 m, the longest 83 m after frame 000004." in (
        found.warning or ""
    )


def test_scans_too_far_apart_are_not_judged(recording):
    poses = recording.poses()
    poses[:, 2, 3] *= 6.5
    found = check(recording, poses)
    assert (len(found.pairs), found.warning) == (0, None)
    assert str(found) == "sequence 00: no two consecutive scans are near enough to check the poses"


def test_one_scan_has_nothing_to_compare(recording):
    found = check_poses(recording, recording.frames()[:1], recording.poses()[:1], estimated=True)
    assert (len(found.pairs), found.warning) == (0, None)


def test_of_a_long_drive_the_changes_of_motion_are_compared(recording):
    """Of 7 pairs 4 are compared: two where a pose jumps to the side, and two spread over the drive."""
    poses = recording.poses()
    poses[3, :3, 3] += poses[3, :3, 1] * 0.8
    found = check_poses(recording, recording.frames(), poses, estimated=False, limit=4)
    assert len(found.pairs) <= 4
    assert {2, 3} <= set(found.pairs.tolist())
    assert "000002" in (found.warning or "")
