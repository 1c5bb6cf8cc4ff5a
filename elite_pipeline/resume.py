"""Resuming a killed writer of a folder: the checkpoint that it saves between steps, and how the next run restores it.

Only files that the checkpoint records, and that still have the recorded checksum, are used. Therefore a kill, a full
disk or a power cut at any moment leaves a folder that the next run either continues or empties.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elite_pipeline import sources
from elite_pipeline.checkpoints import PACKAGED
from elite_pipeline.errors import InputError
from elite_pipeline.provenance import device_name, digest

if TYPE_CHECKING:
    from elite_pipeline.config import EncoderSettings

CHECKPOINT = "checkpoint.npz"


def origin(stage: str, *, network: "EncoderSettings | None" = None, files: Iterable[Path] = ()) -> list[Any]:
    """Returns, as JSON values, what determines the bits of a stage's result in addition to its settings and inputs.

    stage: its name. network: the encoder that the stage runs, if any. files: other weights.
    """
    values = [sources.digest(stage), *map(digest, files)]
    if network is None:
        return values
    import torch

    weights = network.sha256 or digest(network.checkpoint or PACKAGED)
    return [*values, weights, device_name(), torch.get_num_threads()]


@dataclass
class Checkpoint:
    """The state of a writer between two steps."""

    identity: str
    """Identifies the content that is written. A checkpoint of another identity is never used."""
    done: int = 0
    """Number of finished steps."""
    shards: dict[str, list[str]] = field(default_factory=dict)
    """Array name -> crc32 of each of its whole shards, in order."""
    waiting: dict[str, np.ndarray] = field(default_factory=dict)
    """Array name -> the rows that are not in a shard yet."""
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    """Name -> counts and sums of the stage."""

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in `folder`. Its shards must already be on disk."""
        about = {"identity": self.identity, "done": self.done, "shards": self.shards}
        arrays: dict[str, Any] = {f"waiting.{name}": rows for name, rows in self.waiting.items()}
        arrays |= {f"kept.{name}": values for name, values in self.kept.items()}
        aside = folder / f"{CHECKPOINT}.partial"
        with aside.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, folder / CHECKPOINT)

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint":
        """Returns the checkpoint in `folder`. A damaged file may raise any exception."""
        with np.load(folder / CHECKPOINT) as file:
            result = cls(**json.loads(str(file["about"])))
            for key in set(file) - {"about"}:
                part, name = key.split(".", 1)
                getattr(result, part)[name] = file[key]
        return result

    def files(self) -> dict[str, str]:
        """Returns path below the folder -> crc32 for every whole shard."""
        return {
            shard_path(name, k, self.waiting[name].ndim): checksum
            for name, checksums in self.shards.items()
            for k, checksum in enumerate(checksums)
        }


def shard_path(name: str, k: int, dimensions: int) -> str:
    """Returns the path, below a Zarr 3 store's folder, of shard `k` along the first axis of array `name`."""
    return "/".join([name, "c", str(k), *["0"] * (dimensions - 1)])


def seal(path: Path) -> str | None:
    """Flush a written file from the system's cache to the disk. Returns its crc32 for `Checkpoint.shards`."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return digest(path)


def restore(folder: Path, identity: str) -> Checkpoint:
    """Returns the `Checkpoint` in `folder` if it has this `identity` and whole files, else a new one.

    Everything else in the folder is removed: files written after the checkpoint, and metadata, which the writer creates
    again.
    """
    found = Checkpoint(identity)
    if (folder / CHECKPOINT).exists():
        fault = "is damaged"
        try:
            saved = Checkpoint.load(folder)
            if saved.identity != identity:
                fault = "has other settings, inputs, versions, code or device"
            elif all(digest(folder / file) == checksum for file, checksum in saved.files().items()):
                found, fault = saved, ""
        except Exception:  # NumPy, zipfile and json raise many types for a damaged file
            pass
        if fault:
            print(f"{folder} {fault}: starting from the beginning", flush=True)
    known = {folder / file for file in (CHECKPOINT, *found.files())} if found.done else set()
    for path in sorted(folder.rglob("*"), reverse=True):  # reversed: the contents of a folder before the folder
        if not path.is_dir():
            if path not in known:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()
    return found


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Create `folder` and lock it while the block runs, because a stage can outlive a killed Snakemake.

    Raises `InputError` while another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{folder}: another process is writing it, maybe one that outlived a killed Snakemake."
            " Wait for it or end it, then run snakemake again."
        ) from None
    except OSError:
        pass  # some network file systems cannot lock folders
