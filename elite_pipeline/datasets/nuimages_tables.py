"""nuImages' tables: which images are annotated, their calibration, and their masks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.json_stream import stream
from elite_pipeline.datasets.lens import Lens, has_known_formula, is_one_to_one, lens_of
from elite_pipeline.datasets.run_lengths import counts_of, run_lengths
from elite_pipeline.errors import InputError

_RAW_IDS = (*range(1, 25), 31)
"""Of the 32 raw ids: the things, the driveable surface and the vehicle itself."""

CATEGORIES = {class_table("nuscenes").raw_names[raw]: raw for raw in _RAW_IDS}
"""The categories of nuImages -> nuScenes-lidarseg's raw ids. nuImages' own table has names only."""

TRAIN, VAL, MINI = VERSIONS = ("v1.0-train", "v1.0-val", "v1.0-mini")
"""Folders of tables with annotations: one for each official split."""

TABLES = ("category", "calibrated_sensor", "sample", "sample_data", "surface_ann", "object_ann")
"""The tables that are read. The annotations come last, in the order of painting."""

COPY = "Copy nuImages' tables again."


@dataclass(frozen=True)
class Picture:
    """An annotated image."""

    file: str
    """Relative to the data set's folder."""
    height: int
    width: int
    lens: Lens | None
    """What distorts it; None: nothing, or nothing that can be undone."""
    stays_distorted: bool
    """Whether its distortion cannot be undone."""


@dataclass(frozen=True)
class Split:
    """The annotated images of one folder of tables, and their M masks.

    Masks are sorted by image, then in the order of painting.
    """

    pictures: list[Picture]
    """Sorted by the names of the files, which begin with their log's."""
    picture: np.ndarray
    """(M,) int64, index of each mask's image."""
    raw: np.ndarray
    """(M,) uint8 raw ids."""
    pixels: np.ndarray
    """(M,) int64, the number of pixels of each mask."""
    place: np.ndarray
    """(M, 2) int64, where the compressed counts of each mask begin and end."""


def parts(folder: Path) -> list[Path]:
    """Returns the folders of tables that are read: train and val, or else the first one that is there.

    mini has images of both, and is never joined with them. Raises `InputError` where there is none, or no images.
    """
    there = [folder / version for version in VERSIONS if (folder / version).is_dir()]
    if not there or not (folder / "samples").is_dir():
        lacking = "samples/" if there else " or ".join(VERSIONS)
        raise InputError(
            f"{folder}: has no {lacking}, so it is not nuImages. Link the folder that has samples/ and v1.0-train:\n"
            f"    mkdir -p data && ln -sfn /path/to/nuimages {folder}"
        )
    return there[:2] if [place.name for place in there[:2]] == [TRAIN, VAL] else there[:1]


def read_split(tables: Path, masks: bytearray, faults: list[str]) -> Split:
    """Returns the images and masks of a folder of tables.

    The compressed counts are appended to `masks`, and faults of records to `faults`. Only the counts stay in memory.
    Raises `InputError` where a table is missing, truncated or no JSON.
    """
    if missing := [f"{name}.json" for name in TABLES if not (tables / f"{name}.json").is_file()]:
        raise InputError(f"{tables}: lacks {', '.join(missing)}. {COPY}")
    raw_ids = _raw_ids(tables, faults)
    pictures, index = _pictures(tables, faults)
    order: list[tuple[int, int, str, int]] = []
    found: list[tuple[int, int, int, int]] = []

    def add(row: dict[str, Any], kind: int) -> None:
        picture = _linked(index, row["sample_data_token"], "sample_data_token", "the image of a sample")
        raw = _linked(raw_ids, row["category_token"], "category_token", "a category")
        token = row["token"]
        if row["mask"] is None:
            return
        height, width = pictures[picture].height, pictures[picture].width
        try:
            counts = counts_of(row["mask"], height, width)
            pixels = int(run_lengths(counts, height * width)[1::2].sum())
        except ValueError as error:
            raise ValueError(f"its mask {error}") from None
        # nuImages' own rule: surfaces in the order of their table, then objects in the order of their tokens.
        order.append((picture, kind, token if kind else "", len(found)))
        found.append((raw, pixels, len(masks), len(masks) + len(counts)))
        masks.extend(counts)

    _read(tables / "surface_ann.json", faults, partial(add, kind=0))
    _read(tables / "object_ann.json", faults, partial(add, kind=1))
    order.sort()
    rows = np.array(found, np.int64).reshape(-1, 4)[[place for *_, place in order]]
    picture = np.array([picture for picture, *_ in order], np.int64)
    return Split(pictures, picture, rows[:, 0].astype(np.uint8), rows[:, 1], rows[:, 2:])


