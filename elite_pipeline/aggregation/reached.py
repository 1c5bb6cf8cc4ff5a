"""Readers of what was carried to the points of each scan: aggregated soft labels, and labels of other scans."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from elite_pipeline import store
from elite_pipeline.soft_labels import decode


@dataclass(frozen=True)
class Reached:
    """The R points of a scan whose place a camera saw, in this frame or another one, and their soft labels."""

    point: Tensor
    """(R,) int64: indices of the points in the scan, without duplicates."""
    soft_label: Tensor
    """(R, 2T) uint8: compact soft labels (`soft_labels.decode`)."""
    views: Tensor
    """(R,) uint8: number of images that saw the place; 255 means 255 or more."""
    own: Tensor
    """(R,) bool: whether a camera saw the point in this very frame."""

    def logits(self, classes: int) -> Tensor:
        """(R, K) float32 log-probabilities. classes: K."""
        return decode(self.soft_label, classes)


@dataclass(frozen=True)
class Carried:
    """The R points of a scan that got the label of another scan of the same place."""

    point: Tensor
    """(R,) int64: indices of the points in the scan, without duplicates."""
    label: Tensor
    """(R,) int64 training ids, never `IGNORE`."""
    confidence: Tensor
    """(R,) float32 in 0..1: share of the votes at the place that are for this label."""
    scans: Tensor
    """(R,) uint8: number of labelled scans that saw the place; 255 means 255 or more."""


class PerPoint:
    """A store with one row per (frame, point): `aggregated` or `carried_labels`."""

    def __init__(self, path: Path, name: str) -> None:
        """Opens the store of format `name`. Raises `InputError` where there is no complete one at `path`."""
        self.group = store.open_store(path, name)
        self.path = Path(path)
        self.frames: list[str] = self.group.attrs["frames"]  # pyright: ignore[reportAttributeAccessIssue]
        self.offsets = store.read(self.group, "offsets")

    def count(self, f: int) -> int:
        """Number of rows of frame index `f`."""
        return int(self.offsets[f + 1] - self.offsets[f])

    def read(self, name: str, f: int) -> Tensor:
        """The rows of array `name` of frame index `f`. Raises `InputError` if damaged."""
        return torch.from_numpy(store.read(self.group, name, slice(int(self.offsets[f]), int(self.offsets[f + 1]))))


class Aggregated(PerPoint):
    """Reader of a store of aggregated soft labels."""

    def __init__(self, path: Path) -> None:
        """Opens the store. Raises `InputError` where there is no complete one at `path`."""
        super().__init__(path, "aggregated")

    def reached(self, f: int) -> Reached:
        """The points of frame index `f` with aggregated soft labels. Raises `InputError` if damaged."""
        point = torch.from_numpy(self.read("point", f).numpy().astype(np.int64))
        return Reached(point, *(self.read(name, f) for name in ("soft_label", "views", "own")))


class CarriedLabels(PerPoint):
    """Reader of a store of carried labels."""

    def __init__(self, path: Path) -> None:
        """Opens the store. Raises `InputError` where there is no complete one at `path`."""
        super().__init__(path, "carried_labels")

    def carried(self, f: int) -> Carried:
        """The points of frame index `f` with carried labels. Raises `InputError` if damaged."""
        point = torch.from_numpy(self.read("point", f).numpy().astype(np.int64))
        confidence = self.read("confidence", f).float() / 255
        return Carried(point, self.read("label", f).long(), confidence, self.read("scans", f))
