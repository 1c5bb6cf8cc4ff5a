"""Poses and times of the scans of a sequence: which are usable, and how those of a recording are checked."""

import numpy as np

from elite_pipeline.datasets import Recording
from elite_pipeline.errors import InputError

TOLERANCE = 1e-3
"""Largest entry of |R R^T - 1| in a rigid pose with rotation R. Points 50 m away then move by at most some 5 cm."""


def rigid(poses: np.ndarray) -> np.ndarray:
    """(F,) bool: whether each pose is finite, and a rotation (no reflection) with a translation. poses: (F, 4, 4)."""
    finite = np.all(np.isfinite(poses), axis=(1, 2))
    poses = np.where(finite[:, None, None], poses, 0)
    rotation = poses[:, :3, :3]
    skew = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    bottom = (poses[:, 3] == (0, 0, 0, 1)).all(axis=1)
    return finite & bottom & (skew <= TOLERANCE) & (np.linalg.det(rotation) > 0)


def recorded_poses(recording: Recording, frames: list[str]) -> np.ndarray | None:
    """(F, 4, 4) float64 world_from_lidar, metres; None if the recording has no poses.

    frames: names of its F frames, for messages. Raises `InputError` where the file is damaged, does not hold one pose
    for each frame, or holds a pose that is not rigid (see `rigid`).
    """
    poses = recording.poses() if frames else None
    if poses is None:
        return None
    path = recording.poses_path()
    if poses.shape != (len(frames), 4, 4):
        raise InputError(f"{path}: {len(poses)} poses for {len(frames)} scans. Copy it again.")
    bad = np.flatnonzero(~rigid(poses)).tolist()
    if bad:
        named = ", ".join(f"{frames[f]} (pose {f + 1})" for f in bad[:3]) + ", ..." * (len(bad) > 3)
        raise InputError(
            f"{path}: {len(bad)} of {len(frames)} poses are no rigid motion: frame {named}. A pose is a rotation and a"
            " translation in metres. Copy this file and the calibration again, or remove this file if it is of no use."
        )
    return poses


def recorded_times(recording: Recording, frames: list[str]) -> np.ndarray | None:
    """(F,) float64 seconds; None if the recording has no times.

    frames: names of its F frames, for messages. Raises `InputError` where the file is damaged, does not hold one finite
    time for each frame, or has times that go backwards.
    """
    times = recording.timestamps() if frames else None
    if times is None:
        return None
    path = recording.times_path()
    if times.shape != (len(frames),) or not np.isfinite(times).all():
        raise InputError(f"{path}: does not hold one finite time for each of {len(frames)} scans. Copy it again.")
    back = (np.flatnonzero(np.diff(times) < 0) + 1).tolist()
    if back:
        f = back[0]
        raise InputError(
            f"{path}: {len(back)} times go backwards: frame {frames[f]} (time {f + 1}) has {times[f]:g} s, the frame"
            f" before it {times[f - 1]:g} s. Scans must be in order of time. Copy the file again, or remove it if it is"
            " of no use."
        )
    return times
