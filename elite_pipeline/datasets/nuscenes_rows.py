"""Reads the tables of one version of nuScenes, and checks the rows of the wanted scenes.

Of the large tables, whose rows are mostly of frames between keyframes, only the rows of wanted keyframes are kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from elite_pipeline.datasets.json_stream import stream
from elite_pipeline.datasets.motions import motion
from elite_pipeline.datasets.table_faults import Faults
from elite_pipeline.errors import InputError

LIDAR = "LIDAR_TOP"

KEYS: dict[str, dict[str, type]] = {
    "scene": {"token": str, "name": str},
    "sample": {"token": str, "scene_token": str},
    "sensor": {"token": str, "channel": str, "modality": str},
    "calibrated_sensor": {
        **{"token": str, "sensor_token": str},
        **{"translation": list, "rotation": list, "camera_intrinsic": list},
    },
    "sample_data": {
        **{"token": str, "sample_token": str, "ego_pose_token": str, "calibrated_sensor_token": str},
        **{"timestamp": int, "is_key_frame": bool, "filename": str},
    },
    "ego_pose": {"token": str, "translation": list, "rotation": list},
    "category": {"name": str},
    "lidarseg": {"sample_data_token": str, "filename": str},
    "panoptic": {"sample_data_token": str, "filename": str},
}
"""Table -> the keys that are needed, and their types."""


class Keyframe(NamedTuple):
    """What is kept of a row of sample_data."""

    token: str
    pose: str
    """Its row of ego_pose."""
    mounted: str
    """Its row of calibrated_sensor."""
    timestamp: int
    """Microseconds."""
    filename: str
    """Path relative to the data set's folder."""


class Mounted(NamedTuple):
    """A sensor and where it is mounted: a row of calibrated_sensor."""

    channel: str
    ego_from_sensor: np.ndarray
    """(4, 4) float64, metres."""
    intrinsics: list[list[float]]
    """Three rows of three numbers, pixels; none for a sensor that is no camera."""


