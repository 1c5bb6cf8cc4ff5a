"""The index of a sequence: a Parquet file with one row per frame. Building it checks every file once.

The index names the format, the class table and the cameras of the sequence, so a reader of the index can open the
recording. It holds the poses and the times of the scans, and checksums of points, labels, instances, images and
calibration, so stages that depend on the index notice any change.
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from elite_pipeline.datasets import Recording, Records, open_recording
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress
from elite_pipeline.recordings.poses import recorded_poses, recorded_times

FORMAT, FORMAT_VERSION = "elite_pipeline.index", 3
ABOUT = b"elite_pipeline"
"""Key in the metadata of the Parquet file. Its value holds the format version and the `Source`."""

Value = TypeVar("Value")
Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """The recording that an index describes."""

    format: str
    sequence: str
    classes: ClassTable
    cameras: dict[str, str]
    """Camera -> name of its calibration in the format."""
    records: Records | None = None
    """What the tables of the data set say of each frame; None in a format without tables."""

    def open(self, root: Path) -> Recording:
        """The recording. `root`: folder of the data set."""
        return open_recording(root, self.sequence, self.format, self.classes, self.cameras, self.records)


@dataclass(frozen=True)
class Index:
    """The frames of one sequence, with their numbers of points, labels and image sizes."""

    source: Source
    frames: list[str]
    points: np.ndarray
    """(F,) int64: number of points of each scan."""
    labelled: np.ndarray
    """(F,) bool: whether the points of the scan have labels."""
    class_points: np.ndarray
    """(F, K) int64: number of labelled points of each class; 0 where the scan is unlabelled."""
    sizes: dict[str, np.ndarray]
    """Camera -> (F, 2) int32: (height, width) of its image in pixels; (0, 0) where it has no image."""
    poses: np.ndarray | None = None
    """(F, 4, 4) float64 world_from_lidar, metres; None where the recording has none."""
    times: np.ndarray | None = None
    """(F,) float64 s: times of the scans; None where they are not recorded."""

    @property
    def classes(self) -> ClassTable:
        """The class table of the labels."""
        return self.source.classes

    @property
    def sequence(self) -> str:
        """The name of the sequence."""
        return self.source.sequence


def check(
    recording: Recording, *, labels: bool, images: bool, missing_images: bool, poses: bool = True
) -> tuple[list[Row], list[str]]:
    """Read every file of a sequence once and collect its rows and its faults.

    labels, images: whether every scan needs labels, and whether it needs images. missing_images: whether single images
    may be missing even then. poses: whether to read the recorded poses, if there are any.
    Returns (rows, faults): one dict per frame for `write`, and a list of messages. Each message names the file, the
    fault and the remedy.
    """
    faults: list[str] = []
    frames = recording.frames()
    if not frames:
        faults.append(f"{recording.scan_path('*').parent}: holds no scan. Put or link the sequence there.")
    for camera in recording.cameras if images and frames else ():
        if not any(recording.has_image(frame, camera) for frame in frames):
            folder = recording.image_path(frames[0], camera).parent
            faults.append(f"{folder}: no image of any scan. Copy the images there, or name another camera.")
    rows = [
        _check_frame(recording, frame, labels, images, missing_images, faults)
        for frame in progress(frames, label=f"index_frames {recording.sequence}")
    ]
    found = _collect(faults, recorded_poses, recording, frames) if poses else None
    times = _collect(faults, recorded_times, recording, frames)
    for f, row in enumerate(rows):
        row["world_from_lidar"] = None if found is None else found[f].ravel().tolist()
        row["time"] = None if times is None else float(times[f])
        record = recording.record(row["frame"])
        row["record"] = None if record is None else json.dumps(record)
    # A fault of the whole sequence, for example in its calibration, was found in every frame. Report it once.
    return rows, list(dict.fromkeys([*faults, *_wrong_sizes(recording, rows)]))


def _check_frame(
    recording: Recording, frame: str, labels: bool, images: bool, missing_images: bool, faults: list[str]
) -> Row:
    row = {
        "frame": frame,
        "points": 0,
        "labelled": False,
        "crc32": 0,
        "labels_crc32": 0,
        "class_points": [0] * len(recording.classes),
    }
    points = _collect(faults, recording.points, frame)
    if points is not None:
        row["points"] = len(points)
        row["crc32"] = zlib.crc32(points.data)
        if bad := int((~np.isfinite(points)).any(axis=1).sum()):
            faults.append(
                f"{recording.scan_path(frame)}: {bad} of {len(points)} points are NaN or infinite."
                " Remove them together with their labels, or record the scan again."
            )
        if recording.has_labels(frame):
            found = _collect(faults, recording.labels, frame, len(points))
            instances = _collect(faults, recording.instances, frame, len(points))
            row["labelled"] = found is not None
            if found is not None and instances is not None:
                row["labels_crc32"] = zlib.crc32(instances.data, zlib.crc32(found.data))
                row["class_points"] = np.bincount(found, minlength=len(recording.classes)).tolist()
        elif labels:
            faults.append(f"{recording.label_path(frame)}: missing. Copy it, or take the sequence out of the split.")
    for camera in recording.cameras if images else ():
        height, width, checksum = 0, 0, 0
        if recording.has_image(frame, camera):
            image = _collect(faults, recording.image, frame, camera)
            if image is not None:
                height, width = image.shape[:2]
                checksum = zlib.crc32(image.data)
        elif not missing_images:
            faults.append(
                f"{recording.image_path(frame, camera)}: missing. Copy it, or set the data set's missing_images: true."
            )
        calibrated = _collect(faults, recording.camera, camera, frame)
        row[f"{camera}_height"], row[f"{camera}_width"], row[f"{camera}_crc32"] = height, width, checksum
        row[f"{camera}_calibration_crc32"] = calibrated.crc32() if calibrated else 0
    return row


def _wrong_sizes(recording: Recording, rows: list[Row]) -> list[str]:
    """Faults of images that do not have the most frequent image size of their camera in the sequence."""
    faults = []
    for camera in recording.cameras:
        sizes = {r["frame"]: (r[f"{camera}_height"], r[f"{camera}_width"]) for r in rows if r.get(f"{camera}_height")}
        # In a tie, the size that occurs first wins.
        usual = Counter(sizes.values()).most_common(1)
        faults += [
            f"{recording.image_path(frame, camera)}: {width} x {height} pixels, where the sequence's other images have"
            f" {usual[0][0][1]} x {usual[0][0][0]}. It comes from another camera or was rescaled: copy the original."
            for frame, (height, width) in sizes.items()
            if (height, width) != usual[0][0]
        ]
    return faults


def write(path: Path, rows: list[Row], source: Source) -> None:
    """Write the rows of `check` to the Parquet file `path`: first to a partial file, which is then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "source": {
            "format": source.format,
            "sequence": source.sequence,
            "classes": source.classes.to_json(),
            "cameras": source.cameras,
        },
    }
    names = ("world_from_lidar", "time", "record")
    table = pa.Table.from_pylist([{key: value for key, value in row.items() if key not in names} for row in rows])
    # With explicit types, because a column of nulls would get none.
    for name, kind in zip(names, (pa.list_(pa.float64(), 16), pa.float64(), pa.string()), strict=True):
        table = table.append_column(name, pa.array([row.get(name) for row in rows], kind))
    table = table.replace_schema_metadata({ABOUT: json.dumps(about)})
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial)
    os.replace(partial, path)


