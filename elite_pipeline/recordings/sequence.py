"""A recorded sequence as students read it: scans, their labels, and the teacher's cached answers at their points."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from elite_pipeline import store
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.grouping import mean, pairs
from elite_pipeline.recordings import index

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
    """A recorded sequence, its index and, where given, its projection, targets and superpixels stores."""

    def __init__(
        self,
        data: Path,
        frames: Path,
        projection: Path | None = None,
        targets: Path | None = None,
        superpixels: Path | None = None,
        *,
        labels: bool = True,
    ) -> None:
        """data: folder of the data set. The others are files of the sequence.

        With `superpixels`, these take the place of the teacher's patches: its features are averaged over them. Without
        `labels`, every scan counts as unlabelled, and no label is read. Raises `InputError` where a file cannot be
        read, or does not fit the others.
        """
        self.index = index.read(frames)
        self.recording = self.index.source.open(data)
        if not labels:
            self.index = replace(self.index, labelled=np.zeros_like(self.index.labelled))
        self.projection = store.Projection(projection) if projection else None
        self.targets = store.open_store(targets, "targets") if targets else None
        self.superpixels = store.open_store(superpixels, "superpixels") if superpixels else None
        stores = [path for path in (projection, targets, superpixels) if path]
        self.files = [Path(frames), *(Path(path) / "zarr.json" for path in stores)]
        self.stages: int | None = None
        """Number of the teacher's stages."""
        self.feature_channels = 0
        """Channels of the teacher's patch features; 0 where none are cached."""
        if self.projection is None or self.targets is None:
            return
        self._check_fit(targets, self.targets, frames)
        if self.superpixels is not None:
            self._check_fit(superpixels, self.superpixels, frames)
        if "logits" in self.targets:
            self.stages = self.targets["logits"].shape[1]  # pyright: ignore[reportAttributeAccessIssue]
        if "point_patch" in self.targets:
            self.stages, self.feature_channels = self.targets["patch_feature"].shape[1:]  # pyright: ignore[reportAttributeAccessIssue]
            self._patch_scale = store.read(self.targets, "patch_scale")
            self._patch_offsets = store.read(self.targets, "patch_offsets")
        if self.stages is None:
            raise InputError(f"{targets} holds neither logits nor features. {AGAIN}")

    def _check_fit(self, path: object, known: zarr.Group, frames: Path) -> None:
        """Raises `InputError` where `known`, the store at `path`, is of other frames, rows or classes than the rest."""
        assert self.projection is not None
        if not self.projection.frames == known.attrs["frames"] == self.index.frames:
            raise InputError(f"the projection or {path} holds other frames than {frames}. {AGAIN}")
        rows = int(self.projection.offsets[-1])
        if not all(known[name].shape[0] == rows for name in ("logits", "point_patch", "segment") if name in known):  # pyright: ignore[reportAttributeAccessIssue]
            raise InputError(f"{path} does not fit its projection. {AGAIN}")
        if "classes" in known.attrs:
            ClassTable.from_json(known.attrs["classes"], path).check_same(self.index.classes, path, frames)

    @property
    def has_logits(self) -> bool:
        """Whether the teacher names classes."""
        return self.targets is not None and "logits" in self.targets

    def points(self, f: int) -> np.ndarray:
        """(N, 4) float32 of frame index `f`: x, y, z in metres, remission.

        Raises `InputError` where the scan is damaged, or has changed since it was indexed.
        """
        name, count = self.index.frames[f], self.index.points[f]
        points = self.recording.points(name)
        if len(points) != count:
            raise InputError(
                f"{self.recording.scan_path(name)}: {len(points)} points, but {count} in its index."
                " The scan changed after it was indexed: run snakemake with --forcerun index_frames."
            )
        return points

    def labels(self, f: int) -> np.ndarray:
        """(N,) int64 training ids of frame index `f`; all `IGNORE` where it is unlabelled.

        Raises `InputError` where the file of labels is damaged.
        """
        if not self.index.labelled[f]:
            return np.full(self.index.points[f], IGNORE, dtype=np.int64)
        return self.recording.labels(self.index.frames[f], int(self.index.points[f])).astype(np.int64)

    def instances(self, f: int) -> np.ndarray:
        """(N,) int64 ids of things in frame index `f`, 0 where there is none or it is unknown.

        Raises `InputError` where the file of labels is damaged.
        """
        if not self.index.labelled[f]:
            return np.zeros(self.index.points[f], dtype=np.int64)
        return self.recording.instances(self.index.frames[f], int(self.index.points[f])).astype(np.int64)

    def answered(self, f: int) -> int:
        """Number of projected points of frame index `f` that the teacher may have answered about."""
        rows = self.projection.frame_rows(f) if self.projection and self.targets is not None else slice(0, 0)
        return rows.stop - rows.start

    def class_mass(self) -> np.ndarray:
        """(K,) float64: points that the teacher gives to each class, summed probabilities, mean over stages.

        Raises `InputError` where the targets do not say.
        """
        if self.targets is None or "mass" not in self.targets:
            raise InputError(f"{self.targets and self.targets.store_path} says nothing of class counts. {AGAIN}")
        return store.read(self.targets, "mass").mean(axis=0)

    def classifier(self) -> tuple[Tensor, Tensor] | None:
        """((K, D), (K,)) float32 of the linear classifier of an image segmentation network; None of other teachers.

        Raises `InputError` where the targets are damaged.
        """
        if self.targets is None or "classifier_weight" not in self.targets:
            return None
        weight, bias = (store.read(self.targets, f"classifier_{name}")[0] for name in ("weight", "bias"))
        return torch.from_numpy(weight), torch.from_numpy(bias)

    @property
    def known_classes(self) -> list[str]:
        """Names of the classes that the teacher may answer; empty without one, or one that says none."""
        return list(self.targets.attrs.get("known_classes", ())) if self.targets is not None else []  # pyright: ignore

    def answers(self, f: int, *, features: bool = False) -> Answers:
        """What the teacher says of frame index `f`, with patch features where wanted.

        Raises `InputError` where a store is damaged, or does not fit the scan.
        """
        none = torch.zeros(0, dtype=torch.int64)
        if self.projection is None or self.targets is None:
            return Answers(none, torch.zeros(0, 0, len(self.index.classes)), none, torch.zeros(0, 0, 0))
        rows = self.projection.frame_rows(f)
        visible = self.projection.read("visible", rows)
        point = self.projection.read("point", rows)[visible].astype(np.int64)
        logits = np.zeros((len(point), 0, len(self.index.classes)), np.float32)
        if self.has_logits:
            logits = store.read(self.targets, "logits", rows)[visible].astype(np.float32)
        if (point >= self.index.points[f]).any() or not np.isfinite(logits).all():
            raise InputError(
                f"{self.targets.store_path}, frame {self.index.frames[f]}:"
                f" points beyond the scan, or logits that are not finite. {AGAIN}"
            )
        patch_of, patches = np.full(len(point), -1), np.zeros((0, self.stages or 0, 0), np.float32)
        if features:
            patch_of, patches = self._patches(f, rows)
            patch_of = patch_of[visible]
        found = Answers(*(torch.from_numpy(array) for array in (point, logits, patch_of, patches)))
        return self._pooled(found, f, rows, visible) if features and self.superpixels is not None else found

    def _patches(self, f: int, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """((rows,) int64 into the patches, (Q, S, D) float32) of all cameras of frame index `f`.

        Raises `InputError` where the targets are damaged.
        """
        assert self.targets is not None
        cameras = len(self._cameras)
        offsets = self._patch_offsets[f * cameras : (f + 1) * cameras + 1]
        patches = store.read(self.targets, "patch_feature", slice(int(offsets[0]), int(offsets[-1])))
        of_row = store.read(self.targets, "point_patch", rows).astype(np.int64)
        of_row += np.repeat(offsets[:-1] - offsets[0], self._rows_per_camera(f))
        if (of_row >= len(patches)).any():
            raise InputError(
                f"{self.targets and self.targets.store_path}: points in patches that are not there. {AGAIN}"
            )
        return of_row, patches.astype(np.float32) * self._patch_scale

    def _pooled(self, answers: Answers, f: int, rows: slice, visible: np.ndarray) -> Answers:
        """`answers` with superpixels for patches, and for their features the mean over the visible points in each.

        Raises `InputError` where the superpixels are damaged.
        """
        assert self.superpixels is not None
        segment = store.read(self.superpixels, "segment", rows).astype(np.int64)
        segment += np.repeat(np.arange(len(self._cameras)) << 16, self._rows_per_camera(f))
        names, of_point = torch.from_numpy(segment[visible]).unique(return_inverse=True)
        # The points of a patch have the same features: a mean over points is one over the distinct patches in it.
        superpixel, patch, points = pairs(of_point, answers.patch_of)
        pooled = mean(answers.patches.flatten(1)[patch], superpixel, len(names), points)
        return replace(answers, patch_of=of_point, patches=pooled.view(len(names), *answers.patches.shape[1:]))

    @property
    def _cameras(self) -> list[str]:
        assert self.projection is not None
        return self.projection.cameras

    def _rows_per_camera(self, f: int) -> np.ndarray:
        cameras = len(self._cameras)
        return np.diff(self.projection.offsets[f * cameras : (f + 1) * cameras + 1])  # pyright: ignore


def open_recorded(
    data: Path,
    frames: Sequence[Path],
    projection: Sequence[Path] = (),
    targets: Sequence[Path] = (),
    superpixels: Sequence[Path] = (),
    *,
    labels: bool = True,
) -> list[Recorded]:
    """Sequences of the data set in folder `data`: their indices and, unless empty, their stores, lists in one order.

    Raises `InputError` where the lists do not fit, a file cannot be read, or class tables differ.
    """
    for name, paths in {"projection": projection, "targets": targets, "superpixels": superpixels}.items():
        if paths and len(paths) != len(frames):
            raise InputError(f"--{name} names {len(paths)} files for {len(frames)} --frames: give one for each")
    if bool(projection) != bool(targets):
        raise InputError("--projection and --targets go together: the rows of one say what the other's mean")
    columns = [paths or [None] * len(frames) for paths in (frames, projection, targets, superpixels)]
    opened = [Recorded(data, *row, labels=labels) for row in zip(*columns, strict=True)]
    for path, recorded in zip(frames, opened, strict=True):
        opened[0].index.classes.check_same(recorded.index.classes, frames[0], path)
    return opened
