"""A small data set in nuScenes' layout: all 13 tables, scans, images, labels; the rig is the real one.

Poses are random, so that a mistake in any step of a projection shows.
"""

import hashlib
import json

import numpy as np
from PIL import Image

from elite_pipeline.simulation import nuscenes_rig

LIDAR = nuscenes_rig._LIDAR_MOUNT
"""Translation and rotation of LIDAR_TOP in the ego frame."""

RIG = {name: (*sensor, round(trigger / 1000, 1)) for name, (*sensor, trigger) in nuscenes_rig._CAMERAS.items()}
"""Camera -> f, cx, cy (pixels, of an image of 1600 x 900), translation, rotation (w, x, y, z), offset in ms."""

CAMERAS = {channel: channel for channel in RIG}
SCENES = ("scene-0103", "scene-0916")
KEYFRAMES = 3
POINTS = 300
SHRUNK = 0.1
"""Images are that much smaller than real ones."""


def token(*names):
    """Returns the token of what has these names."""
    return hashlib.md5(repr(names).encode()).hexdigest()


def tables(scenes=SCENES, version="v1.0-mini", categories=None):
    """Returns table -> rows. categories: raw id -> name."""
    rng = np.random.default_rng(3)
    names = "attribute calibrated_sensor category ego_pose instance log map sample sample_annotation sample_data scene"
    made = {name: [] for name in (*names.split(), "sensor", "visibility", "lidarseg", "panoptic")}
    for channel in ("LIDAR_TOP", *RIG, "RADAR_FRONT"):
        kind = channel.split("_")[0].replace("CAM", "camera").lower()
        made["sensor"].append({"token": token(channel), "channel": channel, "modality": kind})
    for raw, name in (categories or {}).items():
        made["category"].append({"token": token(name), "name": name, "description": "", "index": raw})
    made["map"].append({"token": token("map"), "log_tokens": [], "category": "semantic_prior", "filename": ""})
    for number, scene in enumerate(scenes):
        _add_scene(made, scene, 1_532_402_927_647_951 + number * 100_000_000, version, rng)
    return made


def _add_scene(made, scene, start, version, rng):
    log = f"n015-2018-07-24-11-22-45+080{len(made['log'])}"
    made["log"].append({"token": token(log), "logfile": log, "vehicle": "n015", "date_captured": "", "location": ""})
    made["map"][0]["log_tokens"].append(token(log))
    samples = [token(scene, k) for k in range(KEYFRAMES)]
    ends = {"first_sample_token": samples[0], "last_sample_token": samples[-1], "nbr_samples": KEYFRAMES}
    known = {"token": token(scene), "name": scene, "description": "", "log_token": token(log)}
    made["scene"].append(known | ends)
    rig = {"LIDAR_TOP": (None, *LIDAR, 0.0), **RIG, "RADAR_FRONT": (None, *LIDAR, 3.0)}
    for channel, (lens, translation, rotation, _) in rig.items():
        where = {"translation": list(translation), "rotation": list(rotation)}
        known = {"token": token(scene, channel), "sensor_token": token(channel), "camera_intrinsic": []}
        if lens:
            f, cx, cy = (SHRUNK * value for value in lens)
            known["camera_intrinsic"] = [[f, 0.0, cx], [0.0, f, cy], [0.0, 0.0, 1.0]]
        made["calibrated_sensor"].append(known | where)
    place = rng.uniform(400, 1800, 2)
    for k, sample in enumerate(samples):
        time = start + 499_300 * k
        links = {"prev": samples[k - 1] if k else "", "next": samples[k + 1] if k + 1 < KEYFRAMES else ""}
        made["sample"].append({"token": sample, "timestamp": time, "scene_token": token(scene), **links})
        for channel, (*_, offset) in rig.items():
            for sweep in (False, True):
                moment = time + round(1000 * offset) - 50_000 * sweep
                name = token(scene, k, channel, sweep)
                suffix = "jpg" if channel in RIG else "pcd.bin"
                folder = f"{'sweeps' if sweep else 'samples'}/{channel}"
                tokens = {"ego_pose_token": name, "calibrated_sensor_token": token(scene, channel)}
                made["sample_data"].append(
                    {"token": name, "sample_token": sample, **tokens, "timestamp": moment, "fileformat": suffix[:3]}
                    | {"is_key_frame": not sweep, "height": 90 if channel in RIG else 0, "width": 160}
                    | {"filename": f"{folder}/{log}__{channel}__{moment}.{suffix}", "prev": "", "next": ""}
                )
                turn = np.array([1.0, 0.01, -0.02, 0.5]) + rng.normal(0, 0.05, 4)
                drive = [*(place + rng.uniform(0, 5, 2)), 0.0]
                pose = {"translation": drive, "rotation": (turn / np.linalg.norm(turn)).tolist()}
                made["ego_pose"].append({"token": name, "timestamp": moment, **pose})
        lidar = token(scene, k, "LIDAR_TOP", False)
        for kind, suffix in (("lidarseg", "bin"), ("panoptic", "npz")):
            named = {
                "token": lidar,
                "sample_data_token": lidar,
                "filename": f"{kind}/{version}/{lidar}_{kind}.{suffix}",
            }
            made[kind].append(named)


def write_tables(folder, made, indent=0):
    """Write tables, one record after the other in the layout of `json.dump(indent=...)`; None: on one line."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in made.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=indent))


def write_files(root, made):
    """Write the scans, images, labels and instances that the tables name as those of keyframes."""
    rng = np.random.default_rng(5)
    for row in made["sample_data"]:
        if not row["is_key_frame"]:
            continue
        path = root / row["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if "LIDAR_TOP" in row["filename"]:
            near, far = rng.uniform(-0.5, 0.5, (POINTS // 10, 3)), rng.uniform(-20, 20, (POINTS * 9 // 10, 3))
            rest = np.stack([rng.uniform(-20, 300, POINTS), np.arange(POINTS) % 32], axis=1)
            np.concatenate([np.concatenate([near, far * (1, 1, 0.1)]), rest], axis=1).astype("<f4").tofile(path)
        elif path.suffix == ".jpg":
            Image.fromarray(rng.integers(0, 255, (90, 160, 3), dtype=np.uint8)).save(path)
    for kind in ("lidarseg", "panoptic"):
        for row in made[kind]:
            path = root / row["filename"]
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = rng.choice([0, 2, 9, 17, 24, 28, 31], POINTS)
            if kind == "lidarseg":
                raw.astype(np.uint8).tofile(path)
            else:
                np.savez_compressed(path, data=(1000 * raw + np.arange(POINTS) % 7).astype(np.uint16))
