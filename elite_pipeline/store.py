"""Zarr stores: written aside in whole shards, renamed when whole, checksummed per chunk, read with clear errors.

The arrays of each format are listed in the table `FORMATS`; a reader refuses any other format or version.
"""

import json
import math
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from elite_pipeline.errors import InputError

FORMATS = {"projection": 1, "pseudo_labels": 1, "targets": 1}
"""Format name -> the version that this code writes and reads."""

SHARD_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20


@contextmanager
def create(path, name, *, sequence, frames, provenance, **attributes):
    """A new store of format `name` at `path`: `with create(...) as group`.

    Written in `path.partial` and renamed to `path` when the block ends without an error, so that what stands at `path`
    is always whole. `frames` are the frame names in order; further `attributes` must be JSON values.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    group = zarr.create_group(partial, zarr_format=3)
    yield group
    group.attrs.update(
        format=name,
        format_version=FORMATS[name],
        sequence=sequence,
        frames=list(frames),
        provenance=provenance,
        **attributes,
    )
    if path.exists():
        shutil.rmtree(path)
    os.rename(partial, path)


class Rows:
    """An array that grows by rows and is written in whole shards: 13 times faster than frame by frame."""

    def __init__(self, group, name, shape, dtype, *, compress=False):
        """Array `name` of rows of `shape` and `dtype`; `compress` adds zstd: labels shrink, float16 features do not."""
        shape = tuple(map(int, shape))  # zarr 3.1.5 refuses NumPy's integers
        row_bytes = max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        chunk = max(1, CHUNK_BYTES // row_bytes)
        self._shard = chunk * max(1, SHARD_BYTES // (chunk * row_bytes))
        self._array = group.create_array(
            name,
            shape=(0, *shape),
            dtype=dtype,
            chunks=(chunk, *shape),
            shards=(self._shard, *shape),
            compressors=[ZstdCodec(level=1), Crc32cCodec()] if compress else [Crc32cCodec()],
            # Chunks of zeros too: a missing file is then a loss, and not a zero.
            config={"write_empty_chunks": True},
        )
        self._waiting: list[np.ndarray] = []
        self._rows = 0

    def append(self, rows):
        """Add `rows` (n, *shape); written once a shard is full."""
        self._waiting.append(np.asarray(rows, dtype=self._array.dtype))
        self._rows += len(rows)
        if self._rows >= self._shard:
            rows = np.concatenate(self._waiting)
            whole = len(rows) // self._shard * self._shard
            self._write(rows[:whole])
            self._waiting = [rows[whole:]]
            self._rows -= whole

    def close(self):
        """Write what waits: the last, shorter shard."""
        if self._rows:
            self._write(np.concatenate(self._waiting))
        self._waiting, self._rows = [], 0

    def _write(self, rows):
        start = self._array.shape[0]
        self._array.resize((start + len(rows), *self._array.shape[1:]))
        self._array[start:] = rows


def write_array(group, name, values):
    """A small whole array (offsets, scales) in one checksummed chunk."""
    group.create_array(
        name,
        data=values,
        chunks=tuple(max(1, n) for n in values.shape),
        compressors=[Crc32cCodec()],
        config={"write_empty_chunks": True},
    )


def open_store(path, name):
    """The store of format `name` at `path`, read-only; `InputError` if it is missing, foreign or of another version."""
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


def read(group, name, rows: Any = slice(None)) -> np.ndarray:
    """`group[name][rows]` as a NumPy array; `InputError` that names the store where a chunk is damaged."""
    array = group[name]
    try:
        return np.asarray(array[rows])
    except Exception as error:
        # Zarr's codecs raise ValueError, RuntimeError or their own types, by codec.
        raise InputError(
            f"{group.store_path}: array {name!r} is damaged ({type(error).__name__}: {error})."
            " Delete the store and run snakemake again."
        ) from error


class Projection:
    """Reader of a projection store: which points of a frame fall on which pixels of a camera."""

    def __init__(self, path):
        self.group = open_store(path, "projection")
        self.path = Path(path)
        self.sequence: str = self.group.attrs["sequence"]  # pyright: ignore[reportAttributeAccessIssue]
        self.frames: list[str] = self.group.attrs["frames"]  # pyright: ignore[reportAttributeAccessIssue]
        self.cameras: list[str] = self.group.attrs["cameras"]  # pyright: ignore[reportAttributeAccessIssue]
        self.image_sizes: dict = self.group.attrs["image_sizes"]  # pyright: ignore[reportAttributeAccessIssue]
        self.offsets = read(self.group, "offsets")

    def rows(self, frame, camera):
        """The slice of rows of frame index `frame` and camera index `camera`."""
        k = frame * len(self.cameras) + camera
        return slice(int(self.offsets[k]), int(self.offsets[k + 1]))

    def frame_rows(self, frame):
        """The slice of rows of all cameras of frame index `frame`."""
        return slice(self.rows(frame, 0).start, self.rows(frame, len(self.cameras) - 1).stop)

    def read(self, name, rows):
        """Array `name` (`point`, `pixel`, `depth` or `visible`) at `rows`."""
        return read(self.group, name, rows)
