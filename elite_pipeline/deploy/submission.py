"""Write predictions for SemanticKITTI's own tools: label files of raw ids, and the zip that its benchmark accepts.

The benchmark's validator (github.com/PRBonn/semantic-kitti-api, validate_submission.py) requires a file name that ends
in .zip, an entry for every directory, and for every scan of the test sequences a file with one uint32 per point.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from elite_pipeline.errors import InputError

BYTES = 4
"""Bytes per label in a file: one uint32."""

_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of every entry of a zip, the earliest that the format allows. A fixed date makes the same predictions give the
same bytes."""

PointCounts = Mapping[str, Mapping[str, int]]
"""Sequence -> frame -> number of its points."""


def label_name(sequence: str, frame: str) -> str:
    """Return the path of a scan's prediction in SemanticKITTI's layout."""
    return f"sequences/{sequence}/predictions/{frame}.label"


def label_files(inputs: Iterable[Path], out: Path) -> dict[Path, Path]:
    """Return {label file: scan} for `inputs`, which are `.bin` files and folders of them; sorted within each input.

    Label files go under the folder `out`. A file scan.bin becomes scan.label. A file run/scan.bin in a folder becomes
    run/scan.label. A folder that contains velodyne/ is a sequence: its scans go to the paths of `label_name`.
    Raises `InputError` where two scans would share a label file, where an input is not or does not contain a `.bin`
    file, or where `out` is the `labels` folder of a recorded sequence.
    """
    if out.name == "labels" and (out.parent / "velodyne").is_dir():
        raise InputError(f"{out} holds the labels of the recorded sequence {out.parent}. Choose another --out.")
    scans = {}
    for given in inputs:
        for scan, place in _scans_of(given):
            path = (out / place).with_suffix(".label")
            if scans.setdefault(path, scan).resolve() != scan.resolve():
                raise InputError(
                    f"{scans[path]} and {scan} would both be written to {path}."
                    " Give the folder that contains both, or write one of them to another --out."
                )
    return scans


def _scans_of(given: Path) -> list[tuple[Path, Path]]:
    """Return [(scan, its path under --out)] of one file or folder.

    Raises `InputError` where `given` is not or does not contain a `.bin` file.
    """
    if not given.is_dir():
        if given.suffix != ".bin" or not given.is_file():
            raise InputError(
                f"{given}: neither a folder nor a .bin file. Check the path, or convert the scan to a .bin file"
                " of float32 x, y, z, remission."
            )
        return [(given, Path(given.name))]
    folder, place = given, Path()
    if (given / "velodyne").is_dir():
        # abspath gives "." a name and keeps the name of a link.
        folder, place = given / "velodyne", Path(label_name(Path(os.path.abspath(given)).name, "")).parent
    scans = sorted(path for path in folder.rglob("*.bin") if path.is_file())
    if not scans:
        raise InputError(f"{folder}: no .bin file in this folder or below. Give the folder that contains the scans.")
    return [(scan, place / scan.relative_to(folder)) for scan in scans]


def write_labels(path: Path, raw_ids: np.ndarray) -> None:
    """Write raw ids (N,) uint32 to `path` (`.label`) and replace any earlier file.

    The ids are first written to a temporary file, which is then renamed. Raises `InputError` where writing fails.
    """
    path = Path(path)
    # Not `.label.partial`: the official evaluation counts every file whose name contains ".label".
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(raw_ids.tobytes())
        os.replace(partial, path)
    except OSError as error:
        raise _not_written(path, partial, error) from None


def write(path: Path, points: PointCounts, predictions: Iterable[tuple[str, str, np.ndarray]]) -> None:
    """Write a submission to `path` (`.zip`): write a temporary file, check it with `validate`, then rename it.

    points: every scan that the submission must contain. predictions: (sequence, frame, raw ids (N,) uint32), taken one
    at a time, so that memory does not grow with their number. Raises `InputError` where `validate` does, or where
    `path` cannot be written.
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
    """Raise `InputError` at the first fault for which the official validator or evaluation would reject `path`.

    The official validator expects the sequences of `semantickitti.BENCHMARK`. It accepts additional files, but the
    evaluation then fails. This function requires exactly the scans of `points`.
    """
    remedy = "Delete the zip and write it again."
    if Path(path).suffix != ".zip":
        raise InputError(f"{path}: the name of a submission must end in .zip. Rename the file.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable zip ({error}). {remedy}") from None
    names = {entry.filename for entry in entries}
    for directory in _directories(points):
        if directory not in names:
            raise InputError(f"{path}: no entry for the directory {directory}, which the validator requires. {remedy}")
    sizes = {entry.filename: entry.file_size for entry in entries if not entry.is_dir()}
    expected = {label_name(s, f): count for s, frames in points.items() for f, count in frames.items()}
    for name, count in expected.items():
        if name not in sizes:
            raise InputError(f"{path}: {name} is missing. {remedy}")
        if sizes[name] != count * BYTES:
            raise InputError(
                f"{path}: {name} has {sizes[name]} bytes, but the {count} points of its scan need"
                f" {count * BYTES}, one uint32 per point. {remedy}"
            )
    if strange := sorted(set(sizes) - set(expected)):
        raise InputError(f"{path}: {strange[0]} belongs to no scan of the submission. {remedy}")
    if len(entries) > len(names):
        raise InputError(f"{path}: it contains a file twice. {remedy}")


def _directories(sequences: Iterable[str]) -> Iterator[str]:
    yield "sequences/"
    for sequence in sequences:
        yield f"sequences/{sequence}/"
        yield f"sequences/{sequence}/predictions/"


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, whatever the system
    entry.external_attr = mode << 16
    return entry


def _not_written(path: Path, partial: Path, error: OSError) -> InputError:
    with contextlib.suppress(OSError):
        partial.unlink()
    return InputError(f"{path}: cannot be written ({error.strerror or error}). Free some space, or write elsewhere.")
