"""Dense image labels from sparse ones: the labels of projected LiDAR points, spread over the pixels around them.

Two labellers share one signature, `(sparse, instances, image) -> (label, confidence)`:

    nearest    every pixel takes the label of the nearest labelled pixel, up to a radius
    sam        SAM-PLG as ELiTe's released code has it: the points prompt masks, and each mask takes its majority label

In both, a point whose label is `IGNORE` takes part like any other and yields `IGNORE` where it wins.
"""

import numpy as np

from elite_pipeline.datasets.semantickitti import IGNORE

EMPTY = 255
"""Sparse label of a pixel on which no point falls."""

CERTAIN = 255
"""Confidence of a pixel on which a labelled point falls."""


def paint(pixel, depth, label, instance, size):
    """Points as a sparse image; of several points on one pixel the nearest wins.

    pixel: (N, 2) float, (u, v), pixel i covering [i, i + 1). depth: (N,) metres. label: (N,) uint8 training ids.
    instance: (N,) unsigned, 0 = none. size: (height, width).
    Returns (sparse, instances): (H, W) uint8 labels with `EMPTY` between the points, (H, W) uint16 with 0 there.
    """
    column, row = pixel.astype(np.intp).T
    order = np.argsort(-depth, kind="stable")  # the last write to a pixel stays
    sparse = np.full(size, EMPTY, dtype=np.uint8)
    instances = np.zeros(size, dtype=np.uint16)
    sparse[row[order], column[order]] = label[order]
    instances[row[order], column[order]] = instance[order]
    return sparse, instances


