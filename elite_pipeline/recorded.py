"""A recorded sequence as students read it: scans, their labels, and the teacher's cached answers at their points."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from elite_pipeline import index, store
from elite_pipeline.datasets import open_recording
from elite_pipeline.datasets.semantickitti import CLASSES, IGNORE
from elite_pipeline.errors import InputError

AGAIN = "Delete it and run snakemake again."


@dataclass(frozen=True)
class Answers:
    """What the teacher says of the M points of a scan that it saw, a point seen by two cameras twice."""

    taught: Tensor
    """(M,) int64: the points."""
    teacher: Tensor
    """(M, S, K) float32 logits."""
    patch_of: Tensor
    """(M,) int64: rows of `patches`; -1 where there are none."""
    patches: Tensor
    """(Q, S, D) float32 features of the patches that points hit, in standard deviations."""


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
        self.feature_channels = 0
        """Channels of the teacher's patch features; 0 where none are cached."""
        if self.projection is None or self.targets is None:
            return
        if not self.projection.frames == self.targets.attrs["frames"] == self.index.frames:
            raise InputError(f"{projection} or {targets} holds other frames than {frames}. {AGAIN}")
        rows = int(self.projection.offsets[-1])
        if "logits" not in self.targets:
            raise InputError(f"{targets} holds no logits. Set cache_teacher.targets: [logits] for this teacher.")
        shape = self.targets["logits"].shape  # pyright: ignore[reportAttributeAccessIssue]
        if shape[0] != rows or shape[2] != len(CLASSES):
            raise InputError(f"{targets} does not fit {projection} and {len(CLASSES)} classes. {AGAIN}")
        self.stages = shape[1]
        if "point_patch" in self.targets:
            self.feature_channels = self.targets["patch_feature"].shape[2]  # pyright: ignore[reportAttributeAccessIssue]
            self._patch_scale = store.read(self.targets, "patch_scale")
            self._patch_offsets = store.read(self.targets, "patch_offsets")

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

    def instances(self, f):
        """(N,) int64 ids of things in frame index `f`, 0 where there is none or it is unknown."""
        if not self.index.labelled[f]:
            return np.zeros(self.index.points[f], dtype=np.int64)
        return self.recording.instances(self.index.frames[f], int(self.index.points[f])).astype(np.int64)

    def answered(self, f):
        """Number of projected points of frame index `f` that the teacher may have answered about."""
        rows = self.projection.frame_rows(f) if self.projection and self.targets is not None else slice(0, 0)
        return rows.stop - rows.start

    def class_mass(self):
        """(K,) float64: points that the teacher gives to each class, summed probabilities, mean over stages."""
        if self.targets is None or "mass" not in self.targets:
            raise InputError(f"{self.targets and self.targets.store_path} says nothing of class counts. {AGAIN}")
        return store.read(self.targets, "mass").mean(axis=0)

    def answers(self, f, *, features=False) -> Answers:
        """The `Answers` for frame index `f`, with patch features where wanted."""
        none = torch.zeros(0, dtype=torch.int64)
        if self.projection is None or self.targets is None:
            return Answers(none, torch.zeros(0, 0, len(CLASSES)), none, torch.zeros(0, 0, 0))
        rows = self.projection.frame_rows(f)
        visible = self.projection.read("visible", rows)
        point = self.projection.read("point", rows)[visible].astype(np.int64)
        logits = store.read(self.targets, "logits", rows)[visible].astype(np.float32)
        if (point >= self.index.points[f]).any() or not np.isfinite(logits).all():
            raise InputError(
                f"{self.targets.store_path}, frame {self.index.frames[f]}:"
                f" points beyond the scan, or logits that are not finite. {AGAIN}"
            )
        patch_of, patches = np.full(len(point), -1), np.zeros((0, logits.shape[1], 0), np.float32)
        if features:
            patch_of, patches = self._patches(f, rows)
            patch_of = patch_of[visible]
        return Answers(*(torch.from_numpy(array) for array in (point, logits, patch_of, patches)))

    def _patches(self, f, rows):
        """((rows,) int64 into the patches, (Q, S, D) float32) of all cameras of frame index `f`."""
        assert self.projection is not None
        cameras = len(self.projection.cameras)
        offsets = self._patch_offsets[f * cameras : (f + 1) * cameras + 1]
        patches = store.read(self.targets, "patch_feature", slice(int(offsets[0]), int(offsets[-1])))
        of_row = store.read(self.targets, "point_patch", rows).astype(np.int64)
        for c in range(cameras):
            own = self.projection.rows(f, c)
            of_row[own.start - rows.start : own.stop - rows.start] += offsets[c] - offsets[0]
        if (of_row >= len(patches)).any():
            raise InputError(
                f"{self.targets and self.targets.store_path}: points in patches that are not there. {AGAIN}"
            )
        return of_row, patches.astype(np.float32) * self._patch_scale


def open_recorded(sequences, frames, projection=(), targets=()) -> list[Recorded]:
    """Sequence folders with their indices and, unless empty, projection and targets stores: lists in one order."""
    for name, paths in (("frames", frames), ("projection", projection), ("targets", targets)):
        if len(paths) != len(sequences) and (paths or name == "frames"):
            raise InputError(f"--{name} names {len(paths)} files for {len(sequences)} --sequences: give one for each")
    if bool(projection) != bool(targets):
        raise InputError("--projection and --targets go together: the rows of one say what the other's mean")
    none = [None] * len(sequences)
    return [Recorded(*row) for row in zip(sequences, frames, projection or none, targets or none, strict=True)]
