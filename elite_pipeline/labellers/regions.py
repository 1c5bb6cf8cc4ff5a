"""Pseudo-labels with one SAM prompt set per connected region of points. This is the default labeller.

It needs fewer decoder calls than one prompt per point, and its labels are better.

1. Each pixel takes the label of its nearest point. A region is a connected piece of this label image, or an instance.
2. Several points of a region prompt SAM together. Points of neighbouring regions are negative prompts.
3. Of SAM's three masks, the one that agrees best with all sparse labels is kept, if it is pure enough.
4. Each pixel takes the nearest label, as in the `nearest` labeller, but with changed distances. If point and pixel lie
   in the same mask, and the mask has the point's label, their distance stays as it is. All other distances are
   multiplied by `detour`. So labels spread through masks and stop at their edges.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from elite_pipeline.config import RegionsLabeller
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.labellers.painting import CERTAIN, EMPTY, PseudoLabels
from elite_pipeline.planes import border, bounds, connected, distance_to, nearest_of

if TYPE_CHECKING:
    from elite_pipeline.sam.prompts import PromptableSam
    from elite_pipeline.sam.view import View

DOUBT = 0.4
"""Probability that a label is wrong far from its point and close to another label.

Least squares over two simulated drives gave 0.26, 0.33, 0.37 and 0.44 with 100, 20, 5 and 1 % of the points. At 0.4,
the expected calibration error is 0.02."""
_FAR = 1e6
"""A distance in pixels that is larger than any image. Infinity would give NaN in the confidence formula."""


@dataclass(frozen=True)
class Region:
    """One connected region of an image and its points. All arrays are (n, 2) int, (row, column)."""

    label: int
    points: np.ndarray
    inside: np.ndarray
    """The points of the region that prompt SAM (positive prompts)."""
    outside: np.ndarray
    """Points of neighbouring regions with other labels (negative prompts)."""


def spread(
    sam: "PromptableSam",
    view: "View",
    image: Callable[[], np.ndarray],
    sparse: np.ndarray,
    instances: np.ndarray,
    settings: RegionsLabeller,
) -> PseudoLabels:
    """Return the `PseudoLabels` of one image.

    image: a function that returns the image, (H, W, 3) uint8. sparse, instances: from `paint`.

    Raises `InputError` where the image is damaged or too large for SAM, or where the machine lacks SAM's precision.
    """
    regions = find_regions(sparse, instances, settings)
    masks = region_masks(sam, view, image(), sparse, regions, settings.purity) if regions else ()
    label, confidence = nearest_through(masks, sparse, settings.detour, settings.radius)
    prompts = sum(len(region.inside) + len(region.outside) for region in regions)
    return PseudoLabels(label, confidence, prompts, len(regions))


def find_regions(sparse: np.ndarray, instances: np.ndarray, settings: RegionsLabeller) -> list[Region]:
    """Return the `settings.regions` regions with the most points.

    A region has at most `settings.inside` positive and `settings.outside` negative prompts.
    """
    empty = sparse == EMPTY
    if empty.all():
        return []
    _, row, column = nearest_of(~empty)
    label, instance = sparse[row, column], instances[row, column]
    piece = _pieces(label, instance)
    rows, columns = np.nonzero(~empty)
    points = np.stack([rows, columns], 1)
    of_point = piece[rows, columns]
    count = np.bincount(of_point)
    count[0] = 0
    largest = np.argsort(-count, kind="stable")[: settings.regions]
    boxes: Any = ndimage.find_objects(piece)
    regions = []
    for k in largest[count[largest] > 0]:
        own = points[of_point == k]
        box = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in boxes[k - 1])
        mask = piece[box] == k
        depth = distance_to(~np.pad(mask, 1))[1:-1, 1:-1]
        corner = [side.start for side in box]
        around = ndimage.binary_dilation(mask) & ~mask & ~np.isin(label[box], [IGNORE, int(label[tuple(own[0])])])
        others = np.unique(np.stack([row[box][around], column[box][around]], 1), axis=0)
        regions.append(
            Region(
                label=int(label[tuple(own[0])]),
                points=own,
                inside=_scattered(own, settings.inside, int(depth[tuple((own - corner).T)].argmax())),
                outside=_scattered(others, settings.outside),
            )
        )
    return regions


def _pieces(label: np.ndarray, instance: np.ndarray) -> np.ndarray:
    """Return the number of the region of each pixel, (H, W), counted from 1; 0 where the label is `IGNORE`.

    A region is an instance, or a connected piece of one label.
    """
    key = label.astype(np.int64) << 16 | instance
    piece, found = np.zeros(label.shape, np.int32), 0
    for value in np.unique(key[label != IGNORE]):
        # An instance stays one region even if an object in front of it cuts it into pieces.
        own = key == value
        own, count = (own, 1) if value & 0xFFFF else connected(own)
        piece += np.where(own, own + found, 0).astype(np.int32)
        found += count
    return piece


def _scattered(points: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Return at most `count` of `points` (n, 2), by farthest-point sampling.

    `first` is the index of the first point. Each further point is the farthest from those already chosen.
    """
    if not len(points):
        return points
    chosen = [int(first)]
    distance = np.square(points - points[first]).sum(1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.square(points - points[chosen[-1]]).sum(1))
    return points[chosen[:count]]


