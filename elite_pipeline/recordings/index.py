"""The index of a sequence: every file checked once, one row per frame, kept as Parquet.

Checksums of points, labels, instances, images and calibration are in it, so that stages which depend on the index see
any change.
"""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from elite_pipeline.datasets.semantickitti import CLASSES
from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress


@dataclass(frozen=True)
class Index:
    """What is known of the frames of one sequence."""

    frames: list[str]
    points: np.ndarray
    """(F,) int64, points of each scan."""
    labelled: np.ndarray
    """(F,) bool, whether the scan's points have labels."""
    class_points: np.ndarray
    """(F, K) int64, labelled points of each class; 0 where the scan is unlabelled."""
    sizes: dict[str, np.ndarray]
    """Camera -> (F, 2) int32, (height, width) of its image in pixels; (0, 0) where it took none."""


def check(recording, cameras, *, labels, images, missing_images):
    """Read every file of a sequence once.

    recording: a `datasets.Recording`. cameras: {image folder: projection matrix}. labels, images: whether every scan
    needs them. missing_images: whether single images may be missing even so.
    Returns (rows, faults): one dict per frame for `write`, and a list of sentences that name file, fault and remedy.
    """
    faults = []
    frames = recording.frames()
    if not frames:
        faults.append(f"{recording.folder}: holds no velodyne/*.bin. Put or link the sequence there.")
    calibration = {}
    if images:
        for camera, matrix in cameras.items():
            calibrated = _collect(faults, recording.camera, camera, matrix)
            calibration[camera] = calibrated.crc32() if calibrated else 0
            if frames and not any(recording.has_image(frame, camera) for frame in frames):
                faults.append(f"{recording.folder / camera}: no image of any scan. Copy them, or name another camera.")
    rows = [
        _check_frame(recording, frame, calibration, labels, missing_images, faults)
        for frame in progress(frames, label=f"index_frames {recording.sequence}")
    ]
    return rows, faults


def _check_frame(recording, frame, calibration, labels, missing_images, faults):
    row = {
        "frame": frame,
        "points": 0,
        "labelled": False,
        "crc32": 0,
        "labels_crc32": 0,
        "class_points": [0] * len(CLASSES),
    }
    points = _collect(faults, recording.points, frame)
    if points is not None:
        row["points"] = len(points)
        row["crc32"] = zlib.crc32(points)
        if bad := int((~np.isfinite(points)).any(axis=1).sum()):
            faults.append(
                f"{recording.scan_path(frame)}: {bad} of {len(points)} points are NaN or infinite."
                " Remove them together with their labels, or record the scan again."
            )
        if recording.has_labels(frame):
            labels = _collect(faults, recording.labels, frame, len(points))
            row["labelled"] = labels is not None
            if labels is not None:
                instances = recording.instances(frame, len(points))
                row["labels_crc32"] = zlib.crc32(instances, zlib.crc32(labels))
                row["class_points"] = np.bincount(labels, minlength=len(CLASSES)).tolist()
        elif labels:
            faults.append(f"{recording.label_path(frame)}: missing. Copy it, or take the sequence out of the split.")
    for camera, calibration_crc32 in calibration.items():
        height, width, checksum = 0, 0, 0
        if recording.has_image(frame, camera):
            image = _collect(faults, recording.image, frame, camera)
            if image is not None:
                height, width = image.shape[:2]
                checksum = zlib.crc32(image)
        elif not missing_images:
            faults.append(
                f"{recording.image_path(frame, camera)}: missing. Copy it, or set the data set's missing_images: true."
            )
        row[f"{camera}_height"], row[f"{camera}_width"], row[f"{camera}_crc32"] = height, width, checksum
        row[f"{camera}_calibration_crc32"] = calibration_crc32
    return row


def wrong_sizes(rows, cameras, folder):
    """Faults: images whose size differs from the one that most images of the same camera in the sequence have."""
    faults = []
    for camera in cameras:
        sizes = {r["frame"]: (r[f"{camera}_height"], r[f"{camera}_width"]) for r in rows if r.get(f"{camera}_height")}
        usual = max(set(sizes.values()), key=list(sizes.values()).count, default=None)
        faults += [
            f"{folder / camera / frame}.png: {width} x {height} pixels, where the sequence's other images have"
            f" {usual[1]} x {usual[0]}. It is of another camera or was rescaled: copy the original."
            for frame, (height, width) in sizes.items()
            if usual and (height, width) != usual
        ]
    return faults


def write(path, rows):
    """Write the rows of `check` to the Parquet file `path`, aside first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(pa.Table.from_pylist(rows), partial)
    os.replace(partial, path)


def with_labels_of(path, frames, out):
    """Write to `out` the index in `path` in which only `frames` are labelled."""
    table = _table(path)
    rows = table.to_pylist()
    for row in rows:
        if row["frame"] not in frames:
            row.update(labelled=False, class_points=[0] * len(CLASSES))
    write(out, rows)


def read(path):
    """The `Index` in the Parquet file `path`."""
    table = _table(path)
    cameras = [name.removesuffix("_height") for name in table.column_names if name.endswith("_height")]
    return Index(
        frames=table["frame"].to_pylist(),
        points=table["points"].to_numpy(),
        labelled=table["labelled"].to_numpy(),
        class_points=np.array(table["class_points"].to_pylist(), dtype=np.int64).reshape(-1, len(CLASSES)),
        sizes={
            camera: np.stack([table[f"{camera}_height"], table[f"{camera}_width"]], axis=1).astype(np.int32)
            for camera in cameras
        },
    )


def _table(path):
    try:
        table = pq.read_table(path)
        table["class_points"]
    except (FileNotFoundError, KeyError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is no readable index ({error}). Delete it and run snakemake again.") from None
    return table


def _collect(faults, function, *arguments):
    """`function(*arguments)`, or None with the fault's sentence added to `faults`."""
    try:
        return function(*arguments)
    except InputError as error:
        faults.append(str(error))
        return None
