"""Poses and times of a recording: damaged files, each refused with file, frame and remedy."""

import numpy as np
import pytest

from elite_pipeline.errors import InputError
from elite_pipeline.recordings.poses import recorded_poses, recorded_times, rigid

FRAMES = ["000000", "000001", "000002"]


def turned(degrees):
    """A pose (4, 4) with a rotation around z, 3 m ahead."""
    angle = np.radians(degrees)
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[0, 3] = 3
    return pose


def write_poses(drive, poses):
    (drive / "poses.txt").write_text("".join(" ".join(map(str, pose[:3].ravel())) + "\n" for pose in poses))


@pytest.mark.parametrize(
    ("change", "good"),
    [
        (lambda pose: pose, True),
        (lambda pose: np.round(pose, 5), True),  # as in a file with few digits
        (lambda pose: pose * [[1.002], [1], [1], [1]], False),  # stretched
        (lambda pose: pose @ np.diag([1, 1, -1, 1]), False),  # mirrored
        (lambda pose: pose + [[0.01, 0, 0, 0]] * 4, False),
        (lambda pose: pose * np.nan, False),
        (lambda pose: np.zeros((4, 4)), False),
    ],
)
def test_rigid(change, good):
    assert rigid(np.stack([np.eye(4), change(turned(30))])).tolist() == [True, good]


def test_sound_poses_are_those_of_the_recording(drive, open_drive):
    write_poses(drive, [turned(0), turned(10), turned(20)])
    recording = open_drive(drive)
    poses = recorded_poses(recording, FRAMES)
    assert poses.shape == (3, 4, 4)
    np.testing.assert_array_equal(poses, recording.poses())


def test_poses_that_are_not_rigid_are_refused(drive, open_drive):
    write_poses(drive, [turned(0), 1.1 * turned(10), turned(20) @ np.diag([1, -1, 1, 1])])
    message = (
        r"poses\.txt: 2 of 3 poses are no rigid motion: frame 000001 \(pose 2\), 000002 \(pose 3\)\. .* Copy this file"
    )
    with pytest.raises(InputError, match=message):
        recorded_poses(open_drive(drive), FRAMES)


def test_many_faulty_poses_are_counted_and_not_listed(drive, open_drive):
    (drive / "velodyne/000003.bin").write_bytes((drive / "velodyne/000002.bin").read_bytes())
    write_poses(drive, [np.zeros((4, 4))] * 4)
    with pytest.raises(InputError, match=r"4 of 4 .* 000002 \(pose 3\), \.\.\.\. A pose is"):
        recorded_poses(open_drive(drive), [*FRAMES, "000003"])


def test_times_may_repeat_but_not_go_backwards(drive, open_drive):
    (drive / "times.txt").write_text("0.0\n0.1\n0.1\n")
    assert recorded_times(open_drive(drive), FRAMES).tolist() == [0.0, 0.1, 0.1]
    (drive / "times.txt").write_text("0.0\n0.3\n0.1\n")
    message = (
        r"times\.txt: 1 times go backwards: frame 000002 \(time 3\) has 0\.1 s, the frame before it 0\.3 s\. .* Copy"
    )
    with pytest.raises(InputError, match=message):
        recorded_times(open_drive(drive), FRAMES)


def test_a_recording_may_have_neither(drive, open_drive):
    assert recorded_poses(open_drive(drive), FRAMES) is None
    assert recorded_times(open_drive(drive), FRAMES) is None
