"""SAM-PLG as published with ELiTe: every labelled point prompts SAM, and the masks vote. It is the reference labeller.

Source: the paper's section on pseudo-labels, and the `amg.py` of its released code.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from elite_pipeline.config import PaperLabeller
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.labellers.painting import EMPTY, PseudoLabels, vote

if TYPE_CHECKING:
    from torch import Tensor

    from elite_pipeline.sam.prompts import PromptableSam
    from elite_pipeline.sam.view import View


def spread(
    sam: "PromptableSam",
    view: "View",
    image: Callable[[], np.ndarray],
    sparse: np.ndarray,
    instances: np.ndarray,
    settings: PaperLabeller,
) -> PseudoLabels:
    """Return the `PseudoLabels` from the masks of all prompts. The mask with the highest predicted IoU votes last.

    Parameters and errors are those of `sam_masks`.
    """
    masks, _, prompts = sam_masks(sam, view, image, sparse, instances, settings)
    voted = vote(sparse, masks)
    return PseudoLabels(voted.label, voted.confidence, prompts, prompts)


def grid_prompts(
    sparse: np.ndarray, instances: np.ndarray, cells: tuple[int, ...], pixels_per_cell: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the prompts of SAM-PLG: the sparse image, resized to the grid of SAM's mask prompts (nearest neighbour).

    cells: (rows, columns) of the grid, which may be larger than the image. pixels_per_cell: image pixels per cell side.

    Returns (grid, grid_instances), both with the shape `cells`, uint8 and uint16. Every cell with a label other than
    `EMPTY` and `IGNORE` is one point prompt. `mask_prompts` makes the mask prompt that belongs to it.
    """
    grid, grid_instances = np.full(cells, EMPTY, np.uint8), np.zeros(cells, np.uint16)
    picked = [(np.arange(n) * pixels_per_cell).astype(int) for n in cells]
    rows, columns = (index[index < n] for index, n in zip(picked, sparse.shape, strict=True))
    grid[: len(rows), : len(columns)] = sparse[np.ix_(rows, columns)]
    grid_instances[: len(rows), : len(columns)] = instances[np.ix_(rows, columns)]
    return grid, grid_instances


def mask_prompts(grid: np.ndarray, grid_instances: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return one mask prompt per point prompt, made from the labelled cells: (B, rows, columns) float32 logits.

    For stuff, cells of the same class have +1. For things (instance not 0), cells of the same instance have +16. Cells
    of other classes have -16. All other cells have 0.

    grid, grid_instances: from `grid_prompts`. prompts: (B, 2) int (row, column) cells.
    """
    row, column = prompts.T
    label, instance = grid[row, column][:, None, None], grid_instances[row, column][:, None, None]
    same = grid == label
    other = ~same & (grid != EMPTY) & (grid != IGNORE)
    thing = instance != 0
    return np.where(other, -16, np.where(thing, 16 * (same & (grid_instances == instance)), same)).astype(np.float32)


def sam_masks(
    sam: "PromptableSam",
    view: "View",
    image: Callable[[], np.ndarray],
    sparse: np.ndarray,
    instances: np.ndarray,
    settings: PaperLabeller,
) -> tuple[Iterator[np.ndarray], np.ndarray, int]:
    """Prompt SAM with every labelled cell, and filter the masks like SAM's automatic mask generator.

    image: a function that returns the image, (H, W, 3) uint8. sparse, instances: from `paint`.

    Returns (masks, predicted_iou, prompts). masks: iterator of (H, W) bool. predicted_iou: (M,) float32. Both are
    sorted by ascending predicted IoU. prompts: the number of prompts.

    Raises `InputError` where the image is damaged or too large for SAM, or where the machine lacks SAM's precision.
    """
    import torch
    from torchvision.ops import batched_nms

    from elite_pipeline.sam.prompts import upsampled
    from elite_pipeline.sam.view import embed

    cells = tuple(4 * n // view.patch for n in view.padded(*sparse.shape))
    stride = view.patch // 4  # view pixels per cell
    grid, grid_instances = grid_prompts(sparse, instances, cells, stride * max(sparse.shape) / view.longest_side)
    prompts = np.argwhere((grid != EMPTY) & (grid != IGNORE))
    packed, scores, boxes = [], [], []
    embedding = embed(sam, view, image()) if len(prompts) else None
    for start in range(0, len(prompts), settings.prompts_per_batch):
        batch = prompts[start : start + settings.prompts_per_batch]
        clicks = torch.as_tensor((batch[:, ::-1] + 0.5) * stride, dtype=torch.float32, device=sam.device)
        dense = torch.as_tensor(mask_prompts(grid, grid_instances, batch), device=sam.device)[:, None]
        assert embedding is not None
        low, predicted = sam.masks(embedding, clicks, mask_prompts=dense)
        # A few prompts at a time: 128 prompts make 384 masks, 0.7 GB of float32 at a KITTI image's size.
        for logits, score in zip(low.split(8), predicted.split(8), strict=True):
            masks, score, box = _filter(upsampled(logits, view, sparse.shape).flatten(0, 1), score.flatten(), settings)
            packed.append(np.packbits(masks.flatten(1).cpu().numpy(), axis=1))
            scores.append(score.float().cpu())
            boxes.append(box.float().cpu())
    if not packed:
        return iter(()), np.empty(0, np.float32), len(prompts)
    score, box, bits = torch.cat(scores), torch.cat(boxes), np.concatenate(packed)
    kept = batched_nms(box, score, torch.zeros(len(box)), settings.box_nms).numpy()[::-1]
    masks = (np.unpackbits(bits[k], count=sparse.size).astype(bool).reshape(sparse.shape) for k in kept)
    return masks, score.numpy()[kept], len(prompts)


def _filter(logits: "Tensor", predicted: "Tensor", settings: PaperLabeller) -> "tuple[Tensor, Tensor, Tensor]":
    """Return the non-empty masks that pass the filters, with their predicted IoU and their boxes.

    Shapes: masks (M, H, W) bool, predicted IoU (M,), boxes (M, 4) in pixels.
    """
    from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score

    keep = calculate_stability_score(logits, 0.0, settings.stability_offset) >= settings.stability
    if settings.predicted_iou > 0:
        keep &= predicted > settings.predicted_iou
    keep &= (logits > 0).any(-1).any(-1)
    masks = logits[keep] > 0
    return masks, predicted[keep], batched_mask_to_box(masks)
