"""A recorded sequence as input for students: scans, their labels, and the cached teacher targets of their points."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from elite_pipeline import store
from elite_pipeline.aggregation.reached import Aggregated, Carried, CarriedLabels, Reached
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.grouping import mean, pairs
from elite_pipeline.recordings import index, temperatures
from elite_pipeline.soft_labels import decode, tempered

AGAIN = "Delete it and run snakemake again."


@dataclass(frozen=True)
class Answers:
    """The teacher targets of the M visible projected points of a scan. A point seen by two cameras appears twice."""

    taught: Tensor
    """(M,) int64: indices of the projected points in the scan."""
    teacher: Tensor
    """(M, S, K) float32 logits of S stages for K classes."""
    patch_of: Tensor
    """(M,) int64: row in `patches` of each point's patch; -1 without patch features."""
    patches: Tensor
    """(Q, S, D) float32 features of the image patches that points hit, in standard deviations."""

    def per_point(self) -> tuple[Tensor, Tensor]:
        """One soft label per point, the mean over stages and cameras of the probabilities.

        Returns (points (m,) int64, ascending and without duplicates, log-probabilities (m, K) float32).
        """
        point, row = self.taught.unique(return_inverse=True)
        return point, mean(self.teacher.exp().mean(dim=1), row, len(point)).clamp_min(1e-12).log()


