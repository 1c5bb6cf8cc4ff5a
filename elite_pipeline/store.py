"""Zarr stores: written aside in whole shards, continued after a kill, renamed when whole, read with clear errors.

Every chunk has a checksum. `FORMATS` lists the formats; a reader refuses any other, and any other version of them.
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

# Snakemake leaves a file in each folder that a rule makes, which Zarr would call a stranger at every opening.
warnings.filterwarnings("ignore", message=r"Object at \.snakemake_timestamp")

FORMATS = {"projection": 2, "pseudo_labels": 2, "superpixels": 1, "targets": 2}
"""Format name -> the version that this code writes and reads."""

SHARD_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20

SAVE_SECONDS = 60
"""After so long progress is saved even if no shard was filled."""

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
    """A new store of format `name` at `path`: `with create(...) as out`, a `Writer`.

    Written in `path.partial` and renamed to `path` when the block ends without an error, so that what stands at `path`
    is always whole. What a killed run left in `path.partial` is continued (see `Writer.steps`) if all that the store's
    bytes follow from is the same: what is given here. Otherwise it is thrown away.

    `frames` are the frame names in order; further `attributes` must be JSON values, and so must `origin`, which is not
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
        os.sync()  # or a power cut after the renaming leaves empty shards under the final name
        if path.exists():
            shutil.rmtree(path)
        (partial / CHECKPOINT).unlink(missing_ok=True)
        os.rename(partial, path)


