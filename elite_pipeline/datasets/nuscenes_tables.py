"""Reads nuScenes' tables once, and writes a Parquet file per scene that says where its keyframes lie."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from elite_pipeline.datasets import Records
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.datasets.motions import inverse
from elite_pipeline.datasets.nuscenes_rows import LIDAR, Keyframe, VersionTables
from elite_pipeline.datasets.table_faults import Faults
from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress

VERSIONS = ("v1.0-trainval", "v1.0-test", "v1.0-mini")
"""The folders of tables. A scene that is in several of them is read from the first."""

FORMAT, FORMAT_VERSION = "elite_pipeline.records", 1
ABOUT = b"elite_pipeline"
"""Key in the metadata of the Parquet file. Its value holds the format version."""

FILE_FROM_OURS = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
"""From our LiDAR axes (x forward, y left) to those of the files (x right, y forward)."""


def read_tables(
    root: Path, sequences: Sequence[str], cameras: Mapping[str, str], classes: ClassTable, out: Path
) -> None:
    """See `datasets.Tables`. `out` appears only when it is complete: it is first written to `<out>.partial`."""
    faults, partial = Faults(), out.with_name(out.name + ".partial")
    if strange := [path.name for path in out.glob("[!.]*") if path.suffix != ".parquet"]:
        raise InputError(f"{out}: has {strange[0]}, so read_tables did not write this folder. Name another.")
    channels, raw_names = sorted(set(cameras.values())), classes.raw_names
    placed = _placed(root, sequences, faults)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for folder, scenes, all_scenes in placed:
        version = VersionTables(folder, scenes, all_scenes, faults)
        if not version.read(channels, raw_names):
            continue
        for name in progress(sorted(scenes.values()), label=f"read_tables {folder.name}", unit="scene"):
            found = _scene(version, name, channels)
            if not faults:
                _write(partial / f"{name}.parquet", found)
    if faults:
        shutil.rmtree(partial)
        raise faults.error(root)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(partial, out)


def _placed(root: Path, sequences: Sequence[str], faults: Faults) -> list[tuple[Path, dict[str, str], set[str]]]:
    """Returns (folder of tables, token -> name of the wanted scenes that are read there, tokens of all its scenes)."""
    folders = [root / version for version in VERSIONS if (root / version).is_dir()]
    if not folders:
        have = ", ".join(sorted(path.name for path in root.glob("*"))[:10]) or "nothing"
        raise InputError(
            f"{root}: has none of the folders {', '.join(VERSIONS)}, only {have}. Link the folder that has the tables."
        )
    placed, wanted, unread = [], set(sequences), False
    for folder in folders:
        if not wanted:
            break
        rows = VersionTables(folder, {}, set(), faults).rows("scene")
        unread |= rows is None
        names = [row["name"] for row in rows or ()]
        for name in sorted(wanted):
            if names.count(name) > 1:
                message = f"{folder}/scene.json: {names.count(name)} scenes have the name {name}. Copy the table again."
                faults.add("names of several scenes", message)
        scenes = {row["token"]: row["name"] for row in rows or () if row["name"] in wanted}
        wanted -= set(names)
        if scenes:
            placed.append((folder, scenes, {row["token"] for row in rows or ()}))
    if wanted and not unread:
        listed = ", ".join(sorted(wanted)[:5]) + f", and {len(wanted) - 5} more" * (len(wanted) > 5)
        faults.add(
            "scenes",
            f"{root}: {len(wanted)} of {len(set(sequences))} scenes are not in its tables, which are"
            f" {', '.join(folder.name for folder in folders)}: {listed}. Copy the tables that have them, or name other"
            " sequences (v1.0-mini has those of mini_train and mini_val).",
        )
    return placed


def _scene(version: VersionTables, name: str, channels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns frame -> its record, in the order of time, of scene `name`. Adds what is missing to the faults."""
    samples = version.samples[name]
    rows = [version.keyframes[sample] for sample in samples if LIDAR in version.keyframes[sample]]
    rows.sort(key=lambda of_sample: of_sample[LIDAR].timestamp)
    table = version.folder / "sample_data.json"
    if len(rows) < len(samples) or not rows:
        version.faults.add(
            "scenes without keyframes",
            f"{table}: {name} has {len(rows)} keyframes of {LIDAR}, but {len(samples)} samples in sample.json. Copy"
            " both tables again, from one archive.",
        )
    frames = [f"{of_sample[LIDAR].timestamp:016d}" for of_sample in rows]
    if twice := sorted({frame for frame in frames if frames.count(frame) > 1}):
        message = f"{table}: {name} has several keyframes of {LIDAR} at {', '.join(twice[:3])}. Copy the table again."
        version.faults.add("double keyframes", message)
    # A camera without an image of some keyframe still has a calibration there: that of another keyframe.
    others = {channel: of_sample[channel].mounted for of_sample in rows for channel in channels if channel in of_sample}
    used = {row.mounted for of_sample in rows for row in of_sample.values()}
    damaged = [token for token in sorted(used) if version.mounted(token) is None]
    if damaged or any(row.pose not in version.poses for of_sample in rows for row in of_sample.values()):
        return {}  # a fault
    return {frame: _record(version, of_sample, others) for frame, of_sample in zip(frames, rows, strict=True)}


