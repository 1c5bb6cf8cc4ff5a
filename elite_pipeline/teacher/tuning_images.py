"""What a teacher is tuned on: images with dense pseudo-labels, augmented, as positions with a label."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from elite_pipeline import store
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.sam.view import View
from elite_pipeline.teacher.heads import stack

POSITIONS = 2048
"""Labelled positions drawn from an image at a step: as good as all of them, at a tenth of the price of the heads."""

JITTER = 0.4
"""Brightness, contrast and saturation are scaled by 1 +- this, as in ELiTe."""


@dataclass(frozen=True)
class ImageBatch:
    """Prepared images and labelled positions in them."""

    images: torch.Tensor
    """(B, 3, h, w) float32."""
    pixels: list[torch.Tensor]
    """Per image (n_b, 2) float32, (u, v), pixels of the view."""
    labels: torch.Tensor
    """(sum of n_b,) int64 training ids, none of them `IGNORE`."""

    def to(self, device: str | torch.device) -> "ImageBatch":
        """The batch on `device`."""
        return ImageBatch(self.images.to(device), [pixel.to(device) for pixel in self.pixels], self.labels.to(device))


class LabelledImages:
    """The images of several sequences whose scans are labelled: one item per (sequence, frame, camera).

    With `unlabelled`, those of the other scans too; of such an item only `image` can be asked. What reads a damaged
    file raises `InputError`.
    """

    def __init__(
        self,
        data: Path,
        frames: list[Path],
        projections: list[Path],
        pseudo_labels: list[Path] | None = None,
        *,
        unlabelled: bool = False,
    ) -> None:
        """data: folder of the data set. The others are files in one order, an element for each sequence.

        Raises `InputError` where a file is unreadable, stores do not fit their index, class tables differ, or no image
        is there.
        """
        self.items: list[tuple[int, int, int]] = []
        self._frames = index.read_all(frames)
        self._recordings = [known.source.open(data) for known in self._frames]
        self.classes = self._frames[0].classes
        self._projections = [store.Projection(path) for path in projections]
        self._labels = [store.open_store(path, "pseudo_labels") for path in pseudo_labels or ()]
        for s, (known, projection) in enumerate(zip(self._frames, self._projections, strict=True)):
            for source in [projection.group, *self._labels[s : s + 1]]:
                if source.attrs["frames"] != known.frames:
                    raise InputError(f"{source.store_path} has other frames than {frames[s]}. Delete it and run again.")
                if "classes" in source.attrs:
                    table = ClassTable.from_json(source.attrs["classes"], source.store_path)
                    table.check_same(known.classes, source.store_path, frames[s])
            for c, camera in enumerate(projection.cameras):
                usable = np.flatnonzero((known.labelled | unlabelled) & (known.sizes[camera][:, 0] > 0))
                self.items += [(s, int(f), c) for f in usable]
        if not self.items:
            of = "any" if unlabelled else "a labelled"
            raise InputError(f"{', '.join(map(str, frames))}: no image of {of} scan to learn from.")

    def __len__(self) -> int:
        return len(self.items)

    def spread(self, count: int) -> list[int]:
        """At most `count` items, evenly spread over all."""
        return np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)).tolist()

    def image(self, item: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        s, f, c = self.items[item]
        return self._recordings[s].image(self._frames[s].frames[f], self._projections[s].cameras[c])

    def labels(self, item: int) -> np.ndarray:
        """(H, W) uint8 training ids of the image's pixels."""
        s, f, c = self.items[item]
        height, width = self._frames[s].sizes[self._projections[s].cameras[c]][f]
        return store.read(self._labels[s], "label", (f, c))[:height, :width]

    def points(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """(pixel, label): (n, 2) float32 native pixels and (n,) uint8 training ids of the visible projected points."""
        s, f, c = self.items[item]
        rows = self._projections[s].rows(f, c)
        seen = self._projections[s].read("visible", rows)
        labels = self._recordings[s].labels(self._frames[s].frames[f], int(self._frames[s].points[f]))
        point = self._projections[s].read("point", rows)[seen]
        return self._projections[s].read("pixel", rows)[seen], labels[point]

    def batch(self, view: View, step: int, size: int, seed: int) -> ImageBatch:
        """The augmented `ImageBatch` of `size` images of a step: a function of `seed` and `step` alone, so that a
        resumed run sees what an uninterrupted one would have seen."""
        rng = np.random.default_rng((seed, step))
        images, pixels, labels = [], [], []
        for k in range(step * size, (step + 1) * size):
            epoch, place = divmod(k, len(self))
            item = np.random.default_rng((seed, epoch, len(self))).permutation(len(self))[place]
            image, label = augment(self.image(item), self.labels(item), rng)
            pixel, label = draw_positions(label, rng)
            images.append(view.prepare(image))
            pixels.append(torch.from_numpy(view.pixels(pixel, image.shape[:2])))
            labels.append(label)
        return ImageBatch(stack(images), pixels, torch.from_numpy(np.concatenate(labels).astype(np.int64)))


def augment(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirror image and labels every other time, and jitter the image's colours. (H, W, 3) uint8, (H, W) uint8."""
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    brightness, contrast, saturation = rng.uniform(1 - JITTER, 1 + JITTER, 3).astype(np.float32)
    x = image.astype(np.float32) * brightness
    x = x.mean() + (x - x.mean()) * contrast
    grey = x.mean(axis=2, keepdims=True)
    x = grey + (x - grey) * saturation
    return np.rint(x.clip(0, 255)).astype(np.uint8), label


def draw_positions(
    label: np.ndarray, rng: np.random.Generator, count: int = POSITIONS
) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` labelled pixel centres. label: (H, W) uint8. Returns ((n, 2) float32 (u, v), (n,) uint8)."""
    labelled = np.flatnonzero(label != IGNORE)
    if len(labelled) > count:
        labelled = labelled[rng.integers(len(labelled), size=count)]
    row, column = np.divmod(labelled, label.shape[1])
    return np.stack([column, row], axis=1).astype(np.float32) + 0.5, label.ravel()[labelled]