class Writer:
    """A store that is being written: arrays, and the steps that fill them, which a killed run need not repeat."""

    def __init__(self, folder: Path, identity: str) -> None:
        """`identity` differs wherever the store's bytes might; see `create`."""
        self._folder = folder
        self._progress = restore(folder, identity)
        self.group = zarr.create_group(folder, zarr_format=3)
        self._rows: dict[str, Rows] = {}

    def rows(self, name: str, shape: Sequence[int], dtype: DTypeLike, *, compress: bool = False) -> "Rows":
        """An array `name` that grows by rows of `shape` and `dtype`."""
        shards = len(self._progress.shards.setdefault(name, []))
        rows = self._rows[name] = Rows(self.group, name, shape, dtype, compress=compress, shards=shards)
        if self._progress.done:
            rows.append(self._progress.waiting.pop(name))
        return rows

    def array(self, name: str, values: np.ndarray) -> None:
        """A small whole array (offsets, scales) in one checksummed chunk."""
        self.group.create_array(
            name,
            data=values,
            chunks=tuple(max(1, n) for n in values.shape),
            compressors=[Crc32cCodec()],
            config={"write_empty_chunks": True},
        )

    def keep(self, **arrays: np.ndarray) -> None:
        """Arrays that the steps change in place, such as counts; a run that resumes gets their values back."""
        for name, values in arrays.items():
            if self._progress.done:
                values[...] = self._progress.kept[name]
            self._progress.kept[name] = values

    def steps(self, items: list[Item], *, label: str, unit: str = "frame") -> Iterator[Item]:
        """The elements of `items` that are still to do; after all `rows` and `keep`, and once per store.

        What a step appends and changes must be complete when the next element is asked for. Progress is saved after
        each step that filled a shard, and now and then: with the rows that wait for the next shards, of which arrays
        of small rows fill few, and with what is kept. `label` and `unit` are what `progress` shows.
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
    """An array that grows by rows and is written in whole shards: 13 times faster than frame by frame."""

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
        """Array `name` of rows of `shape` and `dtype`; `compress` adds zstd: labels shrink, float16 features do not.

        `shards`: how many whole ones lie there already.
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
            # Chunks of zeros too: a missing file is then a loss, and not a zero.
            config={"write_empty_chunks": True},
        )
        self.shards = shards
        """Whole shards on disk."""
        self._shard, self._filled = np.empty((shard, *shape), dtype), 0

    @property
    def waiting(self) -> np.ndarray:
        """The rows that wait for the next shard: (n, *shape), a view."""
        return self._shard[: self._filled]

    def append(self, rows: np.ndarray) -> None:
        """Add `rows` (n, *shape); written once a shard is full."""
        rows = np.asarray(rows, dtype=self._shard.dtype)
        if rows.shape[1:] != self._shard.shape[1:]:
            raise ValueError(f"rows of {rows.shape[1:]} for {self._array.name}, whose rows are {self._shard.shape[1:]}")
        while len(rows):
            part, rows = np.split(rows, [len(self._shard) - self._filled])
            self._shard[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == len(self._shard):
                self._write(self._shard)
                self.shards += 1

    def close(self) -> None:
        """Write what waits: the last, shorter shard."""
        if self._filled:
            self._write(self.waiting)

    def _write(self, rows: np.ndarray) -> None:
        start = self._array.shape[0]
        self._array.resize((start + len(rows), *self._array.shape[1:]))
        self._array[start:] = rows
        self._filled = 0


def open_store(path: Path, name: str) -> zarr.Group:
    """The store of format `name` at `path`, read-only.

    Raises `InputError` where it is missing, foreign, of another version, or has lost files.
    """
    path = Path(path)
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
    except (FileNotFoundError, json.JSONDecodeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no readable Zarr store ({error}). Delete it and run snakemake again.") from None
    found = (group.attrs.get("format"), group.attrs.get("format_version"))
    if found != (name, FORMATS[name]):
        raise InputError(
            f"{path} holds format {found[0]!r} version {found[1]!r}; this code reads {name!r} version {FORMATS[name]}."
            " Delete it and run snakemake again, or use the version of elite_pipeline that wrote it."
        )
    for key, array in group.arrays():
        block = array.shards or array.chunks
        files = sum(file.is_file() for file in (path / key / "c").rglob("*"))
        if files != math.prod(-(-n // m) for n, m in zip(array.shape, block, strict=True)):
            raise InputError(f"{path}: array {key!r} has lost files. Delete the store and run snakemake again.")
    return group


def read(group: zarr.Group, name: str, rows: int | slice | tuple[int, ...] = slice(None)) -> np.ndarray:
    """`group[name][rows]` as a NumPy array. Raises `InputError`, which names the store, where a chunk is damaged."""
    array = group[name]
    try:
        return np.asarray(array[rows])  # pyright: ignore[reportArgumentType]
    except Exception as error:
        # Zarr's codecs raise ValueError, RuntimeError or their own types, by codec.
        raise InputError(
            f"{group.store_path}: array {name!r} is damaged ({type(error).__name__}: {error})."
            " Delete the store and run snakemake again."
        ) from error


class Projection:
    """Reader of a projection store: which points of a frame fall on which pixels of a camera."""

    def __init__(self, path: Path) -> None:
        """Raises `InputError` where no whole projection store is at `path`."""
        self.group = open_store(path, "projection")
        self.path = Path(path)
        self.sequence: str = self.group.attrs["sequence"]  # pyright: ignore[reportAttributeAccessIssue]
        self.frames: list[str] = self.group.attrs["frames"]  # pyright: ignore[reportAttributeAccessIssue]
        self.cameras: list[str] = self.group.attrs["cameras"]  # pyright: ignore[reportAttributeAccessIssue]
        self.image_sizes: dict = self.group.attrs["image_sizes"]  # pyright: ignore[reportAttributeAccessIssue]
        self.offsets = read(self.group, "offsets")

    def rows(self, frame: int, camera: int) -> slice:
        """The slice of rows of frame index `frame` and camera index `camera`."""
        k = frame * len(self.cameras) + camera
        return slice(int(self.offsets[k]), int(self.offsets[k + 1]))

    def frame_rows(self, frame: int) -> slice:
        """The slice of rows of all cameras of frame index `frame`."""
        return slice(self.rows(frame, 0).start, self.rows(frame, len(self.cameras) - 1).stop)

    def read(self, name: str, rows: slice) -> np.ndarray:
        """Array `name` (`point`, `pixel`, `depth` or `visible`) at `rows`. Raises `InputError` where it is damaged."""
        return read(self.group, name, rows)