def with_labels_of(path: Path, frames: Collection[str], out: Path) -> None:
    """Write a copy of the index in `path` to `out`, in which only `frames` are labelled.

    Raises `InputError` where `path` is not a readable index.
    """
    table, source = _table(path)
    rows = table.to_pylist()
    for row in rows:
        if row["frame"] not in frames:
            row.update(labelled=False, class_points=[0] * len(source.classes))
    write(out, rows, source)


def read(path: Path) -> Index:
    """The `Index` in the Parquet file `path`. Raises `InputError` where it is not a readable index."""
    table, source = _table(path)
    cameras = [name.removesuffix("_height") for name in table.column_names if name.endswith("_height")]
    poses, times = table["world_from_lidar"], table["time"]
    return Index(
        source=source,
        frames=table["frame"].to_pylist(),
        points=table["points"].to_numpy(),
        labelled=table["labelled"].to_numpy(),
        class_points=np.array(table["class_points"].to_pylist(), dtype=np.int64).reshape(-1, len(source.classes)),
        sizes={
            camera: np.stack([table[f"{camera}_height"], table[f"{camera}_width"]], axis=1).astype(np.int32)
            for camera in cameras
        },
        poses=None if poses.null_count else np.array(poses.to_pylist(), dtype=np.float64).reshape(-1, 4, 4),
        times=None if times.null_count else times.to_numpy(),
    )


def read_all(paths: list[Path]) -> list[Index]:
    """The indices in `paths`, which must share one class table.

    Raises `InputError` where one is unreadable, or its class table differs from that of the first.
    """
    indices = [read(path) for path in paths]
    for path, index in zip(paths, indices, strict=True):
        indices[0].classes.check_same(index.classes, paths[0], path)
    return indices


def _table(path: Path) -> tuple[pa.Table, Source]:
    again = "Delete it and run snakemake again."
    try:
        table = pq.read_table(path)
        table["class_points"]
        about = json.loads((table.schema.metadata or {})[ABOUT])
    except (FileNotFoundError, KeyError, pa.ArrowInvalid, ValueError) as error:
        raise InputError(f"{path} is not a readable index ({error}). {again}") from None
    if (about.get("format"), about.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise InputError(f"{path} was written by another version of elite_pipeline. {again}")
    source = about["source"]
    classes, texts = ClassTable.from_json(source["classes"], path), table["record"].to_pylist()
    frames = zip(table["frame"].to_pylist(), texts, strict=True)
    records = {frame: json.loads(text) for frame, text in frames} if all(texts) else None
    return table, Source(**{**source, "classes": classes, "records": records})


def _collect(faults: list[str], function: Callable[..., Value], *arguments: Any) -> Value | None:
    """`function(*arguments)`. If it raises `InputError`, the message is added to `faults` and the result is None."""
    try:
        return function(*arguments)
    except InputError as error:
        faults.append(str(error))
        return None