class Recorded:
    """A recorded sequence: its index and, where given, its projection, targets and superpixels stores."""

    def __init__(
        self,
        data: Path,
        frames: Path,
        projection: Path | None = None,
        targets: Path | None = None,
        superpixels: Path | None = None,
        aggregated: Path | None = None,
        carried: Path | None = None,
        *,
        labels: bool = True,
        calibration: Path | None = None,
    ) -> None:
        """Open the files of a sequence. data: folder of the data set. The other paths are files of the sequence.

        With `superpixels`, superpixels replace the image patches: the teacher's features are averaged over each of
        them. Without `labels`, every scan counts as unlabelled, and no label is read. With `calibration`, the logits of
        soft labels are divided by the temperatures in this file. Raises `InputError` where a file cannot be read, or
        does not fit the others.
        """
        self.temperatures = temperatures.read(calibration) if calibration else temperatures.Temperatures()
        self.index = index.read(frames)
        self.recording = self.index.source.open(data)
        if not labels:
            self.index = replace(self.index, labelled=np.zeros_like(self.index.labelled))
        self.projection = store.Projection(projection) if projection else None
        self.targets = store.open_store(targets, "targets") if targets else None
        self.superpixels = store.open_store(superpixels, "superpixels") if superpixels else None
        self.aggregated = Aggregated(aggregated) if aggregated else None
        self.carried = CarriedLabels(carried) if carried else None
        stores = [path for path in (projection, targets, superpixels, aggregated, carried) if path]
        self.files = [Path(frames), *(Path(path) / "zarr.json" for path in stores)]
        self.files += [Path(calibration)] if calibration else []
        if aggregated and self.temperatures.aggregated is None:
            raise InputError(f"{calibration} has no temperature of aggregated soft labels. {AGAIN}")
        self.stages: int | None = None
        """Number of stages of the teacher; None without a teacher."""
        self.feature_channels = 0
        """Number of channels of the teacher's patch features; 0 where none are cached."""
        for known in (self.aggregated, self.carried):
            if known is not None:
                self._check_frames(known.path, known.group, frames)
        if self.projection is None or self.targets is None:
            return
        self._check_fit(targets, self.targets, frames)
        if self.superpixels is not None:
            self._check_fit(superpixels, self.superpixels, frames)
        if "soft_label" in self.targets:
            self.stages = self.targets["soft_label"].shape[1]  # pyright: ignore[reportAttributeAccessIssue]
        if "point_patch" in self.targets:
            self.stages, self.feature_channels = self.targets["patch_feature"].shape[1:]  # pyright: ignore[reportAttributeAccessIssue]
            self._patch_scale = store.read(self.targets, "patch_scale")
            self._patch_offsets = store.read(self.targets, "patch_offsets")
        if self.stages is None:
            raise InputError(f"{targets} holds neither logits nor features. {AGAIN}")

    def _check_fit(self, path: object, known: zarr.Group, frames: Path) -> None:
        """Raises `InputError` where frames, rows or classes of `known`, the store at `path`, differ from the rest."""
        assert self.projection is not None
        if self.projection.frames != self.index.frames:
            raise InputError(f"{self.projection.path} holds other frames than {frames}. {AGAIN}")
        self._check_frames(path, known, frames)
        rows = int(self.projection.offsets[-1])
        if not all(known[name].shape[0] == rows for name in ("soft_label", "point_patch", "segment") if name in known):  # pyright: ignore[reportAttributeAccessIssue]
            raise InputError(f"{path} does not fit its projection: the numbers of rows differ. {AGAIN}")

    def _check_frames(self, path: object, known: zarr.Group, frames: Path) -> None:
        """Raises `InputError` where frames or classes of `known`, the store at `path`, differ from the index."""
        if known.attrs["frames"] != self.index.frames:
            raise InputError(f"{path} holds other frames than {frames}. {AGAIN}")
        if "classes" in known.attrs:
            ClassTable.from_json(known.attrs["classes"], path).check_same(self.index.classes, path, frames)

    @property
    def has_soft_labels(self) -> bool:
        """Whether the teacher targets contain soft labels."""
        return self.targets is not None and "soft_label" in self.targets

    def points(self, f: int) -> np.ndarray:
        """(N, 4) float32 points of frame index `f`: x, y, z in metres, remission.

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
        """(N,) int64 training ids of frame index `f`; all `IGNORE` where the scan is unlabelled.

        Raises `InputError` where the label file is damaged.
        """
        if not self.index.labelled[f]:
            return np.full(self.index.points[f], IGNORE, dtype=np.int64)
        return self.recording.labels(self.index.frames[f], int(self.index.points[f])).astype(np.int64)

    def instances(self, f: int) -> np.ndarray:
        """(N,) int64 instance ids of frame index `f`; 0 where there is no instance, or it is unknown.

        Raises `InputError` where the label file is damaged.
        """
        if not self.index.labelled[f]:
            return np.zeros(self.index.points[f], dtype=np.int64)
        return self.recording.instances(self.index.frames[f], int(self.index.points[f])).astype(np.int64)

    def answered(self, f: int) -> int:
        """Number of projected points of frame index `f` that may have teacher targets; 0 without a teacher."""
        rows = self.projection.frame_rows(f) if self.projection and self.targets is not None else slice(0, 0)
        return rows.stop - rows.start

    def class_mass(self) -> np.ndarray:
        """(K,) float64: number of points per class according to the teacher.

        It is the sum of the teacher's probabilities over points, averaged over stages. Raises `InputError` where the
        targets do not contain it.
        """
        if self.targets is None or "mass" not in self.targets:
            raise InputError(f"{self.targets and self.targets.store_path} holds no class counts. {AGAIN}")
        return store.read(self.targets, "mass").mean(axis=0)

    def classifier(self) -> tuple[Tensor, Tensor] | None:
        """Linear classifier of an image segmentation teacher: ((K, D), (K,)) float32; None for other teachers.

        Raises `InputError` where the targets are damaged.
        """
        if self.targets is None or "classifier_weight" not in self.targets:
            return None
        weight, bias = (store.read(self.targets, f"classifier_{name}")[0] for name in ("weight", "bias"))
        return torch.from_numpy(weight), torch.from_numpy(bias)

    @property
    def known_classes(self) -> list[str]:
        """Names of the classes that the teacher can predict; empty without a teacher, or where it lists none."""
        return list(self.targets.attrs.get("known_classes", ())) if self.targets is not None else []  # pyright: ignore

    def answers(self, f: int, *, features: bool = False) -> Answers:
        """The teacher targets of frame index `f`. `features`: whether to read the patch features too.

        Raises `InputError` where a store is damaged, or does not fit the scan.
        """
        none = torch.zeros(0, dtype=torch.int64)
        if self.projection is None or self.targets is None:
            return Answers(none, torch.zeros(0, 0, len(self.index.classes)), none, torch.zeros(0, 0, 0))
        rows = self.projection.frame_rows(f)
        visible = self.projection.read("visible", rows)
        point = self.projection.read("point", rows)[visible].astype(np.int64)
        logits = torch.zeros(len(point), 0, len(self.index.classes))
        if self.has_soft_labels:
            codes = torch.from_numpy(store.read(self.targets, "soft_label", rows)[visible])
            logits = decode(tempered(codes, self.temperatures.targets), len(self.index.classes))
        self._check_points(self.targets.store_path, point, f)
        patch_of, patches = np.full(len(point), -1), np.zeros((0, self.stages or 0, 0), np.float32)
        if features:
            patch_of, patches = self._patches(f, rows)
            patch_of = patch_of[visible]
        point, patch_of, patches = (torch.from_numpy(array) for array in (point, patch_of, patches))
        found = Answers(point, logits, patch_of, patches)
        return self._pooled(found, f, rows, visible) if features and self.superpixels is not None else found

    def reached(self, f: int) -> Reached:
        """The points of frame index `f` with aggregated soft labels.

        Raises `InputError` where the store is damaged, or does not fit the scan.
        """
        assert self.aggregated is not None
        found = self.aggregated.reached(f)
        self._check_points(self.aggregated.path, found.point, f)
        return replace(found, soft_label=tempered(found.soft_label, self.temperatures.aggregated or 1.0))

    def carried_labels(self, f: int) -> Carried:
        """The points of frame index `f` with labels of other scans.

        Raises `InputError` where the store is damaged, or does not fit the scan.
        """
        assert self.carried is not None
        found = self.carried.carried(f)
        self._check_points(self.carried.path, found.point, f)
        return found

    def _check_points(self, path: object, point: Tensor | np.ndarray, f: int) -> None:
        """Raises `InputError` where `point`, indices of points of frame index `f` in a store, exceed the scan."""
        if (point >= int(self.index.points[f])).any():
            raise InputError(f"{path}, frame {self.index.frames[f]}: points beyond the end of the scan. {AGAIN}")

    def _patches(self, f: int, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Patch of each row, and the patch features, of all cameras of frame index `f`.

        Returns ((rows,) int64 positions in the patches, (Q, S, D) float32). Raises `InputError` where the targets are
        damaged.
        """
        assert self.targets is not None
        cameras = len(self._cameras)
        offsets = self._patch_offsets[f * cameras : (f + 1) * cameras + 1]
        patches = store.read(self.targets, "patch_feature", slice(int(offsets[0]), int(offsets[-1])))
        of_row = store.read(self.targets, "point_patch", rows).astype(np.int64)
        of_row += np.repeat(offsets[:-1] - offsets[0], self._rows_per_camera(f))
        if (of_row >= len(patches)).any():
            raise InputError(
                f"{self.targets and self.targets.store_path}: points refer to patches that do not exist. {AGAIN}"
            )
        return of_row, patches.astype(np.float32) * self._patch_scale

    def _pooled(self, answers: Answers, f: int, rows: slice, visible: np.ndarray) -> Answers:
        """`answers` with superpixels in place of patches. Their features are means over the visible points in each.

        Raises `InputError` where the superpixels are damaged.
        """
        assert self.superpixels is not None
        segment = store.read(self.superpixels, "segment", rows).astype(np.int64)
        segment += np.repeat(np.arange(len(self._cameras)) << 16, self._rows_per_camera(f))
        names, of_point = torch.from_numpy(segment[visible]).unique(return_inverse=True)
        # Points of one patch have the same features. So the mean over points is a weighted mean over distinct patches.
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
    aggregated: Sequence[Path] = (),
    carried: Sequence[Path] = (),
    *,
    labels: bool = True,
    calibration: Path | None = None,
) -> list[Recorded]:
    """Open the sequences with the indices `frames`, from the data set in folder `data`.

    The other lists: one store per sequence, in the order of `frames`, or empty. calibration: one file for all.
    Raises `InputError` where the lists do not match, a file cannot be read, or class tables differ.
    """
    stores = {
        "projection": projection,
        "targets": targets,
        "superpixels": superpixels,
        "aggregated": aggregated,
        "carried": carried,
    }
    for name, paths in stores.items():
        if paths and len(paths) != len(frames):
            raise InputError(f"--{name} names {len(paths)} files for {len(frames)} --frames: give one for each")
    if bool(projection) != bool(targets):
        raise InputError("--projection and --targets go together: give both or neither")
    columns = [paths or [None] * len(frames) for paths in (frames, *stores.values())]
    opened = [Recorded(data, *row, labels=labels, calibration=calibration) for row in zip(*columns, strict=True)]
    for path, recorded in zip(frames, opened, strict=True):
        opened[0].index.classes.check_same(recorded.index.classes, frames[0], path)
    return opened