class VersionTables:
    """The tables of one version, read as far as the wanted scenes and cameras need them."""

    def __init__(self, folder: Path, scenes: Mapping[str, str], all_scenes: set[str], faults: Faults) -> None:
        """scenes: token -> name of the wanted scenes. all_scenes: the tokens of all."""
        self.folder, self.scenes, self.all_scenes, self.faults = folder, scenes, all_scenes, faults
        self._mounted: dict[str, Mounted | None] = {}

    def read(self, channels: Sequence[str], raw_names: Mapping[int, str]) -> bool:
        """Read the tables. channels: the wanted cameras. raw_names: see `ClassTable`. Returns whether all were read."""
        whole = all([self._read_samples(), self._read_sensors(channels), self._read_files(raw_names)])
        if whole and self._read_keyframes({LIDAR, *channels}):
            return self._read_poses()
        # What is missing is needed to understand these tables. That they are whole can still be checked.
        for table in ("ego_pose",) if whole else ("sample_data", "ego_pose"):
            self._check_whole(table)
        return False

    def _read_samples(self) -> bool:
        self.samples: dict[str, list[str]] = {name: [] for name in self.scenes.values()}
        """Wanted scene -> its samples."""
        self.all_samples: dict[str, str | None] = {}
        """Sample -> its scene; None if that is not wanted."""
        rows = self.rows("sample")
        for row in rows or ():
            if row["scene_token"] not in self.all_scenes:
                self._lost("sample", row["token"], "scene", row["scene_token"])
            name = self.scenes.get(row["scene_token"])
            self.all_samples[row["token"]] = name
            if name is not None:
                self.samples[name].append(row["token"])
        return rows is not None

    def _read_sensors(self, channels: Sequence[str]) -> bool:
        sensors, calibrated = self.rows("sensor"), self.rows("calibrated_sensor")
        self.calibrated = {row["token"]: row for row in calibrated or ()}
        self.channel_of: dict[str, str] = {}
        """Row of calibrated_sensor -> its channel."""
        if sensors is None or calibrated is None:
            return False
        known = {row["token"]: row for row in sensors}
        have = {row["channel"]: row["modality"] for row in sensors}
        for channel in channels:
            if have.get(channel) != "camera":
                cameras = ", ".join(sorted(name for name, kind in have.items() if kind == "camera"))
                fault = f"{self.folder}/sensor.json: has no camera {channel}, only {cameras}. Correct `cameras:`."
                self.faults.add("cameras that sensor.json lacks", fault)
        for row in calibrated:
            if row["sensor_token"] in known:
                self.channel_of[row["token"]] = known[row["sensor_token"]]["channel"]
            else:
                self._lost("calibrated_sensor", row["token"], "sensor", row["sensor_token"])
        return True

    def _read_files(self, raw_names: Mapping[int, str]) -> bool:
        """Read which files have the labels and the instances of which keyframe."""
        self.label_files: dict[str, dict[str, str]] = {"lidarseg": {}, "panoptic": {}}
        """Table -> keyframe -> file."""
        whole = True
        for table, files in self.label_files.items():
            if not (self.folder / f"{table}.json").exists():
                continue
            rows = self.rows(table)
            whole &= rows is not None
            files |= {row["sample_data_token"]: row["filename"] for row in rows or ()}
        if self.label_files["lidarseg"]:
            self._check_categories(raw_names)
        return whole

    def _check_categories(self, raw_names: Mapping[int, str]) -> None:
        rows, path = self.rows("category"), self.folder / "category.json"
        if rows is None:
            return
        if not all(type(row.get("index")) is int for row in rows):
            self.faults.add(
                "category",
                f"{path}: has no `index`, so it is that of the release without labels of points. Unpack"
                " nuScenes-lidarseg again, after the other archives: it has the category.json that goes with it.",
            )
            return
        found = [(row["index"], row["name"], raw_names.get(row["index"])) for row in rows]
        wrong = [f"{raw} is {name}, not {ours}" for raw, name, ours in found if raw_names and name != ours]
        if wrong:
            self.faults.add(
                "category",
                f"{path}: {len(wrong)} names differ from `raw_names` of the class table: {', '.join(wrong[:3])}. Unpack"
                " the original of nuScenes-lidarseg, or write a class table for these labels (`classes:` of the data"
                " set).",
            )

    def _read_keyframes(self, channels: set[str]) -> bool:
        self.keyframes: dict[str, dict[str, Keyframe]] = {
            sample: {} for samples in self.samples.values() for sample in samples
        }
        """Sample -> channel -> its keyframe."""
        try:
            # Most rows are of sweeps: only the others are looked at in full.
            for row in stream(self.folder / "sample_data.json"):
                if row.get("is_key_frame") is not False:
                    self._checked("sample_data", row)
                    self._add_keyframe(row, channels)
        except InputError as error:
            self.faults.add("sample_data.json", str(error))
            return False
        return True

    def _add_keyframe(self, row: dict[str, Any], channels: set[str]) -> None:
        sample, token = row["sample_token"], row["token"]
        if sample not in self.all_samples:
            return self._lost("sample_data", token, "sample", sample)
        if self.all_samples[sample] is None:
            return None
        calibration = row["calibrated_sensor_token"]
        if calibration not in self.calibrated:
            return self._lost("sample_data", token, "calibrated_sensor", calibration)
        channel = self.channel_of.get(calibration)
        if channel not in channels:
            return None
        if channel in self.keyframes[sample]:
            self.faults.add(
                "double keyframes",
                f"{self.folder}/sample_data.json: sample {sample} of {self.all_samples[sample]} has two keyframes of"
                f" {channel}: {self.keyframes[sample][channel].token} and {token}. Copy the original table again.",
            )
        kept = Keyframe(token, row["ego_pose_token"], calibration, row["timestamp"], row["filename"])
        self.keyframes[sample][channel] = kept
        return None

    def _read_poses(self) -> bool:
        needed = {row.pose for rows in self.keyframes.values() for row in rows.values()}
        self.poses: dict[str, np.ndarray] = {}
        """Row of ego_pose -> (4, 4) float64 world_from_ego, metres."""
        damaged = set()
        try:
            for row in stream(self.folder / "ego_pose.json"):
                token = row.get("token")
                if type(token) is str and token not in needed:
                    continue
                self._checked("ego_pose", row)
                pose = self._motion("ego_pose", row)
                if pose is None:
                    damaged.add(token)
                else:
                    self.poses[row["token"]] = pose
        except InputError as error:
            self.faults.add("ego_pose.json", str(error))
            return False
        for rows in self.keyframes.values():
            for row in rows.values():
                if row.pose not in self.poses and row.pose not in damaged:
                    self._lost("sample_data", row.token, "ego_pose", row.pose)
        return True

    def mounted(self, token: str) -> Mounted | None:
        """Returns a row of calibrated_sensor, checked; None where it is damaged, which is a fault."""
        if token not in self._mounted:
            row, channel = self.calibrated[token], self.channel_of[token]
            pose, matrix = self._motion("calibrated_sensor", row), row["camera_intrinsic"]
            if channel != LIDAR and not _is_camera_matrix(matrix):
                self.faults.add(
                    "cameras without calibration",
                    f"{self.folder}/calibrated_sensor.json: {token}: {channel} needs a camera_intrinsic of 3 x 3 finite"
                    f" numbers, but has {str(matrix)[:60]}. Copy the original table again.",
                )
                pose = None
            self._mounted[token] = None if pose is None else Mounted(channel, pose, matrix)
        return self._mounted[token]

    def _motion(self, table: str, row: dict[str, Any]) -> np.ndarray | None:
        """Returns the (4, 4) float64 motion that a row has; None where it is damaged, which is a fault."""
        try:
            return motion(row["translation"], row["rotation"])
        except ValueError as error:
            message = f"{self.folder}/{table}.json: {row['token']}: {error}. Copy the original table again."
            self.faults.add(f"damaged rows of {table}.json", message)
            return None

    def _check_whole(self, table: str) -> None:
        try:
            for _ in stream(self.folder / f"{table}.json"):
                pass
        except InputError as error:
            self.faults.add(f"{table}.json", str(error))

    def rows(self, table: str) -> list[dict[str, Any]] | None:
        """Returns the rows of a small table, checked; None where the table is damaged, which is a fault."""
        try:
            return [self._checked(table, row) for row in stream(self.folder / f"{table}.json")]
        except InputError as error:
            self.faults.add(f"{table}.json", str(error))
            return None

    def _checked(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """Returns `row`. Raises `InputError` where it lacks a key, or a value has another type."""
        for key, kind in KEYS[table].items():
            if type(row.get(key)) is not kind:
                value = f"{key!r} is {row[key]!r}" if key in row else f"has no {key!r}"
                raise InputError(
                    f"{self.folder}/{table}.json: {row.get('token', 'a row')}: {value}. The table is damaged, or of"
                    " another version than nuScenes v1.0. Copy the original table again."
                )
        return row

    def _lost(self, table: str, token: str, other: str, lost: str) -> None:
        self.faults.add(
            f"tokens that lead nowhere in {other}.json",
            f"{self.folder}/{table}.json: {token} leads to {lost!r}, which {other}.json lacks. Copy both tables again,"
            " from one archive.",
        )


def _is_camera_matrix(rows: list[Any]) -> bool:
    """Returns whether `rows` are 3 x 3 finite numbers that can be inverted."""
    numbers = [value for row in rows if isinstance(row, list) for value in row if type(value) in (int, float)]
    if [len(row) if isinstance(row, list) else 0 for row in rows] != [3, 3, 3] or len(numbers) != 9:
        return False
    matrix = np.array(numbers, dtype=np.float64).reshape(3, 3)
    return bool(np.isfinite(matrix).all()) and abs(np.linalg.det(matrix)) > 1e-6