def _record(version: VersionTables, rows: Mapping[str, Keyframe], others: Mapping[str, str]) -> dict[str, Any]:
    """Returns the record of a keyframe.

    rows: channel -> keyframe, of the LiDAR and of the cameras that took an image. others: camera -> a row of
    calibrated_sensor in the scene.
    """
    lidar = rows[LIDAR]
    world_from_ego, scanner = version.poses[lidar.pose], version.mounted(lidar.mounted)
    assert scanner is not None
    world_from_lidar = world_from_ego @ scanner.ego_from_sensor @ FILE_FROM_OURS
    intrinsics, camera_from_lidar = {}, {}
    for channel, other in others.items():
        row = rows.get(channel)
        camera = version.mounted(row.mounted if row else other)
        assert camera is not None
        # The pose at the time of the image: it is not that of the scan, because the car drives on.
        pose = version.poses[row.pose] if row else world_from_ego
        camera_from_world = inverse(pose @ camera.ego_from_sensor)
        intrinsics[channel] = camera.intrinsics
        camera_from_lidar[channel] = (camera_from_world @ world_from_lidar).tolist()
    return {
        "version": version.folder.name,
        "token": lidar.token,
        "timestamp": lidar.timestamp,
        "scan": lidar.filename,
        "labels": version.label_files["lidarseg"].get(lidar.token),
        "panoptic": version.label_files["panoptic"].get(lidar.token),
        "images": {channel: row.filename for channel, row in rows.items() if channel != LIDAR},
        "intrinsics": intrinsics,
        "camera_from_lidar": camera_from_lidar,
        "world_from_lidar": world_from_lidar.tolist(),
    }


def _write(path: Path, records: Records) -> None:
    about = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION})
    table = pa.table({"frame": list(records), "record": list(map(json.dumps, records.values()))})
    pq.write_table(table.replace_schema_metadata({ABOUT: about}), path)


def read_records(path: Path) -> Records:
    """Returns the records in a file of `read_tables`. Raises `InputError` where it is no such file."""
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[ABOUT])
        frames, texts = table["frame"].to_pylist(), table["record"].to_pylist()
        records = {frame: json.loads(text) for frame, text in zip(frames, texts, strict=True)}
    except (OSError, KeyError, TypeError, pa.ArrowInvalid, ValueError) as error:
        raise InputError(
            f"{path}: is no readable file of records ({error}). Delete its folder and run snakemake again."
        ) from None
    if about != {"format": FORMAT, "format_version": FORMAT_VERSION}:
        raise InputError(
            f"{path}: was written by another version of elite_pipeline. Delete its folder and run snakemake again."
        )
    return records
