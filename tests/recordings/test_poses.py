"""Poses and times: damaged files of recorded and of estimated ones, each refused with file, fault and remedy."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.recordings.poses import ABOUT, poses_of, recorded_poses, recorded_times, rigid, write

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


@pytest.fixture
def known(tmp_path, write_index):
    """The index of a sequence without recorded poses."""
    blank = {"points": 500, "labelled": False, "crc32": 0, "class_points": [0] * 20}
    write_index(tmp_path / "00.parquet", [{"frame": frame, **blank} for frame in FRAMES])
    return index.read(tmp_path / "00.parquet")


def test_estimated_poses_are_read_as_they_were_written(known, tmp_path):
    poses = np.stack([turned(0), turned(1 / 3), turned(20)])
    write(tmp_path / "poses/00.parquet", "00", FRAMES, poses, {"settings": {}})
    found = poses_of(known, tmp_path / "poses/00.parquet")
    np.testing.assert_array_equal(found, poses)
    assert found.dtype == np.float64
    assert [path.name for path in (tmp_path / "poses").iterdir()] == ["00.parquet"]


def test_recorded_poses_are_those_of_the_index(drive, tmp_path, classes, open_drive):
    write_poses(drive, [turned(0), turned(10), turned(20)])
    rows, faults = index.check(open_drive(drive), labels=True, images=True, missing_images=False)
    assert not faults
    index.write(tmp_path / "00.parquet", rows, index.Source("semantickitti", "00", classes, {}))
    np.testing.assert_array_equal(poses_of(index.read(tmp_path / "00.parquet")), open_drive(drive).poses())


def test_a_sequence_without_poses_is_refused_with_the_remedy(known):
    with pytest.raises(
        InputError, match=r"sequence 00 has no poses\. Copy .* datasets\.<name>\.poses: estimated, or none"
    ):
        poses_of(known)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no readable file of poses"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "no readable file of poses"),
        (lambda path: path.write_text("1 0 0 0"), "no readable file of poses"),
        (lambda path: pq.write_table(pq.read_table(path).drop_columns("frame"), path), "no readable file of poses"),
        (lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata({}), path), "no readable file"),
        (
            lambda path: _changed_about(path, b'"format_version": 1', b'"format_version": 9'),
            "written by another version",
        ),
        (lambda path: _changed_about(path, b'"sequence": "00"', b'"sequence": "01"'), "other frames than the index"),
        (lambda path: write(path, "00", FRAMES[:2], np.stack([turned(0)] * 2), {}), "other frames than the index"),
        (
            lambda path: write(path, "00", FRAMES, np.stack([turned(0), turned(1) * 2, turned(2)]), {}),
            "pose 2 is no rigid",
        ),
    ],
)
def test_damaged_estimated_poses_are_refused(known, tmp_path, damage, message):
    path = tmp_path / "poses.parquet"
    write(path, "00", FRAMES, np.stack([turned(0), turned(1), turned(2)]), {})
    damage(path)
    with pytest.raises(InputError, match=rf"poses\.parquet.* {message}.* Delete it and run snakemake again"):
        poses_of(known, path)


def _changed_about(path, old, new):
    table = pq.read_table(path)
    about = table.schema.metadata[ABOUT]
    assert old in about
    pq.write_table(table.replace_schema_metadata({ABOUT: about.replace(old, new)}), path)
