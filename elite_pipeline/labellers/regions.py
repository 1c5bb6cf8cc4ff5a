"""Pseudo-labels from one SAM prompt per connected region of points: fewer calls than a prompt per point, better labels.

A region is a connected piece of the nearest-label picture, or an instance. Several of its points prompt SAM at once,
and so do points of its neighbours, as what it is not. Of the three masks the one that agrees best with all sparse
labels is kept, if it is pure. In the end the nearest label wins, as in the `nearest` labeller, but distances inside of
a mask, from points of its label, are as they are, and all others are stretched: labels flow through masks and stop at
their edges.
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
"""Chance that a label is wrong far from its point and close to another label. Least squares over two simulated drives
gave 0.26, 0.33, 0.37 and 0.44 with 100, 20, 5 and 1 % of the points; at 0.4 the expected calibration error is 0.02."""
_FAR = 1e6
"""Pixels: farther than any image is wide, and no infinity, whose shares are NaN."""


@dataclass(frozen=True)
class Region:
    """Points of one connected region of an image; all arrays (n, 2) int (row, column)."""

    label: int
    points: np.ndarray
    inside: np.ndarray
    """Those that prompt SAM."""
    outside: np.ndarray
    """Points of neighbours with other labels that prompt SAM as what the region is not."""


def spread(
    sam: "PromptableSam",
    view: "View",
    image: Callable[[], np.ndarray],
    sparse: np.ndarray,
    instances: np.ndarray,
    settings: RegionsLabeller,
) -> PseudoLabels:
    """`PseudoLabels` of one image.

    image: returns the (H, W, 3) uint8 image. sparse, instances: of `paint`. Raises `InputError` where the image
    is damaged or too large for SAM, or where the machine lacks SAM's precision.
    """
    regions = find_regions(sparse, instances, settings)
    masks = region_masks(sam, view, image(), sparse, regions, settings.purity) if regions else ()
    label, confidence = nearest_through(masks, sparse, settings.detour, settings.radius)
    prompts = sum(len(region.inside) + len(region.outside) for region in regions)
    return PseudoLabels(label, confidence, prompts, len(regions))


def find_regions(sparse: np.ndarray, instances: np.ndarray, settings: RegionsLabeller) -> list[Region]:
    """The `settings.regions` regions with the most points, each with at most `inside` and `outside` prompts."""
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
    """(H, W) numbers of connected pieces of one label, and of instances, from 1 on; 0 where the label is `IGNORE`."""
    key = label.astype(np.int64) << 16 | instance
    piece, found = np.zeros(label.shape, np.int32), 0
    for value in np.unique(key[label != IGNORE]):
        # An instance is one thing also where something in front of it cuts it into pieces.
        own = key == value
        own, count = (own, 1) if value & 0xFFFF else connected(own)
        piece += np.where(own, own + found, 0).astype(np.int32)
        found += count
    return piece


def _scattered(points: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """At most `count` of `points` (n, 2), each the farthest from those before it; `first`: where to start."""
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
    """(label, mask) of the regions for which SAM has a mask; image: (H, W, 3) uint8; mask: (H, W) bool.

    Of the three masks of a region the one is taken that scores highest in squared purity (share of its label among the
    labelled pixels inside) times the share of the region's points inside; less pure ones than `purity` are dropped.

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
    """Lists of at most `most` regions with equally many prompts: padding would be prompts too, to SAM's decoder."""

    def count(region: Region) -> int:
        return len(region.inside) + len(region.outside)

    for _, same in groupby(sorted(regions, key=count), count):
        while some := list(islice(same, most)):
            yield some


def _prompts(regions: Sequence[Region], view: "View", size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Clicks (N, P, 2) float32, pixels of the view, and what they say, (N, P) int64, as `PromptableSam.masks` wants."""
    both = np.stack([np.concatenate([region.inside, region.outside]) for region in regions])
    clicks = view.pixels(both[..., ::-1].reshape(-1, 2).astype(np.float32) + 0.5, size).reshape(both.shape)
    inside = np.stack([np.arange(both.shape[1]) < len(region.inside) for region in regions])
    return clicks, inside.astype(np.int64)


def nearest_through(
    masks: Iterable[tuple[int, np.ndarray]], sparse: np.ndarray, detour: float, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel takes the nearest label; distances count `detour` times unless pixel and point lie in a mask of the
    point's label.

    masks: (label, (H, W) bool) each. sparse: (H, W) of `painting.paint`. radius: pixels, beyond which nothing is known
    without a mask. Returns label and confidence, (H, W) uint8. The confidence is the chance of being right,
    1 - `DOUBT` (d / (b + d))^2 for the distance d to the point that won and the distance b to the nearest pixel with
    another label.
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
    beside = distance_to(edge) + 1 if edge.any() else np.full(label.shape, _FAR)
    distance = distance.clip(max=_FAR)
    sure = 1 - DOUBT * np.square(distance / (beside + distance))
    return label, np.where(label == IGNORE, 0, np.rint(CERTAIN * sure)).astype(np.uint8)