def nearest(sparse, *, radius):
    """Label of the nearest labelled pixel, none beyond `radius` pixels.

    sparse: (H, W) uint8 of `paint`. Returns (label, confidence), both (H, W) uint8; the confidence falls linearly from
    `CERTAIN` on a labelled pixel to 0 just beyond the radius, and is 0 where the label is `IGNORE`.
    """
    from scipy.ndimage import distance_transform_edt

    empty = sparse == EMPTY
    if empty.all():
        return np.zeros_like(sparse), np.zeros_like(sparse)
    distance, (row, column) = distance_transform_edt(empty, return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
    label = np.where(distance <= radius, sparse[row, column], IGNORE)
    confidence = np.where(label == IGNORE, 0, np.rint(CERTAIN * (1 - distance / (radius + 1)).clip(0)))
    return label, confidence.astype(np.uint8)


def vote(sparse, masks):
    """Each mask takes the majority label of the labelled pixels inside it; later masks overwrite earlier ones.

    sparse: (H, W) uint8 of `paint`. masks: iterable of (H, W) bool from any source, the least trusted first.
    A mask without labelled pixels, or whose majority is `IGNORE`, changes nothing. Labelled pixels outside all masks
    keep their own label. Returns (label, confidence), both (H, W) uint8; a mask's confidence is its majority's share.
    """
    label = np.where(sparse == EMPTY, IGNORE, sparse)
    confidence = np.where(label == IGNORE, 0, CERTAIN).astype(np.uint8)
    for mask in masks:
        votes = np.bincount(sparse[mask], minlength=EMPTY + 1)[:EMPTY]
        winner = votes.argmax()
        if winner != IGNORE:
            label[mask] = winner
            confidence[mask] = round(CERTAIN * votes[winner] / votes.sum())
    return label, confidence


def grid_prompts(sparse, instances, cells, pixels_per_cell):
    """The prompts of SAM-PLG: the sparse image nearest-resized to the grid of SAM's mask prompts.

    cells: (rows, columns) of the grid, which may reach beyond the image. pixels_per_cell: of the image, a float.
    Returns (grid, grid_instances): `cells` uint8 and uint16. Every cell with a label that is neither `EMPTY` nor
    `IGNORE` is one point prompt; see `mask_prompts` for what it says about the other cells.
    """
    grid, grid_instances = np.full(cells, EMPTY, np.uint8), np.zeros(cells, np.uint16)
    picked = [(np.arange(n) * pixels_per_cell).astype(int) for n in cells]
    rows, columns = (index[index < n] for index, n in zip(picked, sparse.shape, strict=True))
    grid[: len(rows), : len(columns)] = sparse[np.ix_(rows, columns)]
    grid_instances[: len(rows), : len(columns)] = instances[np.ix_(rows, columns)]
    return grid, grid_instances


def mask_prompts(grid, grid_instances, prompts):
    """Dense prompts: per point prompt, what the labelled cells say about its object.

    grid, grid_instances: of `grid_prompts`. prompts: (B, 2) int (row, column) cells.
    Returns (B, rows, columns) float32 logits: for stuff +1 at cells of its class, for things (instance not 0) +16 at
    cells of its instance; -16 at cells of other classes, 0 where nothing is known.
    """
    row, column = prompts.T
    label, instance = grid[row, column][:, None, None], grid_instances[row, column][:, None, None]
    same = grid == label
    other = ~same & (grid != EMPTY) & (grid != IGNORE)
    thing = instance != 0
    return np.where(other, -16, np.where(thing, 16 * (same & (grid_instances == instance)), same)).astype(np.float32)


def sam_masks(sam, image, sparse, instances, settings):
    """Masks that SAM makes when every labelled cell prompts it, filtered as SAM's automatic mask generator does.

    sam: a `prompts.PromptableSam`. image: (H, W, 3) uint8. sparse, instances: of `paint`. settings: a
    `config.SamLabeller`. Returns (masks, predicted_iou), both by ascending predicted IoU: an iterator of (H, W) bool
    and an (M,) float32 array.
    """
    import torch
    from torchvision.ops import batched_nms

    from elite_pipeline.teacher.sam import View

    view = View(settings.longest_side, sam.image_encoder.patch)
    cells = tuple(4 * n // view.patch for n in view.padded(*sparse.shape))
    stride = view.patch // 4  # view pixels per cell
    grid, grid_instances = grid_prompts(sparse, instances, cells, stride * max(sparse.shape) / settings.longest_side)
    prompts = np.argwhere((grid != EMPTY) & (grid != IGNORE))
    packed, scores, boxes = [], [], []
    embedding = sam.embed(view.prepare(image).to(sam.device)) if len(prompts) else None
    for start in range(0, len(prompts), settings.prompts_per_batch):
        batch = prompts[start : start + settings.prompts_per_batch]
        clicks = torch.as_tensor((batch[:, ::-1] + 0.5) * stride, dtype=torch.float32, device=sam.device)
        dense = torch.as_tensor(mask_prompts(grid, grid_instances, batch), device=sam.device)[:, None]
        low, predicted = sam.masks(embedding, clicks, dense)
        # A few prompts at a time: 128 prompts make 384 masks, 0.7 GB of float32 at a KITTI image's size.
        for logits, score in zip(low.split(8), predicted.split(8), strict=True):
            masks, score, box = _filter(_upsample(logits, view, sparse.shape), score.flatten(), settings)
            packed.append(np.packbits(masks.flatten(1).cpu().numpy(), axis=1))
            scores.append(score.float().cpu())
            boxes.append(box.float().cpu())
    if not packed:
        return iter(()), np.empty(0, np.float32)
    score, box, bits = torch.cat(scores), torch.cat(boxes), np.concatenate(packed)
    kept = batched_nms(box, score, torch.zeros(len(box)), settings.box_nms).numpy()[::-1]
    masks = (np.unpackbits(bits[k], count=sparse.size).astype(bool).reshape(sparse.shape) for k in kept)
    return masks, score.numpy()[kept]


def _upsample(logits, view, image_size):
    """Mask logits (N, M, rows, columns) of a padded view -> (N * M, *image_size), as SAM's `postprocess_masks`."""
    from torch.nn import functional as F

    rows, columns = view.size(*image_size)
    logits = F.interpolate(logits, view.padded(*image_size), mode="bilinear", align_corners=False)
    return F.interpolate(logits[..., :rows, :columns], image_size, mode="bilinear", align_corners=False).flatten(0, 1)


def _filter(logits, predicted, settings):
    """The non-empty masks (M, H, W) bool that pass, their predicted IoU (M,) and boxes (M, 4) in pixels."""
    from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score

    keep = calculate_stability_score(logits, 0.0, settings.stability_offset) >= settings.stability
    if settings.predicted_iou > 0:
        keep &= predicted > settings.predicted_iou
    masks = logits[keep] > 0
    return masks, predicted[keep], batched_mask_to_box(masks)


def build_labeller(settings):
    """The labeller of `settings` (a `config.LabelImages`): a function of (sparse, instances, image).

    sparse, instances: of `paint`. image: a function without arguments that returns the (H, W, 3) uint8 image; `nearest`
    never calls it. The function returns (label, confidence), both (H, W) uint8.
    """
    if settings.labeller == "nearest":
        return lambda sparse, instances, image: nearest(sparse, radius=settings.nearest.radius)
    import torch

    from elite_pipeline.teacher.sam import build_sam

    chosen = settings.sam
    sam = build_sam(chosen.encoder, chosen.checkpoint, chosen.sha256)
    sam.to("cuda" if torch.cuda.is_available() else "cpu")
    return lambda sparse, instances, image: vote(sparse, sam_masks(sam, image(), sparse, instances, chosen)[0])