def _raw_ids(tables: Path, faults: list[str]) -> dict[str, int]:
    """Returns the raw id of each category token."""
    found = {}

    def add(row: dict[str, Any]) -> None:
        found[row["token"]] = 0
        if row["name"] not in CATEGORIES:
            raise ValueError(f"{row['name']!r} is no category of nuImages")
        found[row["token"]] = CATEGORIES[row["name"]]

    _read(tables / "category.json", faults, add)
    return found


def _pictures(tables: Path, faults: list[str]) -> tuple[list[Picture], dict[str, int]]:
    """Returns the annotated images, sorted, and token of an image -> its index."""
    calibrations: dict[str, tuple[Lens | None, bool]] = {}
    wanted: dict[str, str] = {}
    found: dict[str, Picture] = {}

    def add_calibration(row: dict[str, Any]) -> None:
        if not row["camera_intrinsic"]:
            return  # of a LiDAR
        distortion = row.get("camera_distortion") or []
        known = has_known_formula(distortion)
        calibrations[row["token"]] = (None, False)
        calibrations[row["token"]] = (lens_of(row["camera_intrinsic"], distortion) if known else None, not known)

    def add_sample(row: dict[str, Any]) -> None:
        wanted[row["key_camera_token"]] = row["token"]

    def add_picture(row: dict[str, Any]) -> None:
        if row["token"] in wanted:
            height, width, key = int(row["height"]), int(row["width"]), "calibrated_sensor_token"
            found[row["token"]] = Picture(row["filename"], height, width, None, False)
            lens, stays = _linked(calibrations, row[key], key, "the calibration of a camera")
            if lens and not is_one_to_one(lens, width, height):
                lens, stays = None, True
            found[row["token"]] = Picture(row["filename"], height, width, lens, stays)

    _read(tables / "calibrated_sensor.json", faults, add_calibration)
    _read(tables / "sample.json", faults, add_sample)
    _read(tables / "sample_data.json", faults, add_picture)
    faults += [
        f"{tables}/sample.json: key_camera_token {key} of sample {sample} leads to no sample_data. {COPY}"
        for key, sample in wanted.items()
        if key not in found
    ]
    tokens = sorted(found, key=lambda token: (Path(found[token].file).name, token))
    return [found[token] for token in tokens], {token: k for k, token in enumerate(tokens)}


def _read(table: Path, faults: list[str], use: Callable[[dict[str, Any]], None]) -> None:
    """Give every record of a table to `use`. Add what it raises for wrong records to `faults`."""
    for number, row in enumerate(stream(table)):
        try:
            use(row)
        except KeyError as error:
            faults.append(f"{table}: record {number} ({row.get('token')}) has no {error}. {COPY}")
        except (TypeError, ValueError) as error:
            faults.append(f"{table}: record {number} ({row.get('token')}): {error}. {COPY}")


def _linked(index: dict[str, Any], token: str, key: str, target: str) -> Any:
    """Returns the entry of `token`. Raises `ValueError` where it leads nowhere."""
    if token not in index:
        raise ValueError(f"{key} {token} does not lead to {target}")
    return index[token]
