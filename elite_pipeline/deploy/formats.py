"""How each format writes predictions: a file for each scan, and the folder that its official tools read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.choices import LABEL_FILES, load
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.errors import InputError


@dataclass(frozen=True)
class PredictedScan:
    """A recorded scan whose points get predictions."""

    sequence: str
    frame: str
    points: int
    """Number of points."""
    record: Mapping[str, Any] | None = None
    """`datasets.Recording.record`."""


@dataclass(frozen=True)
class Layout:
    """The files of predictions of several sequences, as the official tools of a format read them."""

    names: Mapping[tuple[str, str], str]
    """(sequence, frame) -> path of its file of predictions, below the folder of all."""
    sizes: Mapping[str, int]
    """Path of a file of predictions -> bytes that it must have."""
    folders: tuple[str, ...] = ()
    """Folders that a zip needs an entry of, each with a slash at its end."""
    others: Mapping[str, bytes] = field(default_factory=dict)
    """Path -> content of the files that are no predictions."""
    warning: str | None = None
    """What is said where the benchmark would reject these sequences."""


def _same(folder: Path) -> tuple[Path, Path]:
    return folder, Path()


@dataclass(frozen=True)
class LabelFiles:
    """How a format writes predictions. One module in `deploy/` for each; `choices.LABEL_FILES` lists them."""

    scan_ending: str
    """How the names of the files of scans end."""
    label_ending: str
    """How the names of files of predictions end."""
    read_scan: Callable[[Path, ClassTable], np.ndarray]
    """Function of (path, the model's classes) that returns a scan as `Recording.points`. Raises `InputError`."""
    encode: Callable[[np.ndarray, ClassTable], np.ndarray]
    """Function of (training ids (N,) uint8, their class table) that returns the array as a file has it."""
    layout: Callable[[Sequence[PredictedScan], ClassTable, Mapping[str, Any]], Layout]
    """Function of (scans, the model's classes, its config.json). Raises `InputError` where there is no such layout."""
    of_folder: Callable[[Path], tuple[Path, Path]] = _same
    """Function of a folder that a user gives: (the folder of its scans, their place in the folder of predictions)."""


def label_files_of(format: str) -> LabelFiles:
    """Returns how `format` writes predictions. A format that `choices.LABEL_FILES` lacks does as SemanticKITTI."""
    return load(LABEL_FILES.get(format, LABEL_FILES["semantickitti"]))


def check_finite(path: Path, points: np.ndarray) -> np.ndarray:
    """Returns `points` (N, 4). Raises `InputError` where a number is not finite. path: their file."""
    if bad := int((~np.isfinite(points)).any(axis=1).sum()):
        raise InputError(f"{path}: {bad} of {len(points)} points are NaN or infinite. Remove these points.")
    return points
