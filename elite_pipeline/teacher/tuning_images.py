"""Training data of a teacher: augmented images, and labelled positions drawn from their dense pseudo-labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from elite_pipeline import store
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index, label_selection
from elite_pipeline.sam.view import View
from elite_pipeline.teacher.heads import stack

POSITIONS = 2048
"""Number of labelled positions drawn from each image of a step.

They give the same result as all positions, at a tenth of the heads' cost."""

JITTER = 0.4
"""Brightness, contrast and saturation are multiplied by factors from 1 - JITTER to 1 + JITTER, as in ELiTe."""


@dataclass(frozen=True)
class ImageBatch:
    """A batch of prepared images with labelled positions."""

    images: torch.Tensor
    """(B, 3, h, w) float32."""
    pixels: list[torch.Tensor]
    """One (n_b, 2) float32 tensor per image: (u, v) in pixels of the view."""
    labels: torch.Tensor
    """(sum of the n_b,) int64 training ids, without `IGNORE`."""

    def to(self, device: str | torch.device) -> "ImageBatch":
        """The batch on `device`."""
        return ImageBatch(self.images.to(device), [pixel.to(device) for pixel in self.pixels], self.labels.to(device))


class LabelledImages:
    """The images of all labelled scans of several sequences. One item is one (sequence, frame, camera).

    Images of held-out scans (`label_selection.held_out`) are no items. With `unlabelled`, the images of unlabelled
    scans are items too. For these items, only `image` may be called.
    Methods raise `InputError` where they read a damaged file.
    """

    def __init__(
        self,
        data: Path,
        frames: list[Path],
        projections: list[Path],
        pseudo_labels: list[Path] | None = None,
        *,
        unlabelled: bool = False,
        held_out: float = 0.0,
    ) -> None:
        """data: folder of the data set. The lists hold one file per sequence, in the same order. held_out: a share.

        Raises `InputError` where a file is unreadable, a store does not fit its index, class tables differ, or there is
        no image.
        """
        self.items: list[tuple[int, int, int]] = []
        self._frames = index.read_all(frames)
        self._recordings = [known.source.open(data) for known in self._frames]
        self.classes = self._frames[0].classes
        self._projections = [store.Projection(path) for path in projections]
        self._labels = [store.open_store(path, "pseudo_labels") for path in pseudo_labels or ()]
        held = label_selection.held_out(self._frames, held_out)
        for s, (known, projection) in enumerate(zip(self._frames, self._projections, strict=True)):
            for source in [projection.group, *self._labels[s : s + 1]]:
                if source.attrs["frames"] != known.frames:
                    raise InputError(f"{source.store_path} has other frames than {frames[s]}. Delete it and run again.")
                if "classes" in source.attrs:
                    table = ClassTable.from_json(source.attrs["classes"], source.store_path)
                    table.check_same(known.classes, source.store_path, frames[s])
            for c, camera in enumerate(projection.cameras):
                usable = np.flatnonzero((known.labelled | unlabelled) & ~held[s] & (known.sizes[camera][:, 0] > 0))
                self.items += [(s, int(f), c) for f in usable]
        if not self.items:
            of = "any" if unlabelled else "a labelled"
            less = ", or lower tune_teacher.held_out" if held_out else ""
            raise InputError(
                f"{', '.join(map(str, frames))}: no image of {of} scan. Choose sequences that have one{less}."
            )

    def __len__(self) -> int:
        return len(self.items)

    def spread(self, count: int) -> list[int]:
        """Return at most `count` items, spread evenly over all items."""
        return np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)).tolist()

    def image(self, item: int) -> np.ndarray:
        """Return the image, (H, W, 3) uint8 RGB."""
        s, f, c = self.items[item]
        return self._recordings[s].image(self._frames[s].frames[f], self._projections[s].cameras[c])

    def labels(self, item: int) -> np.ndarray:
        """Return the pseudo-labels of the image's pixels, (H, W) uint8 training ids."""
        s, f, c = self.items[item]
        height, width = self._frames[s].sizes[self._projections[s].cameras[c]][f]
        return store.read(self._labels[s], "label", (f, c))[:height, :width]

    def points(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (pixel, label) of the visible projected points.

        pixel: (n, 2) float32, pixels of the original image. label: (n,) uint8 training ids.
        """
        s, f, c = self.items[item]
        rows = self._projections[s].rows(f, c)
        seen = self._projections[s].read("visible", rows)
        labels = self._recordings[s].labels(self._frames[s].frames[f], int(self._frames[s].points[f]))
        point = self._projections[s].read("point", rows)[seen]
        return self._projections[s].read("pixel", rows)[seen], labels[point]

    def batch(self, view: View, step: int, size: int, seed: int) -> ImageBatch:
        """Return the augmented `ImageBatch` of `size` images for one step.

        The batch depends only on `seed` and `step`. A resumed run therefore sees the same batches as an uninterrupted
        run.
        """
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
    """Mirror the image and its labels with probability 0.5, and change the image's colours at random.

    image: (H, W, 3) uint8. label: (H, W) uint8. Returns both in the same form.
    """
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
    """Draw the centres of at most `count` labelled pixels.

    label: (H, W) uint8. Returns positions (n, 2) float32, (u, v), and their labels (n,) uint8.
    """
    labelled = np.flatnonzero(label != IGNORE)
    if len(labelled) > count:
        labelled = labelled[rng.integers(len(labelled), size=count)]
    row, column = np.divmod(labelled, label.shape[1])
    return np.stack([column, row], axis=1).astype(np.float32) + 0.5, label.ravel()[labelled]