def region_masks(
    sam: "PromptableSam",
    view: "View",
    image: np.ndarray,
    sparse: np.ndarray,
    regions: Sequence[Region],
    purity: float,
    *,
    batch: int = 32,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (label, mask) of each region for which SAM finds a good mask. mask: (H, W) bool.

    The score of a mask is its squared purity, multiplied by the share of the region's points inside it. Purity is the
    share of the region's label among the labelled pixels inside the mask. Masks with a purity below `purity` are
    dropped. Of the three masks of a region, the one with the highest score is returned.

    image: (H, W, 3) uint8. sparse: (H, W) uint8, from `paint`. batch: largest number of regions per decoder batch.

    Raises `InputError` where the image is too large for SAM, or where the machine lacks SAM's precision.
    """
    import torch
    from torch.nn import functional as F

    from elite_pipeline.sam.prompts import upsampled
    from elite_pipeline.sam.view import embed

    embedding = embed(sam, view, image)
    rows, columns = np.nonzero((sparse != EMPTY) & (sparse != IGNORE))
    labels = sparse[rows, columns]
    padded = view.padded(*sparse.shape)
    grid = 2 * view.pixels(np.stack([columns, rows], 1).astype(np.float32) + 0.5, sparse.shape) / padded[::-1] - 1
    grid = torch.as_tensor(grid, dtype=torch.float32, device=sam.device)[None, None]
    index = np.full(sparse.shape, -1)
    index[rows, columns] = np.arange(len(rows))
    for some in _batches(regions, batch):
        clicks, inside = _prompts(some, view, sparse.shape)
        logits, _ = sam.masks(
            embedding, torch.from_numpy(clicks).to(sam.device), torch.from_numpy(inside).to(sam.device)
        )
        at_points = (
            F.grid_sample(logits, grid.expand(len(some), -1, -1, -1), align_corners=False)[:, :, 0].cpu().numpy() > 0
        )
        for k, region in enumerate(some):
            covered = at_points[k]  # (3, points)
            right = (covered & (labels == region.label)).sum(1) / covered.sum(1).clip(1)
            found = covered[:, index[tuple(region.points.T)]].mean(1)
            score = np.where(right >= purity, right**2 * found, 0)
            best = int(score.argmax())
            if score[best] > 0:
                mask = upsampled(logits[k : k + 1, best : best + 1], view, sparse.shape)[0, 0] > 0
                yield region.label, mask.cpu().numpy()


def _batches(regions: Sequence[Region], most: int) -> Iterator[list[Region]]:
    """Yield lists of at most `most` regions that have the same number of prompts.

    Prompts are not padded to one length, because SAM's decoder would treat the padding as prompts.
    """

    def count(region: Region) -> int:
        return len(region.inside) + len(region.outside)

    for _, same in groupby(sorted(regions, key=count), count):
        while some := list(islice(same, most)):
            yield some


def _prompts(regions: Sequence[Region], view: "View", size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the prompts of N regions as `clicks` and `inside` of `PromptableSam.masks`.

    clicks: (N, P, 2) float32, pixels of the view. inside: (N, P) int64, 1 for positive and 0 for negative prompts.
    """
    both = np.stack([np.concatenate([region.inside, region.outside]) for region in regions])
    clicks = view.pixels(both[..., ::-1].reshape(-1, 2).astype(np.float32) + 0.5, size).reshape(both.shape)
    inside = np.stack([np.arange(both.shape[1]) < len(region.inside) for region in regions])
    return clicks, inside.astype(np.int64)


def nearest_through(
    masks: Iterable[tuple[int, np.ndarray]], sparse: np.ndarray, detour: float, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give each pixel the nearest label, with distances that depend on masks; return (label, confidence).

    The distance between a pixel and a point stays as it is if both lie in the same mask and the mask has the point's
    label. Any other distance is multiplied by `detour`.

    masks: pairs (label, (H, W) bool). sparse: (H, W) uint8, from `painting.paint`. radius: in pixels; beyond it, only
    masks give labels.

    Both results are (H, W) uint8. The confidence estimates the probability that the label is right, and is scaled to
    `CERTAIN`: 1 - `DOUBT` (d / (b + d))^2. d is the distance to the point whose label won. b is the distance to the
    nearest pixel with another label.
    """
    empty = sparse == EMPTY
    if empty.all():
        return np.zeros_like(sparse), np.zeros_like(sparse)
    distance, row, column = nearest_of(~empty)
    label = np.where(distance <= radius, sparse[row, column], IGNORE)
    distance = np.where(distance <= radius, detour * distance, np.inf)
    for name, mask in masks:
        if not mask.any():
            continue
        box = bounds(mask)
        inside, seeds = mask[box], mask[box] & (sparse[box] == name)
        if not seeds.any():
            continue
        through = distance_to(seeds)
        nearer = inside & (through < distance[box])
        distance[box][nearer] = through[nearer]
        label[box][nearer] = name
    edge = border(label)
    to_border = distance_to(edge) + 1 if edge.any() else np.full(label.shape, _FAR)
    distance = distance.clip(max=_FAR)
    chance = 1 - DOUBT * np.square(distance / (to_border + distance))
    return label, np.where(label == IGNORE, 0, np.rint(CERTAIN * chance)).astype(np.uint8)
