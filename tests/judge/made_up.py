"""A made-up data set in nuScenes' layout that nuscenes-devkit loads: random points and labels, two cameras."""

import json

import numpy as np
import yaml
from PIL import Image
from scipy.spatial.transform import Rotation

from elite_pipeline.datasets.classes import table_path

SCENES = ("scene-0103", "scene-0916")
"""Those of mini_val."""
VERSION, LOG = "v1.0-mini", "n015-2018-07-24-11-22-45+0800"
POINTS, WIDTH, HEIGHT = 1500, 320, 180
CAMERAS = {"CAM_FRONT": (0, -36_000), "CAM_BACK_LEFT": (108, -5_000)}
"""Channel -> (yaw of the camera in degrees, trigger in microseconds relative to the scan)."""
SPEED = 9.0
"""Metres per second."""


NAMES = (
    *("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "log", "map", "category"),
    *("attribute", "visibility", "instance", "sample_annotation", "lidarseg"),
)
"""nuScenes' 13 tables, and that of the labels of points."""


class Tables:
    """Rows of the tables. Every row gets a token."""

    def __init__(self):
        self.rows = {name: [] for name in NAMES}
        self.count = 0

    def token(self):
        self.count += 1
        return f"{self.count:032x}"

    def add(self, table, token=None, **values):
        """Add a row and return its token."""
        token = token or self.token()
        self.rows[table].append({"token": token, **values})
        return token


def quaternion(rotation):
    x, y, z, w = rotation.as_quat().tolist()
    return [w, x, y, z]


def write(root, raw_labels, frames=3):
    """Write the data set to the folder `root`. raw_labels: function of (number of the frame, in all scenes) -> (N,)."""
    tables, rng = Tables(), np.random.default_rng(5)
    raw_names = yaml.safe_load(table_path("nuscenes").read_text())["raw_names"]
    for index, name in raw_names.items():
        tables.add("category", name=name, description="", index=index)
    sensors = {"LIDAR_TOP": tables.add("sensor", channel="LIDAR_TOP", modality="lidar")}
    sensors |= {channel: tables.add("sensor", channel=channel, modality="camera") for channel in CAMERAS}
    log = tables.add("log", logfile=LOG, vehicle="n015", date_captured="2018-07-24", location="nowhere")
    tables.add("map", category="semantic_prior", filename="", log_tokens=[log])
    for k, name in enumerate(SCENES):
        _write_scene(root, tables, name, log, sensors, rng, [raw_labels(k * frames + f) for f in range(frames)])
    (root / VERSION).mkdir()
    for table, rows in tables.rows.items():
        (root / VERSION / f"{table}.json").write_text(json.dumps(rows, indent=0))


def _write_scene(root, tables, name, log, sensors, rng, labels):
    scene, frames = tables.token(), len(labels)
    samples = [tables.token() for _ in range(frames)]
    tables.add("scene", scene, name=name, description="", log_token=log, nbr_samples=frames,
               first_sample_token=samples[0], last_sample_token=samples[-1])  # fmt: skip
    mounted = {"LIDAR_TOP": _mounted(tables, sensors["LIDAR_TOP"], Rotation.from_euler("z", -90.3, degrees=True))}
    for channel, (yaw, _) in CAMERAS.items():
        forward = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        turned = Rotation.from_euler("zyx", [yaw, 1.2, -0.4], degrees=True) * forward
        intrinsics = [[253.1, 0.0, 163.2], [0.0, 253.1, 98.3], [0.0, 0.0, 1.0]]
        mounted[channel] = _mounted(tables, sensors[channel], turned, intrinsics)
    start, at = 1532402927647951 + 10**9 * SCENES.index(name), rng.uniform(300, 1900, 2)
    for f, sample in enumerate(samples):
        time = start + 500_000 * f
        neighbours = {"prev": samples[f - 1] if f else "", "next": samples[f + 1] if f + 1 < frames else ""}
        tables.add("sample", sample, timestamp=time, scene_token=scene, **neighbours)
        for channel in mounted:
            taken = time + (CAMERAS[channel][1] if channel in CAMERAS else 0)
            seconds = (taken - start) / 1e6
            place = [at[0] + SPEED * seconds, at[1] + 0.3 * seconds, 0.0]
            turned = Rotation.from_euler("zyx", [5 + 12 * seconds, 0.4, -0.3], degrees=True)
            token = tables.add("ego_pose", timestamp=taken, translation=place, rotation=quaternion(turned))
            folder, ending = f"samples/{channel}", "jpg" if channel in CAMERAS else "pcd.bin"
            (root / folder).mkdir(parents=True, exist_ok=True)
            file = f"{folder}/{LOG}__{channel}__{taken}.{ending}"
            tables.add("sample_data", token, sample_token=sample, ego_pose_token=token, filename=file, timestamp=taken,
                       calibrated_sensor_token=mounted[channel], is_key_frame=True, fileformat=ending.split(".")[0],
                       height=HEIGHT, width=WIDTH, prev="", next="")  # fmt: skip
            if channel in CAMERAS:
                Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(root / file)
                continue
            points = rng.uniform((-40, -40, -2, 0, 0), (40, 40, 5, 256, 32), (POINTS, 5)).astype("<f4")
            points[:, 3:] = np.floor(points[:, 3:])
            points.tofile(root / file)
            file = f"lidarseg/{VERSION}/{token}_lidarseg.bin"
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            labels[f].astype(np.uint8).tofile(root / file)
            tables.add("lidarseg", token, sample_data_token=token, filename=file)


def _mounted(tables, sensor, rotation, intrinsics=()):
    translation = [0.9437, 0.0, 1.8402] if not intrinsics else [1.70, 0.016, 1.51]
    return tables.add("calibrated_sensor", sensor_token=sensor, translation=translation,
                      rotation=quaternion(rotation), camera_intrinsic=list(intrinsics))  # fmt: skip
