"""How a killed writer of a folder is continued: what it saves between two steps, and how the next run takes that up.

Nothing in the folder counts but what the checkpoint records and what still has the recorded checksum. A kill, a full
disk or a power cut at any moment therefore leaves a folder that is either continued or emptied.
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
    """What the bits of a stage's result follow from beside its settings and inputs, as JSON values.

    stage: its name. network: the encoder that answers, if one does. files: other weights.
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
    """Of what is written; one of another identity is never taken up."""
    done: int = 0
    """Steps that are over."""
    shards: dict[str, list[str]] = field(default_factory=dict)
    """Array name -> crc32 of each of its whole shards, in order."""
    waiting: dict[str, np.ndarray] = field(default_factory=dict)
    """Array name -> the rows that wait for its next shard."""
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    """Name -> counts and sums of the stage."""

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in `folder`, whose shards are on disk already."""
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
        """The checkpoint in `folder`; no exception in particular where it is damaged."""
        with np.load(folder / CHECKPOINT) as file:
            result = cls(**json.loads(str(file["about"])))
            for key in set(file) - {"about"}:
                part, name = key.split(".", 1)
                getattr(result, part)[name] = file[key]
        return result

    def files(self) -> dict[str, str]:
        """Path below the folder -> crc32, of every whole shard."""
        return {
            shard_path(name, k, self.waiting[name].ndim): checksum
            for name, checksums in self.shards.items()
            for k, checksum in enumerate(checksums)
        }


def shard_path(name: str, k: int, dimensions: int) -> str:
    """Where Zarr 3 puts the `k`-th shard along the first axis of array `name`, below the store's folder."""
    return "/".join([name, "c", str(k), *["0"] * (dimensions - 1)])


def seal(path: Path) -> str | None:
    """Bring a written file from the system's cache to the disk; its crc32 for `Checkpoint.shards`."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return digest(path)


def restore(folder: Path, identity: str) -> Checkpoint:
    """The `Checkpoint` in `folder`, or a new one if there is none of `identity` whose files are whole.

    Everything else in the folder is removed: what came after the checkpoint, and metadata, which are written anew.
    """
    found = Checkpoint(identity)
    if (folder / CHECKPOINT).exists():
        fault = "is damaged"
        try:
            saved = Checkpoint.load(folder)
            if saved.identity != identity:
                fault = "is of other settings, inputs, versions, code or device"
            elif all(digest(folder / file) == checksum for file, checksum in saved.files().items()):
                found, fault = saved, ""
        except Exception:  # whatever NumPy, zipfile and json raise at a file that is not theirs
            pass
        if fault:
            print(f"{folder} {fault}: starts afresh", flush=True)
    known = {folder / file for file in (CHECKPOINT, *found.files())} if found.done else set()
    for path in sorted(folder.rglob("*"), reverse=True):  # a folder after what is in it
        if not path.is_dir():
            if path not in known:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()
    return found


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it while the block runs: a stage may outlive the Snakemake that was killed.

    Raises `InputError` while another process holds it.
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
            " Wait for it, or end it, and run snakemake again."
        ) from None
    except OSError:
        pass  # some network file systems lock no folders
