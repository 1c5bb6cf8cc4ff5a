"""What a student learns from: scans, their labels, and the teacher's cached answers at their points. No image."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from elite_pipeline import index, store
from elite_pipeline.augmentation import augment, remap
from elite_pipeline.config import Augmentation
from elite_pipeline.datasets import open_recording
from elite_pipeline.datasets.semantickitti import CLASSES, IGNORE
from elite_pipeline.errors import InputError

AGAIN = "Delete it and run snakemake again."


@dataclass(frozen=True)
class Example:
    """One scan of N points, with M answers of the teacher's S stages about K classes."""

    points: Tensor
    """(N, 4) float32: x, y, z in metres (LiDAR frame), remission."""
    labels: Tensor
    """(N,) int64 training ids, `IGNORE` where unlabelled."""
    taught: Tensor
    """(M,) int64: the points that the teacher saw. One seen by two cameras is here twice, once with each answer: the
    sum of both divergences pulls the student to the mean of the two distributions."""
    teacher: Tensor
    """(M, S, K) float32 logits."""

    def augmented(self, settings: Augmentation, generator):
        """This scan, randomly changed; labels and answers go with their points."""
        points, rows = augment(self.points, settings, generator)
        left, taught = remap(self.taught, rows, len(self.points))
        return Example(points, self.labels[rows], taught, self.teacher[left])


@dataclass(frozen=True)
class Batch(Example):
    """Scans laid end to end."""

    scan: Tensor
    """(N,) int64: the scan that each point belongs to."""
    scans: int

    def to(self, device):
        """This batch on `device`."""
        tensors = (self.points, self.labels, self.taught, self.teacher, self.scan)
        return Batch(*(tensor.to(device) for tensor in tensors), scans=self.scans)


def collate(examples: Sequence[Example]) -> Batch:
    """`examples`, one after another."""
    sizes = torch.tensor([len(example.points) for example in examples])
    starts = sizes.cumsum(0) - sizes
    return Batch(
        points=torch.cat([example.points for example in examples]),
        labels=torch.cat([example.labels for example in examples]),
        taught=torch.cat([example.taught + start for example, start in zip(examples, starts, strict=True)]),
        teacher=torch.cat([example.teacher for example in examples]),
        scan=torch.repeat_interleave(torch.arange(len(examples)), sizes),
        scans=len(examples),
    )


class Recorded:
    """A recorded sequence, its index and, where given, its projection and targets stores."""

    def __init__(self, folder, frames, projection=None, targets=None):
        self.recording = open_recording(folder)
        self.index = index.read(frames)
        self.projection = store.Projection(projection) if projection else None
        self.targets = store.open_store(targets, "targets") if targets else None
        self.files = [Path(frames), *(Path(path) / "zarr.json" for path in (projection, targets) if path)]
        self.stages: int | None = None
        """Number of the teacher's stages."""
        if self.projection is None or self.targets is None:
            return
        if "logits" not in self.targets:
            raise InputError(f"{targets} holds no logits. Set cache_teacher.targets: [logits] for this teacher.")
        _, stages, classes = self.targets["logits"].shape  # pyright: ignore[reportAttributeAccessIssue]
        rows = int(self.projection.offsets[-1])
        if not self.projection.frames == self.targets.attrs["frames"] == self.index.frames:
            raise InputError(f"{projection} or {targets} holds other frames than {frames}. {AGAIN}")
        if self.targets["logits"].shape[0] != rows or classes != len(CLASSES):  # pyright: ignore[reportAttributeAccessIssue]
            raise InputError(f"{targets} does not fit {projection} and {len(CLASSES)} classes. {AGAIN}")
        self.stages = stages

    def example(self, f) -> Example:
        """Frame index `f`."""
        points = torch.from_numpy(self.points(f).copy())
        return Example(points, torch.from_numpy(self.labels(f)), *self._teacher(f))

    def points(self, f):
        """(N, 4) float32 of frame index `f`: x, y, z in metres, remission."""
        name, count = self.index.frames[f], self.index.points[f]
        points = self.recording.points(name)
        if len(points) != count:
            raise InputError(
                f"{self.recording.folder}, frame {name}: {len(points)} points, but {count} in its index."
                " The scan changed after it was indexed: run snakemake with --forcerun index_frames."
            )
        return points

    def labels(self, f):
        """(N,) int64 training ids of frame index `f`; all `IGNORE` where it is unlabelled."""
        if not self.index.labelled[f]:
            return np.full(self.index.points[f], IGNORE, dtype=np.int64)
        return self.recording.labels(self.index.frames[f], int(self.index.points[f])).astype(np.int64)

    def answers(self, f):
        """Number of projected points of frame index `f` that the teacher may have answered about."""
        rows = self.projection.frame_rows(f) if self.projection and self.targets is not None else slice(0, 0)
        return rows.stop - rows.start

    def _teacher(self, f):
        if self.projection is None or self.targets is None:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0, len(CLASSES))
        rows = self.projection.frame_rows(f)
        visible = self.projection.read("visible", rows)
        point = self.projection.read("point", rows)[visible].astype(np.int64)
        logits = store.read(self.targets, "logits", rows)[visible].astype(np.float32)
        if (point >= self.index.points[f]).any() or not np.isfinite(logits).all():
            raise InputError(
                f"{self.targets.store_path}, frame {self.index.frames[f]}:"
                f" points beyond the scan, or logits that are not finite. {AGAIN}"
            )
        return torch.from_numpy(point), torch.from_numpy(logits)


class Examples:
    """The scans of several sequences that have something to learn from: labels, a teacher's answer or both."""

    def __init__(self, sequences: Sequence[Recorded]):
        self.sequences = sequences
        self.items = [
            (recorded, f)
            for recorded in sequences
            for f, labelled in enumerate(recorded.index.labelled)
            if labelled or recorded.answers(f)
        ]
        if not self.items:
            raise InputError("no training scan has labels or a teacher's answer; check train: of this dataset")

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index) -> Example:
        recorded, f = self.items[index]
        return recorded.example(f)

    @property
    def labelled(self):
        """Number of scans with labels."""
        return sum(bool(recorded.index.labelled[f]) for recorded, f in self.items)

    @property
    def files(self):
        """Small files that identify what is read."""
        return [file for recorded in self.sequences for file in recorded.files]

    def label_counts(self):
        """(K,) int64 points of each class."""
        counts = torch.zeros(len(CLASSES), dtype=torch.int64)
        for recorded, f in self.items:
            if recorded.index.labelled[f]:
                counts += torch.bincount(torch.from_numpy(recorded.labels(f)), minlength=len(CLASSES))
        return counts

    def digest(self):
        """SHA-256 over the indices and the stores' metadata: which data this is, without reading all of it."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def open_recorded(sequences, frames, projection=(), targets=()) -> list[Recorded]:
    """Sequence folders with their indices and, unless empty, projection and targets stores: lists in one order."""
    for name, paths in (("frames", frames), ("projection", projection), ("targets", targets)):
        if len(paths) != len(sequences) and (paths or name == "frames"):
            raise InputError(f"--{name} names {len(paths)} files for {len(sequences)} --sequences: give one for each")
    if bool(projection) != bool(targets):
        raise InputError("--projection and --targets go together: the rows of one say what the other's mean")
    none = [None] * len(sequences)
    return [Recorded(*row) for row in zip(sequences, frames, projection or none, targets or none, strict=True)]
