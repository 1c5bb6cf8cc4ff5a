"""nuScenes' tables of simulated scenes: the rows of one scene, and the tables that join the scenes."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.errors import InputError
from elite_pipeline.marker import refuse_tables, replacing
from elite_pipeline.simulation.nuscenes_rig import CATEGORIES, quaternion

VERSION = "v1.0-mini"
"""The version of all simulated data sets. The official devkit checks that a split belongs to the version."""

Rows = dict[str, list[dict[str, Any]]]
"""Table -> rows."""

_SETTING = "simulate_drive"
"""What a data set of recordings must not have in config.yaml."""

TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
    "lidarseg",
    "panoptic",
)

LABELS = {"lidarseg": "_lidarseg.bin", "panoptic": "_panoptic.npz"}
"""Kind of labels -> end of the names of its files."""


def token(*words: object) -> str:
    """32 hexadecimal digits, always the same for the same words."""
    return hashlib.md5("/".join(map(str, words)).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class RigSensor:
    """A sensor, as the tables say. mount: (4, 4) ego_from_sensor. intrinsics: (3, 3) of a camera, else None."""

    mount: np.ndarray
    intrinsics: np.ndarray | None
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Taken:
    """A file of a sensor. timestamp: microseconds. ego: (4, 4) global_from_ego. path: relative to the data set's."""

    channel: str
    timestamp: int
    ego: np.ndarray
    path: str


@dataclass(frozen=True)
class SceneLog:
    """A simulated scene: its name, the seed of its data set, when it begins (microseconds), and what it shows."""

    name: str
    seed: int
    start: int
    description: str

    @property
    def logfile(self) -> str:
        """The name of the log, from which the names of the files begin."""
        return f"n000-{self._start:%Y-%m-%d-%H-%M-%S}+0000"

    @property
    def _start(self) -> datetime:
        return datetime.fromtimestamp(self.start // 1_000_000, UTC)

    def token(self, *words: object) -> str:
        """The token of something in the scene: a channel and a time stamp, for example."""
        return token(self.seed, self.name, *words)

    def row(self) -> dict[str, Any]:
        """The row in the table of logs."""
        date = f"{self._start:%Y-%m-%d}"
        return {
            "token": self.token("log"),
            "logfile": self.logfile,
            "vehicle": "n000",
            "date_captured": date,
            "location": "simulated",
        }


def scene_rows(log: SceneLog, sensors: dict[str, RigSensor], keyframes: Sequence[Sequence[Taken]], lidar: str) -> Rows:
    """All rows of one scene. keyframes: the files of each keyframe, one per channel; `lidar` is the scans' channel."""
    scans = [next(taken for taken in keyframe if taken.channel == lidar) for keyframe in keyframes]
    samples = [log.token("sample", scan.timestamp) for scan in scans]
    rows: Rows = {name: [] for name in TABLES}
    rows["log"] = [log.row()]
    rows["scene"] = [
        {
            "token": log.token("scene"),
            "log_token": log.token("log"),
            "nbr_samples": len(samples),
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": log.name,
            "description": log.description,
        }
    ]
    rows["sample"] = [
        {"token": own, "timestamp": scan.timestamp, "prev": before, "next": after, "scene_token": log.token("scene")}
        for (own, before, after), scan in zip(_linked(samples), scans, strict=True)
    ]
    for channel, sensor in sensors.items():
        intrinsics = sensor.intrinsics
        modality = "lidar" if intrinsics is None else "camera"
        rows["sensor"].append({"token": token("sensor", channel), "channel": channel, "modality": modality})
        rows["calibrated_sensor"].append(
            {
                "token": log.token(channel),
                "sensor_token": token("sensor", channel),
                **_pose(sensor.mount),
                "camera_intrinsic": [] if intrinsics is None else intrinsics.tolist(),
            }
        )
        taken = [next(one for one in keyframe if one.channel == channel) for keyframe in keyframes]
        tokens = [log.token(channel, one.timestamp) for one in taken]
        for (own, before, after), sample, one in zip(_linked(tokens), samples, taken, strict=True):
            rows["ego_pose"].append({"token": own, "timestamp": one.timestamp, **_pose(one.ego)})
            rows["sample_data"].append(
                {
                    "token": own,
                    "sample_token": sample,
                    "ego_pose_token": own,
                    "calibrated_sensor_token": log.token(channel),
                    "timestamp": one.timestamp,
                    "fileformat": "pcd" if intrinsics is None else "jpg",
                    "is_key_frame": True,
                    "height": sensor.height,
                    "width": sensor.width,
                    "filename": one.path,
                    "prev": before,
                    "next": after,
                }
            )
    for scan in scans:
        own = log.token(lidar, scan.timestamp)
        for kind, end in LABELS.items():
            rows[kind].append(
                {"token": own, "sample_data_token": own, "filename": f"{kind}/{VERSION}/{own}{end}"},
            )
    return rows


def _linked(tokens: list[str]) -> Iterable[tuple[str, str, str]]:
    """(token, the one before, the one after); "" where there is none."""
    return zip(tokens, ["", *tokens[:-1]], [*tokens[1:], ""], strict=True)


def _pose(pose: np.ndarray) -> dict[str, list[float]]:
    return {"translation": pose[:3, 3].tolist(), "rotation": quaternion(pose)}


def join_tables(scenes: Sequence[Path], folder: Path) -> Rows:
    """Write the tables of simulated scenes to `folder`, `<root>/v1.0-mini`, and copy their labels to where these say.

    scenes: folders with `tables.json`, `lidarseg/` and `panoptic/`. The labels go to `<root>/lidarseg/v1.0-mini` and
    `<root>/panoptic/v1.0-mini`. `folder` appears last, when all is complete. Returns the tables.

    Raises `InputError` where the data set may be a recorded one (see `refuse_tables`), or where a scene's tables are
    unreadable.
    """
    root = folder.parent
    refuse_tables(root, _SETTING)
    rows = _joined(sorted(scenes, key=lambda scene: scene.name))
    about = {"scenes": [row["name"] for row in rows["scene"]]}
    for kind in LABELS:
        with replacing(root / kind / folder.name, _SETTING, about) as partial:
            for scene in scenes:
                for path in sorted((scene / kind).iterdir()):
                    shutil.copyfile(path, partial / path.name)
    with replacing(folder, _SETTING, about) as partial:
        for name in TABLES:
            # One key per line without indentation, as in nuScenes' own files.
            (partial / f"{name}.json").write_text(json.dumps(rows[name], indent=0) + "\n")
    return rows


def _joined(scenes: Sequence[Path]) -> Rows:
    """The tables of all scenes."""
    rows: Rows = {name: [] for name in TABLES}
    for scene in scenes:
        path = scene / "tables.json"
        try:
            own = json.loads(path.read_text())
            for name in TABLES:
                rows[name] += own[name]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: unreadable tables of a simulated scene ({error!r}). Delete the folder, and simulate it again."
            ) from None
    rows["sensor"] = list({row["token"]: row for row in rows["sensor"]}.values())
    rows["category"] = [
        {"token": token("category", index), "name": name, "description": "", "index": index}
        for index, name in enumerate(CATEGORIES)
    ]
    # The devkit demands a map of every log, and that its file exists: without a name, it is the data set's folder.
    logs = [row["token"] for row in rows["log"]]
    rows["map"] = [{"category": "semantic_prior", "token": token("map"), "filename": "", "log_tokens": logs}]
    return rows
