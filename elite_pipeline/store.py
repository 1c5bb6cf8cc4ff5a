"""Zarr stores. They are written in whole shards under a temporary name, resumed after a kill, renamed when complete.

Every chunk has a checksum. `FORMATS` lists the formats. A reader refuses other formats and other versions.
"""

import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import DTypeLike
from zarr.codecs import Crc32cCodec, ZstdCodec

from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress
from elite_pipeline.resume import CHECKPOINT, restore, seal, shard_path, sole_writer

# Snakemake puts a file into each folder that a rule makes. Zarr would warn about it each time a store is opened.
warnings.filterwarnings("ignore", message=r"Object at \.snakemake_timestamp")

FORMATS = {
    "projection": 2,
    "pseudo_labels": 2,
    "superpixels": 1,
    "targets": 3,
    "aggregated": 1,
    "carried_labels": 1,
}
"""Format name -> the version that this code writes and reads."""

SHARD_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20

SAVE_SECONDS = 60
"""Progress is saved after this time, even if no shard was filled."""

Item = TypeVar("Item")


@contextmanager
def create(
    path: Path,
    name: str,
    *,
    sequence: str,
    frames: Iterable[str],
    provenance: dict[str, Any],
    origin: Any = None,
    **attributes: Any,
) -> Iterator["Writer"]:
    """Create a store of format `name` at `path`: `with create(...) as out` gives a `Writer`.

    The store is written to `path.partial` and renamed to `path` when the block ends without an error. So the store at
    `path` is always complete. A later run continues the `path.partial` of a killed run (see `Writer.steps`) if all
    arguments here are the same, because they determine the bytes of the store. Otherwise it deletes `path.partial`.

    `frames` are the frame names in order. Further `attributes` and `origin` must be JSON values. `origin` is not
    written (see `resume.origin`). Raises `InputError` while another process writes the same store.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    attributes = {
        "format": name,
        "format_version": FORMATS[name],
        "sequence": sequence,
        "frames": list(frames),
        "provenance": provenance,
        **attributes,
    }
    identity = json.dumps([attributes, origin, SHARD_BYTES, CHUNK_BYTES], sort_keys=True)
    with sole_writer(partial):
        out = Writer(partial, hashlib.sha256(identity.encode()).hexdigest())
        yield out
        out.close()
        out.group.attrs.update(attributes)
        os.sync()  # otherwise a power cut after the renaming could leave empty shards under the final name
        if path.exists():
            shutil.rmtree(path)
        (partial / CHECKPOINT).unlink(missing_ok=True)
        os.rename(partial, path)


class Writer:
    """A store that is being written: its arrays, and the steps that fill them. A resumed run skips finished steps."""

    def __init__(self, folder: Path, identity: str) -> None:
        """identity: differs whenever the bytes of the store could differ; see `create`."""
        self._folder = folder
        self._progress = restore(folder, identity)
        self.group = zarr.create_group(folder, zarr_format=3)
        self._rows: dict[str, Rows] = {}

    def rows(self, name: str, shape: Sequence[int], dtype: DTypeLike, *, compress: bool = False) -> "Rows":
        """Returns a new array `name` that grows by rows of `shape` and `dtype`."""
        shards = len(self._progress.shards.setdefault(name, []))
        rows = self._rows[name] = Rows(self.group, name, shape, dtype, compress=compress, shards=shards)
        if self._progress.done:
            rows.append(self._progress.waiting.pop(name))
        return rows

    def array(self, name: str, values: np.ndarray) -> None:
        """Write a small array (offsets, scales) in one chunk with a checksum."""
        self.group.create_array(
            name,
            data=values,
            chunks=tuple(max(1, n) for n in values.shape),
            compressors=[Crc32cCodec()],
            config={"write_empty_chunks": True},
        )

    def keep(self, **arrays: np.ndarray) -> None:
        """Register arrays that the steps change in place, such as counts. A resumed run gets their saved values."""
        for name, values in arrays.items():
            if self._progress.done:
                values[...] = self._progress.kept[name]
            self._progress.kept[name] = values

    def steps(self, items: list[Item], *, label: str, unit: str = "frame") -> Iterator[Item]:
        """Yields the elements of `items` that are not done yet. Call it once per store, after all `rows` and `keep`.

        A step must have made all its changes when it asks for the next element. Progress is saved after each step that
        filled a shard, and after `SAVE_SECONDS` (arrays of small rows rarely fill one). It includes the rows that are
        not in a shard yet, and the kept arrays. `label` and `unit` are shown by `progress`.
        """
        start, total = self._progress.done, len(items)
        if start:
            print(f"{label} resumes at {unit} {start} of {total}", flush=True)
        saved = time.monotonic()
        for item in progress(items[start:], label=label, unit=unit, total=total, initial=start):
            yield item
            self._progress.done += 1
            filled = any(rows.shards > len(self._progress.shards[name]) for name, rows in self._rows.items())
            if filled or time.monotonic() - saved > SAVE_SECONDS:
                self._save()
                saved = time.monotonic()

    def close(self) -> None:
        """Write the last, shorter shards."""
        for rows in self._rows.values():
            rows.close()

    def _save(self) -> None:
        for name, rows in self._rows.items():
            sealed: list = self._progress.shards[name]
            for k in range(len(sealed), rows.shards):
                sealed.append(seal(self._folder / shard_path(name, k, rows.waiting.ndim)))
        self._progress.waiting = {name: rows.waiting for name, rows in self._rows.items()}
        self._progress.save(self._folder)


class Rows:
    """An array that grows by rows and is written in whole shards, which is 13 times faster than frame by frame."""

    def __init__(
        self,
        group: zarr.Group,
        name: str,
        shape: Sequence[int],
        dtype: DTypeLike,
        *,
        compress: bool = False,
        shards: int = 0,
    ) -> None:
        """Create array `name` with rows of `shape` and `dtype`.

        compress: adds zstd (labels shrink, float16 features do not). shards: number of whole shards already on disk.
        """
        shape = tuple(map(int, shape))  # zarr 3.1.5 refuses NumPy's integers
        row_bytes = max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        chunk = max(1, CHUNK_BYTES // row_bytes)
        shard = chunk * max(1, SHARD_BYTES // (chunk * row_bytes))
        self._array = group.create_array(
            name,
            shape=(shards * shard, *shape),
            dtype=dtype,
            chunks=(chunk, *shape),
            shards=(shard, *shape),
            compressors=[ZstdCodec(level=1), Crc32cCodec()] if compress else [Crc32cCodec()],
            # Also writes chunks of zeros, so that a missing file is always an error and never zeros.
            config={"write_empty_chunks": True},
        )
        self.shards = shards
        """Whole shards on disk."""
        self._shard, self._filled = np.empty((shard, *shape), dtype), 0

    @property
    def waiting(self) -> np.ndarray:
        """The rows that are not in a shard yet: (n, *shape), a view."""
        return self._shard[: self._filled]

    def append(self, rows: np.ndarray) -> None:
        """Add `rows` (n, *shape). They are written when a shard is full."""
        rows = np.asarray(rows, dtype=self._shard.dtype)
        if rows.shape[1:] != self._shard.shape[1:]:
            raise ValueError(
                f"got rows of {rows.shape[1:]}, but {self._array.name} has rows of {self._shard.shape[1:]}"
            )
        while len(rows):
            part, rows = np.split(rows, [len(self._shard) - self._filled])
            self._shard[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == len(self._shard):
                self._write(self._shard)
                self.shards += 1

    def close(self) -> None:
        """Write the remaining rows as the last, shorter shard."""
        if self._filled:
            self._write(self.waiting)

    def _write(self, rows: np.ndarray) -> None:
        start = self._array.shape[0]
        self._array.resize((start + len(rows), *self._array.shape[1:]))
        self._array[start:] = rows
        self._filled = 0


def open_store(path: Path, name: str) -> zarr.Group:
    """Returns the store of format `name` at `path`, read-only.

    Raises `InputError` where it is missing, has another format or version, or lacks files.
    """
    path = Path(path)
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
    except (FileNotFoundError, json.JSONDecodeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a readable Zarr store ({error}). Delete it and run snakemake again.") from None
    found = (group.attrs.get("format"), group.attrs.get("format_version"))
    if found != (name, FORMATS[name]):
        raise InputError(
            f"{path} has format {found[0]!r} version {found[1]!r}; this code reads {name!r} version {FORMATS[name]}."
            " Delete it and run snakemake again, or use the version of elite_pipeline that wrote it."
        )
    for key, array in group.arrays():
        block = array.shards or array.chunks
        files = sum(file.is_file() for file in (path / key / "c").rglob("*"))
        if files != math.prod(-(-n // m) for n, m in zip(array.shape, block, strict=True)):
            raise InputError(f"{path}: files of array {key!r} are missing. Delete the store and run snakemake again.")
    return group


def read(group: zarr.Group, name: str, rows: int | slice | tuple[int, ...] = slice(None)) -> np.ndarray:
    """Returns `group[name][rows]` as a NumPy array. Raises `InputError` with the store's path for a damaged chunk."""
    array = group[name]
    try:
        return np.asarray(array[rows])  # pyright: ignore[reportArgumentType]
    except Exception as error:
        # The type depends on the codec: Zarr's codecs raise ValueError, RuntimeError or their own types.
        raise InputError(
            f"{group.store_path}: array {name!r} is damaged ({type(error).__name__}: {error})."
            " Delete the store and run snakemake again."
        ) from error


