"""Predictions as SemanticKITTI's own tools read them: files of raw ids, and the zip that its benchmark accepts.

What the benchmark accepts is what its validator checks (github.com/PRBonn/semantic-kitti-api, validate_submission.py):
a name in .zip, an entry for every directory, and for every scan of the test sequences a file of one uint32 a point.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from elite_pipeline.errors import InputError

BYTES = 4
"""Of a label in a file: one uint32."""

_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry of a zip (the earliest that the format knows), so that the same predictions make the same bytes."""

PointCounts = Mapping[str, Mapping[str, int]]
"""Sequence -> frame -> the number of its points."""


def label_name(sequence: str, frame: str) -> str:
    """Where the prediction of a scan lies in SemanticKITTI's layout."""
    return f"sequences/{sequence}/predictions/{frame}.label"


def label_files(inputs: Iterable[Path], out: Path) -> dict[Path, Path]:
    """{label file: scan}, sorted within each input: where the predictions of files and folders of `.bin` go.

    Under the folder `out`, file scan.bin becomes scan.label; run/scan.bin in or below a folder, run/scan.label; and a
    folder with velodyne/ in it is a sequence, whose scans go where `label_name` says. No two scans share one.
    Raises `InputError` where two would, where an input is or holds no `.bin`, and where `out` is the `labels` folder of
    a recorded sequence.
    """
    if out.name == "labels" and (out.parent / "velodyne").is_dir():
        raise InputError(f"{out} is where the labels of {out.parent} itself belong. Name another --out.")
    scans = {}
    for given in inputs:
        for scan, place in _scans_of(given):
            path = (out / place).with_suffix(".label")
            if scans.setdefault(path, scan).resolve() != scan.resolve():
                raise InputError(
                    f"{scans[path]} and {scan} would both become {path}."
                    " Give the folder above both, or write one of them to another --out."
                )
    return scans


def _scans_of(given: Path) -> list[tuple[Path, Path]]:
    """[(scan, its place under --out)] of one file or folder. Raises `InputError` where it is or holds no `.bin`."""
    if not given.is_dir():
        if given.suffix != ".bin" or not given.is_file():
            raise InputError(
                f"{given}: neither a folder nor a .bin file. Check the path, or convert the scan to float32 x, y, z,"
                " remission."
            )
        return [(given, Path(given.name))]
    folder, place = given, Path()
    if (given / "velodyne").is_dir():
        # abspath, so that "." has a name too, and a link keeps its own.
        folder, place = given / "velodyne", Path(label_name(Path(os.path.abspath(given)).name, "")).parent
    scans = sorted(path for path in folder.rglob("*.bin") if path.is_file())
    if not scans:
        raise InputError(f"{folder}: no .bin in it or below. Name the folder that holds the scans.")
    return [(scan, place / scan.relative_to(folder)) for scan in scans]


def write_labels(path: Path, raw_ids: np.ndarray) -> None:
    """Write raw ids (N,) uint32 to `path` (`.label`), aside and renamed, replacing what is there.

    Raises `InputError` where it cannot be written.
    """
    path = Path(path)
    # Not `.label.partial`: the official evaluation counts every file with ".label" in its name.
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(raw_ids.tobytes())
        os.replace(partial, path)
    except OSError as error:
        raise _not_written(path, partial, error) from None


def write(path: Path, points: PointCounts, predictions: Iterable[tuple[str, str, np.ndarray]]) -> None:
    """Write a submission to `path` (`.zip`), aside, checked by `validate` and renamed.

    points: all that must be in it. predictions: (sequence, frame, raw ids (N,) uint32), taken one at a time, so that
    memory does not grow with their number. Raises `InputError` where `validate` does, and where `path` cannot be
    written.
    """
    path = Path(path)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as out:
            for name in _directories(points):
                out.writestr(_entry(name, 0o40755), b"")
            for sequence, frame, raw_ids in predictions:
                out.writestr(_entry(label_name(sequence, frame), 0o100644), raw_ids.tobytes())
        validate(partial, points)
        os.replace(partial, path)
    except OSError as error:
        raise _not_written(path, partial, error) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def validate(path: Path, points: PointCounts) -> None:
    """Raise `InputError` at the first thing for which the official validator or evaluation would refuse `path`.

    The official validator expects the sequences of `semantickitti.BENCHMARK` and lets files pass that nobody asked for,
    in which the evaluation then fails; here those of `points` are wanted, no others.
    """
    remedy = "Delete it and write it again."
    if Path(path).suffix != ".zip":
        raise InputError(f"{path}: a submission's name must end in .zip. Rename it.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no readable zip ({error}). {remedy}") from None
    names = {entry.filename for entry in entries}
    for directory in _directories(points):
        if directory not in names:
            raise InputError(f"{path}: no entry for the directory {directory}, which the validator demands. {remedy}")
    sizes = {entry.filename: entry.file_size for entry in entries if not entry.is_dir()}
    expected = {label_name(s, f): count for s, frames in points.items() for f, count in frames.items()}
    for name, count in expected.items():
        if name not in sizes:
            raise InputError(f"{path}: {name} is missing. {remedy}")
        if sizes[name] != count * BYTES:
            raise InputError(
                f"{path}: {name} has {sizes[name]} bytes; the {count} points of its scan need"
                f" {count * BYTES}, one uint32 each. {remedy}"
            )
    if strange := sorted(set(sizes) - set(expected)):
        raise InputError(f"{path}: {strange[0]} is of no scan that was asked for. {remedy}")
    if len(entries) > len(names):
        raise InputError(f"{path}: a file is in it twice. {remedy}")


def _directories(sequences: Iterable[str]) -> Iterator[str]:
    yield "sequences/"
    for sequence in sequences:
        yield f"sequences/{sequence}/"
        yield f"sequences/{sequence}/predictions/"


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, on every system
    entry.external_attr = mode << 16
    return entry


def _not_written(path: Path, partial: Path, error: OSError) -> InputError:
    with contextlib.suppress(OSError):
        partial.unlink()
    return InputError(f"{path}: cannot be written ({error.strerror or error}). Free some space, or write elsewhere.")
