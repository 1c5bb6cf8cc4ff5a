"""SemanticKITTI's files of predictions: one uint32 per point, the raw id of its class.

The benchmark's validator (github.com/PRBonn/semantic-kitti-api, validate_submission.py) requires a file name that ends
in .zip, an entry for every directory, and for every scan of the test sequences a file with one uint32 per point.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.datasets.semantickitti import BENCHMARK
from elite_pipeline.deploy.formats import LabelFiles, Layout, PredictedScan, check_finite
from elite_pipeline.errors import InputError

POINT_BYTES, LABEL_BYTES = 16, 4
"""Bytes per point in a scan (x, y, z and remission as float32), and per label (uint32)."""


def label_name(sequence: str, frame: str) -> str:
    """Return the path of a scan's prediction in SemanticKITTI's layout."""
    return f"sequences/{sequence}/predictions/{frame}.label"


def read_scan(path: Path, classes: ClassTable) -> np.ndarray:
    """Return the points of a `.bin` file: (N, 4) float32, x, y, z in metres and remission. N may be 0.

    Raises `InputError` where the file is unreadable or truncated, or where a number is not finite.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}). Check the path and the read permission.") from None
    if len(data) % POINT_BYTES:
        raise InputError(
            f"{path}: the size of {len(data)} bytes is not a multiple of {POINT_BYTES} (x, y, z, remission as float32)."
            " The scan is truncated or has another format: copy or convert it again."
        )
    return check_finite(path, np.frombuffer(data, "<f4").reshape(-1, 4))


def encode(training_ids: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Return the raw ids (N,) uint32 of training ids."""
    return classes.to_raw(training_ids)


def layout(scans: Sequence[PredictedScan], classes: ClassTable, config: Mapping[str, Any]) -> Layout:
    """Return where the predictions of `scans` lie. The benchmark takes exactly the sequences of `BENCHMARK`."""
    names = {(scan.sequence, scan.frame): label_name(scan.sequence, scan.frame) for scan in scans}
    sequences = list(dict.fromkeys(scan.sequence for scan in scans))
    below = (folder for s in sequences for folder in (f"sequences/{s}/", f"sequences/{s}/predictions/"))
    warning = (
        f"SemanticKITTI's benchmark requires exactly the sequences {', '.join(BENCHMARK)}."
        f" This file has {', '.join(sorted(sequences))}, so the benchmark would reject it"
    )
    return Layout(
        names,
        {names[scan.sequence, scan.frame]: scan.points * LABEL_BYTES for scan in scans},
        ("sequences/", *below),
        warning=None if sorted(sequences) == BENCHMARK else warning,
    )


def of_folder(folder: Path) -> tuple[Path, Path]:
    """Return (folder of scans, place of their predictions). A folder that contains velodyne/ is a sequence."""
    if not (folder / "velodyne").is_dir():
        return folder, Path()
    # abspath gives "." a name and keeps the name of a link.
    return folder / "velodyne", Path(label_name(Path(os.path.abspath(folder)).name, "")).parent


FILES = LabelFiles(".bin", ".label", read_scan, encode, layout, of_folder)