class Projection:
    """Reader of a projection store: the points of each frame that fall into a camera image, and their pixels."""

    def __init__(self, path: Path) -> None:
        """Opens the store. Raises `InputError` where there is no complete projection store at `path`."""
        self.group = open_store(path, "projection")
        self.path = Path(path)
        self.sequence: str = self.group.attrs["sequence"]  # pyright: ignore[reportAttributeAccessIssue]
        self.frames: list[str] = self.group.attrs["frames"]  # pyright: ignore[reportAttributeAccessIssue]
        self.cameras: list[str] = self.group.attrs["cameras"]  # pyright: ignore[reportAttributeAccessIssue]
        self.image_sizes: dict = self.group.attrs["image_sizes"]  # pyright: ignore[reportAttributeAccessIssue]
        self.offsets = read(self.group, "offsets")

    def rows(self, frame: int, camera: int) -> slice:
        """Returns the slice of rows of frame index `frame` and camera index `camera`."""
        k = frame * len(self.cameras) + camera
        return slice(int(self.offsets[k]), int(self.offsets[k + 1]))

    def frame_rows(self, frame: int) -> slice:
        """Returns the slice of rows of all cameras of frame index `frame`."""
        return slice(self.rows(frame, 0).start, self.rows(frame, len(self.cameras) - 1).stop)

    def read(self, name: str, rows: slice) -> np.ndarray:
        """Returns array `name` (`point`, `pixel`, `depth` or `visible`) at `rows`. Raises `InputError` if damaged."""
        return read(self.group, name, rows)
