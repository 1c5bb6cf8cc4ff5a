"""Masks for clicks on a frozen encoder.

This module calibrates the thresholds of the masks, measures how well masks fit, and trains the decoder to predict it.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from elite_pipeline.config import PretrainSam
from elite_pipeline.sam.prompts import Embedding, PromptableSam, batched
from elite_pipeline.sam.tiny import TinySam, clicked_pieces, similarity
from elite_pipeline.sam.view import normalise
from elite_pipeline.sam_pretraining.batches import jitter
from elite_pipeline.sam_pretraining.fitting import fit
from elite_pipeline.sam_pretraining.rendered_views import Views

CLICKS = 16
"""Number of prompts per image in training."""
MOST_CLICKS = 6
"""Largest number of clicks inside, and of clicks outside, of one prompt in training."""
AROUND = 24
"""Clicks outside a region are drawn at most this many pixels away from it, in each direction."""
IMAGES = 2
"""Number of images per step."""
SMALLEST = 12
"""Area of the smallest region that gets clicks, in pixels at half the image's size."""


def train_masks(sam: TinySam, views: Views, settings: PretrainSam, run: Path) -> None:
    """Train the neck, prompt encoder and mask decoder of `sam` to predict how well its masks of `views` fit."""
    encoder = sam.image_encoder
    trained = nn.ModuleDict({"neck": encoder.neck, "prompts": sam.prompt_encoder, "decoder": sam.mask_decoder})
    sam.eval()

    def loss(step: int, rng: np.random.Generator) -> torch.Tensor:
        index = rng.integers(len(views), size=IMAGES)
        images = torch.from_numpy(views.rgb[index]).permute(0, 3, 1, 2).float()
        images = normalise(jitter(images, rng)).to(sam.device)
        with torch.no_grad():
            quarter, eighth, tokens = encoder.maps(images)
            regions = encoder.regions(encoder.fused(quarter, eighth, tokens).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        losses = []
        for k, i in enumerate(index):
            clicks, truth = draw_clicks(views.region[i], rng, CLICKS, cell=4)
            if rng.random() < 0.5:
                clicks, inside = (torch.from_numpy(x).to(sam.device) for x in more_clicks(views.region[i], clicks, rng))
            else:
                clicks, inside = batched(torch.from_numpy(clicks).to(sam.device))
            embedding = Embedding(encoder.neck(tokens[-1][k : k + 1]), regions[k])
            hints = torch.from_numpy(draw_hints(truth, rng)).to(sam.device) if rng.random() < 0.25 else None
            logits, decoded, iou = sam.decode_both(embedding, clicks, inside, hints)
            truth = torch.from_numpy(truth)[:, None].to(sam.device)
            fit_of_each = mask_iou(clicked_pieces(logits, clicks / 4, inside) > 0, truth > 0.5)
            # The decoder learns much faster to predict the IoU if it also learns to find the mask.
            losses.append(F.mse_loss(iou, fit_of_each) + _mask_loss(decoded, truth.expand_as(decoded)))
        return torch.stack(losses).mean()

    fit(
        trained,
        loss,
        settings,
        steps=settings.mask_steps,
        checkpoint=run / "masks.pt",
        label="pretrain masks",
        learning_rate=settings.learning_rate / 2,
    )


@torch.no_grad()
def calibrate_thresholds(sam: TinySam, views: Views, seed: int) -> None:
    """Set the three cosine thresholds of `sam`'s masks.

    It chooses the three for which the best of the three masks has the highest mean IoU on `views`.
    """
    rng = np.random.default_rng(seed)
    grid = torch.arange(0.2, 0.96, 0.05, device=sam.device)
    found = []
    for i in range(len(views)):
        clicks, truth = (torch.from_numpy(x).to(sam.device) for x in draw_clicks(views.region[i], rng, CLICKS, cell=4))
        clicks, inside = batched(clicks)
        image = normalise(torch.from_numpy(views.rgb[i]).permute(2, 0, 1)[None].float()).to(sam.device)
        regions = sam.embed(image[0]).regions
        assert regions is not None
        cosine, _ = similarity(regions, clicks, inside)
        masks = clicked_pieces(cosine[:, None] - grid[:, None, None], clicks / 4, inside) > 0
        found.append(mask_iou(masks, truth[:, None] > 0.5))
    found = torch.cat(found)  # (clicks, thresholds)
    triples = torch.combinations(torch.arange(len(grid)), 3)
    best = torch.stack([found[:, triple].amax(1).mean() for triple in triples]).argmax()
    sam.thresholds.copy_(grid[triples[best]])


@torch.no_grad()
def calibrate_iou(sam: TinySam, views: Views, seed: int) -> None:
    """Fit one line per mask, from the IoU that `sam`'s decoder predicts to the true IoU, by least squares."""
    rng = np.random.default_rng(seed)
    sam.iou_line.copy_(torch.tensor([[1.0] * 3, [0.0] * 3]))
    scores = [score_clicks(sam, views.rgb[i], views.region[i], rng, CLICKS) for i in range(len(views))]
    found, predicted = (np.concatenate([score[k] for score in scores]) for k in range(2))
    spread = predicted - predicted.mean(0)
    # The slope is never negative. At worst it is 0, and the prediction is constant.
    slope = ((spread * found).mean(0) / np.square(spread).mean(0).clip(1e-6)).clip(0)
    sam.iou_line.copy_(torch.from_numpy(np.stack([slope, found.mean(0) - slope * predicted.mean(0)])))


def draw_clicks(
    region: np.ndarray,
    rng: np.random.Generator,
    count: int,
    *,
    cell: int,
    over: Literal["regions", "pixels"] = "regions",
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` random clicks, and return them with the true masks of the clicked regions.

    `region`: (H, W) integers. `over`: "regions" draws small and large regions equally often; "pixels" draws them in
    proportion to their area. `cell`: side of a mask cell in pixels. A cell is in the mask if its middle pixel is.

    Returns clicks (count, 2) float32, (u, v) pixels, and masks (count, H / cell, W / cell) float32.
    """
    ids, sizes = np.unique(region[1::2, 1::2], return_counts=True)
    ids, sizes = ids[sizes >= SMALLEST], sizes[sizes >= SMALLEST]
    coarse = region[cell // 2 :: cell, cell // 2 :: cell]
    chosen = rng.choice(ids, count, p=sizes / sizes.sum() if over == "pixels" else None)
    clicks = np.empty((count, 2), np.float32)
    for k, i in enumerate(chosen):
        at = rng.choice(np.flatnonzero(region == i))
        clicks[k] = at % region.shape[1] + 0.5, at // region.shape[1] + 0.5
    return clicks, (coarse[None] == chosen[:, None, None]).astype(np.float32)


def more_clicks(region: np.ndarray, clicks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add random clicks to N prompts: up to `MOST_CLICKS` inside and up to `MOST_CLICKS` near the region but outside.

    `region`: (H, W). `clicks`: (N, 2) pixels; the first click inside of each prompt. Returns (N, P, 2) float32 and
    (N, P) int64, the `clicks` and `inside` of `PromptableSam.masks`.
    """
    size = 2 * MOST_CLICKS
    every, inside = np.zeros((len(clicks), size, 2), np.float32), np.full((len(clicks), size), -1)
    every[:, 0], inside[:, 0] = clicks, 1
    limit = np.array(region.shape) - 1
    for k, (u, v) in enumerate(clicks.astype(int)):
        own = np.argwhere(region == region[v, u])
        count = rng.integers(MOST_CLICKS)
        every[k, 1 : 1 + count] = own[rng.integers(len(own), size=count), ::-1] + 0.5
        inside[k, 1 : 1 + count] = 1
        near = own[rng.integers(len(own), size=4 * size)] + rng.integers(-AROUND, AROUND + 1, (4 * size, 2))
        near = near.clip(0, limit)
        near = near[region[tuple(near.T)] != region[v, u]][: rng.integers(MOST_CLICKS + 1)]
        every[k, MOST_CLICKS : MOST_CLICKS + len(near)] = near[:, ::-1] + 0.5
        inside[k, MOST_CLICKS : MOST_CLICKS + len(near)] = 0
    return every, inside


def draw_hints(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random mask prompts (N, 1, h, w) like those that SAM-PLG makes from sparse labels.

    `truth`: (N, h, w) true masks. A few cells are known: +1 or +16 inside the mask and -16 outside, as in
    `sam_plg.mask_prompts`. All other cells are 0.
    """
    known = rng.random(truth.shape) < rng.uniform(0.005, 0.1)
    inside = rng.choice(np.array([1, 16], np.float32), (len(truth), 1, 1))
    return np.where(known, np.where(truth > 0.5, inside, np.float32(-16)), np.float32(0))[:, None]


def _mask_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the loss of the best of three masks: balanced cross entropy plus Dice.

    `logits`, `truth`: (N, 3, h, w). The inside and the outside of a mask have the same weight, so that a pole counts as
    much as a road.
    """
    inside, outside = truth.sum((2, 3)).clamp(min=1), (1 - truth).sum((2, 3)).clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    balanced = ((entropy * truth).sum((2, 3)) / inside + (entropy * (1 - truth)).sum((2, 3)) / outside) / 2
    chance = logits.sigmoid()
    dice = 1 - (2 * (chance * truth).sum((2, 3)) + 1) / ((chance + truth).sum((2, 3)) + 1)
    return (balanced + dice).min(1).values.mean()


def mask_iou(masks: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the IoU of bool `masks` and `truth`, over the last two axes."""
    return (masks & truth).sum((-2, -1)) / (masks | truth).sum((-2, -1)).clamp(min=1)


@torch.no_grad()
def score_clicks(
    sam: PromptableSam,
    image: np.ndarray,
    region: np.ndarray,
    rng: np.random.Generator,
    count: int,
    *,
    over: Literal["regions", "pixels"] = "regions",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure how well `sam`'s masks fit, for `count` clicks on one view without jitter, at half the image's size.

    `image`: (H, W, 3) uint8. `region`: (H, W). Returns the IoU of each mask (count, 3), the predicted IoU (count, 3),
    and the areas of the true masks (count,) in pixels at half size.
    """
    clicks, truth = draw_clicks(region, rng, count, cell=2, over=over)
    embedding = sam.embed(normalise(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].to(sam.device))
    logits, iou = sam.masks(embedding, torch.from_numpy(clicks).to(sam.device))
    logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False).cpu()
    found = mask_iou(logits > 0, torch.from_numpy(truth)[:, None] > 0.5)
    return found.numpy(), iou.cpu().numpy(), truth.sum((1, 2))
