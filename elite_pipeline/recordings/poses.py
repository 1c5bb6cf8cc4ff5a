"""Poses and times of the scans of a sequence: the recorded ones, checked, and the file of estimated ones."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from elite_pipeline.datasets import Recording
from elite_pipeline.errors import InputError

if TYPE_CHECKING:
    from elite_pipeline.recordings.index import Index

FORMAT, FORMAT_VERSION = "elite_pipeline.poses", 1
ABOUT = b"elite_pipeline"
"""Key in the metadata of the Parquet file. Its value holds format version, sequence and provenance."""

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
            " translation in metres. Copy this file and the calibration again, or set datasets.<name>.poses: estimated"
            " or none."
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


def write(path: Path, sequence: str, frames: list[str], poses: np.ndarray, provenance: dict[str, Any]) -> None:
    """Write estimated poses to the Parquet file `path`: first to a partial file, which is then renamed.

    frames: names of the F frames. poses: (F, 4, 4) float64 world_from_lidar, metres.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"format": FORMAT, "format_version": FORMAT_VERSION, "sequence": sequence, "provenance": provenance}
    rows = pa.array(poses.reshape(-1, 16).tolist(), pa.list_(pa.float64(), 16))
    table = pa.table({"frame": frames, "world_from_lidar": rows}).replace_schema_metadata({ABOUT: json.dumps(about)})
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial)
    os.replace(partial, path)


def poses_of(known: "Index", path: Path | None = None) -> np.ndarray:
    """(F, 4, 4) float64 world_from_lidar, metres: the poses of an indexed sequence.

    path: the file of estimated poses; None for the recorded ones, which are in the index. Raises `InputError` where the
    sequence has no recorded poses, or the file is damaged or belongs to other frames.
    """
    if path is not None:
        return _estimated(known, Path(path))
    if known.poses is None:
        raise InputError(
            f"sequence {known.sequence} has no poses. Copy its file of poses (poses.txt in SemanticKITTI's layout), or"
            " set datasets.<name>.poses: estimated, or none to go without what needs poses"
        )
    return known.poses


def _estimated(known: "Index", path: Path) -> np.ndarray:
    again = "Delete it and run snakemake again."
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[ABOUT])
        frames, rows = table["frame"].to_pylist(), table["world_from_lidar"].to_pylist()
        poses = np.array(rows, dtype=np.float64).reshape(-1, 4, 4)
    except (OSError, KeyError, TypeError, pa.ArrowInvalid, ValueError) as error:
        raise InputError(f"{path} is no readable file of poses ({error}). {again}") from None
    if (about.get("format"), about.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise InputError(f"{path} was written by another version of elite_pipeline. {again}")
    if about.get("sequence") != known.sequence or frames != known.frames:
        raise InputError(f"{path} has other frames than the index of sequence {known.sequence}. {again}")
    if not rigid(poses).all():
        raise InputError(f"{path}: pose {int(np.argmin(rigid(poses))) + 1} is no rigid motion. {again}")
    return poses
