"""Simulated images in nuImages' layout: photographs, and all ten tables for each official split."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from elite_pipeline.config import SimulateImages
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.datasets.nuimages_tables import CATEGORIES, TRAIN, VAL
from elite_pipeline.datasets.run_lengths import encode
from elite_pipeline.errors import InputError
from elite_pipeline.simulation.image_files import refuse_unknown, save
from elite_pipeline.simulation.site import EGO_SPEED
from elite_pipeline.simulation.views import RenderedView

CHANNEL = "CAM_FRONT"
SURFACES = (24,)
"""Raw ids of categories that are in `surface_ann`."""

BEGIN = 1_500_000_000_000_000
"""Time of the first image, microseconds. Each further one is half a second later."""

TABLES = (
    *("attribute", "calibrated_sensor", "category", "ego_pose", "log"),
    *("object_ann", "sample", "sample_data", "sensor", "surface_ann"),
)

Row = dict[str, Any]


class NuImagesFiles:
    """`samples/CAM_FRONT/*.jpg`, and the tables in `v1.0-train/` and `v1.0-val/`. Each world has a log of its own."""

    folders = (f"samples/{CHANNEL}", "rows", TRAIN, VAL)

    def __init__(self, settings: SimulateImages, unknown: list[str], classes: ClassTable, held_out: float) -> None:
        if settings.worlds < 2:
            raise InputError(
                f"simulate_images.worlds is {settings.worlds}, but nuImages' train and val need a world each. Write 2"
                " or more"
            )
        self.settings, self.classes = settings, classes
        self.training = settings.worlds - min(max(1, round(held_out * settings.worlds)), settings.worlds - 1)
        raw_ids = np.arange(256)
        self.shown = classes.of_raw(raw_ids)
        known = np.isin(raw_ids, list(CATEGORIES.values())) & (self.shown != IGNORE)
        self.has_mask = known & ~np.isin(self.shown, np.flatnonzero(classes.known(unknown)))
        """(256,) bool: whether pixels of this raw id of nuScenes are in a mask."""

    def last(self, folder: Path, number: int) -> Path:
        return folder / "rows" / f"{number:06d}.json"

    def write(self, folder: Path, number: int, view: RenderedView) -> None:
        refuse_unknown(view.nuscenes, self.shown, self.classes)
        rows = self._rows(number, view)
        save(Image.fromarray(view.rgb), folder / rows["sample_data"][0]["filename"])
        partial = self.last(folder, number).with_suffix(".partial")
        partial.write_text(json.dumps(rows))
        os.replace(partial, self.last(folder, number))

    def finish(self, folder: Path) -> None:
        count = self.settings.views_per_world
        splits = {TRAIN: range(self.training), VAL: range(self.training, self.settings.worlds)}
        for version, worlds in splits.items():
            tables: dict[str, list[Row]] = {name: [] for name in TABLES}
            tables["category"] = [
                {"token": _token("category", raw), "name": name, "description": ""} for name, raw in CATEGORIES.items()
            ]
            tables["sensor"] = [{"token": _token("sensor"), "channel": CHANNEL, "modality": "camera"}]
            tables["log"] = [
                {
                    "token": _token("log", world),
                    "logfile": self._log(world),
                    "vehicle": "simulated",
                    "date_captured": "2017-07-14",
                    "location": "simulated",
                }
                for world in worlds
            ]
            for number in (world * count + v for world in worlds for v in range(count)):
                for name, rows in json.loads(self.last(folder, number).read_text()).items():
                    tables[name] += rows
            for name, rows in tables.items():
                (folder / version / f"{name}.json").write_text(json.dumps(rows, indent=0) + "\n")
        shutil.rmtree(folder / "rows")

    def _log(self, world: int) -> str:
        return f"simulated-{self.settings.seed + world:06d}"

    def _rows(self, number: int, view: RenderedView) -> dict[str, list[Row]]:
        """Returns the rows of view `number` in each table. The axes of the vehicle are those of the world."""
        world, time = number // self.settings.views_per_world, BEGIN + 500_000 * number
        token, sample, camera = _token("sample_data", number), _token("sample", number), view.camera
        x, y, z = map(float, view.world_from_camera[:3, 3])
        turn = Rotation.from_matrix(view.world_from_camera[:3, :3]).as_quat()[[3, 0, 1, 2]].tolist()  # w, x, y, z
        surfaces, objects = self._masks(number, token, view)
        return {
            "sample": [
                {"token": sample, "timestamp": time, "log_token": _token("log", world), "key_camera_token": token}
            ],
            "sample_data": [
                {
                    "token": token,
                    "sample_token": sample,
                    "ego_pose_token": token,
                    "calibrated_sensor_token": _token("calibrated_sensor", number),
                    "filename": f"samples/{CHANNEL}/{self._log(world)}__{CHANNEL}__{time}.jpg",
                    "fileformat": "jpg",
                    "width": camera.width,
                    "height": camera.height,
                    "timestamp": time,
                    "is_key_frame": True,
                    "prev": "",
                    "next": "",
                }
            ],
            "calibrated_sensor": [
                {
                    "token": _token("calibrated_sensor", number),
                    "sensor_token": _token("sensor"),
                    "translation": [0.0, 0.0, z],
                    "rotation": turn,
                    "camera_intrinsic": [
                        [float(camera.fx), 0.0, float(camera.cx)],
                        [0.0, float(camera.fy), float(camera.cy)],
                        [0.0, 0.0, 1.0],
                    ],
                    "camera_distortion": [0.0] * 5,
                }
            ],
            "ego_pose": [
                {
                    "token": token,
                    "translation": [x, y, 0.0],
                    "rotation": [1.0, 0.0, 0.0, 0.0],
                    "timestamp": time,
                    "rotation_rate": [0.0, 0.0, 0.0],
                    "acceleration": [0.0, 0.0, 9.81],
                    "speed": EGO_SPEED,
                }
            ],
            "surface_ann": surfaces,
            "object_ann": objects,
        }

    def _masks(self, number: int, picture: str, view: RenderedView) -> tuple[list[Row], list[Row]]:
        """Returns the rows of surfaces and of objects: one for each surface, and for each raw id of each region."""
        raw_ids = view.nuscenes
        region = np.where(np.isin(raw_ids, SURFACES), 0, view.region.astype(np.int64))
        key = np.where(self.has_mask[raw_ids], region << 8 | raw_ids, -1)
        surfaces: list[Row] = []
        objects: list[Row] = []
        for value in np.unique(key[key >= 0]).tolist():
            mask, raw = key == value, value & 255
            row = {
                "token": _token("ann", number, value),
                "sample_data_token": picture,
                "category_token": _token("category", raw),
            }
            if raw in SURFACES:
                surfaces.append({**row, "mask": encode(mask)})
                continue
            rows, columns = np.flatnonzero(mask.any(1)).tolist(), np.flatnonzero(mask.any(0)).tolist()
            box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            objects.append({**row, "attribute_tokens": [], "bbox": box, "mask": encode(mask)})
        return surfaces, objects


def _token(*what: object) -> str:
    """Returns a token of 32 hexadecimal digits, the same for the same `what`."""
    return hashlib.blake2b(repr(what).encode(), digest_size=16).hexdigest()
