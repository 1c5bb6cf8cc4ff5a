"""Write files of predictions, and the zip of them that a benchmark accepts. `formats.Layout` says what it holds."""

import contextlib
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from elite_pipeline.deploy.formats import Layout
from elite_pipeline.errors import InputError

_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of every entry of a zip, the earliest that the format allows. A fixed date makes the same predictions give the
same bytes."""


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write `labels`, an array as the file has it, to `path` and replace any earlier file.

    They are first written to a temporary file, which is then renamed. Raises `InputError` where writing fails.
    """
    _write_file(Path(path), labels.tobytes())


def write_folder(out: Path, layout: Layout, predictions: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write the files of `layout` to the folder `out`. predictions: as for `write`.

    Raises `InputError` where a file cannot be written.
    """
    for name, content in layout.others.items():
        _write_file(out / name, content)
    for name, labels in predictions:
        _write_file(out / name, labels.tobytes())


def _write_file(path: Path, content: bytes) -> None:
    # Not `.label.partial`: the official evaluation counts every file whose name contains ".label".
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise _not_written(path, partial, error) from None


def write(path: Path, layout: Layout, predictions: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write a submission to `path` (`.zip`): write a temporary file, check it with `validate`, then rename it.

    predictions: (path in `layout`, array as the file has it), taken one at a time, so that memory does not grow with
    their number. Raises `InputError` where `validate` does, or where `path` cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as out:
            for name in layout.folders:
                out.writestr(_entry(name, 0o40755), b"")
            for name, content in layout.others.items():
                out.writestr(_entry(name, 0o100644), content)
            for name, labels in predictions:
                out.writestr(_entry(name, 0o100644), labels.tobytes())
        validate(partial, layout)
        os.replace(partial, path)
    except OSError as error:
        raise _not_written(path, partial, error) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def validate(path: Path, layout: Layout) -> None:
    """Raise `InputError` at the first fault for which the official validator or evaluation would reject `path`.

    SemanticKITTI's validator accepts additional files, but its evaluation then fails. This function requires exactly
    the files of `layout`.
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
    for folder in layout.folders:
        if folder not in names:
            raise InputError(f"{path}: no entry for the directory {folder}, which the validator requires. {remedy}")
    sizes = {entry.filename: entry.file_size for entry in entries if not entry.is_dir()}
    expected = {name: len(content) for name, content in layout.others.items()} | dict(layout.sizes)
    for name, size in expected.items():
        if name not in sizes:
            raise InputError(f"{path}: {name} is missing. {remedy}")
        if sizes[name] != size:
            raise InputError(f"{path}: {name} has {sizes[name]} bytes, but its scan needs {size}. {remedy}")
    if strange := sorted(set(sizes) - set(expected)):
        raise InputError(f"{path}: {strange[0]} belongs to no scan of the submission. {remedy}")
    if len(entries) > len(names):
        raise InputError(f"{path}: it contains a file twice. {remedy}")


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
