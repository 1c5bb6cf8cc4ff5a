"""Training and scoring of masks for single clicks, on a frozen encoder."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from elite_pipeline.teacher.batches import jitter
from elite_pipeline.teacher.pretraining import fit
from elite_pipeline.teacher.prompts import Embedding
from elite_pipeline.teacher.sam import normalise
from elite_pipeline.teacher.tiny import similarity

CLICKS = 16
"""Clicks per image in training."""
IMAGES = 2
"""Images per step."""
CALIBRATION_VIEWS = 40
SMALLEST = 12
"""Pixels of the smallest region, at half the image's size, that is clicked."""


def train_masks(sam, views, settings, run):
    """Train `sam`'s (`TinySam`) neck, prompt encoder, mask decoder and gate on `views`; the rest keeps its weights."""
    encoder = sam.image_encoder
    trained = nn.ModuleDict(
        {
            "neck": encoder.neck,
            "prompts": sam.prompt_encoder,
            "decoder": sam.mask_decoder,
            "gate": nn.ParameterList([sam.gate]),
        }
    )
    sam.eval()

    def loss(step, rng):
        index = rng.integers(len(views), size=IMAGES)
        images = torch.from_numpy(views.rgb[index]).permute(0, 3, 1, 2).float()
        images = normalise(jitter(images, rng)).to(sam.device)
        with torch.no_grad():
            quarter, eighth, tokens = encoder.maps(images)
            regions = encoder.regions(encoder.fused(quarter, eighth, tokens).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        losses = []
        for k, i in enumerate(index):
            clicks, truth = draw_clicks(views.region[i], rng, CLICKS, cell=4)
            embedding = Embedding(encoder.neck(tokens[-1][k : k + 1]), regions[k])
            hints = torch.from_numpy(draw_hints(truth, rng)).to(sam.device) if rng.random() < 0.5 else None
            logits, iou = sam.decode(embedding, torch.from_numpy(clicks).to(sam.device), hints)
            losses.append(_mask_loss(logits, iou, torch.from_numpy(truth).to(sam.device)))
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
def calibrate_thresholds(sam, views, settings):
    """Set the three cosines at which `sam`'s masks start to those whose best mask fits best on `views`."""
    rng = np.random.default_rng(settings.seed)
    grid = torch.arange(0.2, 0.96, 0.05, device=sam.device)
    found = []
    for i in rng.permutation(len(views))[:CALIBRATION_VIEWS]:
        clicks, truth = draw_clicks(views.region[i], rng, CLICKS, cell=2)
        image = normalise(torch.from_numpy(views.rgb[i]).permute(2, 0, 1)[None].float()).to(sam.device)
        cosine = similarity(sam.embed(image[0]).regions, torch.from_numpy(clicks).to(sam.device), image.shape[3])
        cosine = F.interpolate(cosine[:, None], scale_factor=2, mode="bilinear", align_corners=False)
        found.append(mask_iou(cosine > grid[:, None, None], torch.from_numpy(truth > 0.5).to(sam.device)[:, None]))
    found = torch.cat(found)  # (clicks, thresholds)
    triples = torch.combinations(torch.arange(len(grid)), 3)
    best = torch.stack([found[:, triple].amax(1).mean() for triple in triples]).argmax()
    sam.thresholds.copy_(grid[triples[best]])


def draw_clicks(region, rng, count, *, cell, over="regions"):
    """`count` clicks spread evenly over the regions, small ones as often as large ones, or over their pixels.

    `region`: (H, W) integers. `over`: "regions" or "pixels". `cell`: pixels per side of a cell of the returned masks,
    which hold the region at each cell's middle. Returns clicks (count, 2) float32, (u, v) pixels, and masks
    (count, H / cell, W / cell) float32.
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


def draw_hints(truth, rng):
    """Mask prompts (N, 1, h, w) such as SAM-PLG makes of sparse labels, for masks `truth` (N, h, w).

    A few cells are known: +1 or +16 inside, -16 outside, as in `pseudo_labels.mask_prompts`; the rest is 0.
    """
    known = rng.random(truth.shape) < rng.uniform(0.005, 0.1)
    inside = rng.choice(np.array([1, 16], np.float32), (len(truth), 1, 1))
    return np.where(known, np.where(truth > 0.5, inside, np.float32(-16)), np.float32(0))[:, None]


def _mask_loss(logits, iou, truth):
    """The best of the three masks must fit, and each must know how well it fits.

    `logits`: (N, 3, h, w); `iou`: (N, 3) predicted; `truth`: (N, h, w). Inside and outside of a mask weigh the same, so
    that a pole counts as much as a road.
    """
    truth = truth[:, None].expand_as(logits)
    inside, outside = truth.sum((2, 3)).clamp(min=1), (1 - truth).sum((2, 3)).clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    balanced = ((entropy * truth).sum((2, 3)) / inside + (entropy * (1 - truth)).sum((2, 3)) / outside) / 2
    chance = logits.sigmoid()
    dice = 1 - (2 * (chance * truth).sum((2, 3)) + 1) / ((chance + truth).sum((2, 3)) + 1)
    found = mask_iou(logits > 0, truth > 0.5)
    return (balanced + dice).min(1).values.mean() + F.mse_loss(iou, found)


def mask_iou(masks, truth):
    """IoU over the last two axes of bool `masks` and `truth`."""
    return (masks & truth).sum((-2, -1)) / (masks | truth).sum((-2, -1)).clamp(min=1)


@torch.no_grad()
def score_clicks(sam, image, region, rng, count, *, over="regions"):
    """How well `sam`'s masks fit one view (no jitter) for `count` clicks; scored at half the image's size.

    `image`: (H, W, 3) uint8; `region`: (H, W). Returns the IoU (count, 3) of each mask, the predicted IoU (count, 3)
    and the true masks' areas (count,) in pixels of the half size.
    """
    clicks, truth = draw_clicks(region, rng, count, cell=2, over=over)
    embedding = sam.embed(normalise(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0])
    logits, iou = sam.masks(embedding, torch.from_numpy(clicks))
    logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    found = mask_iou(logits > 0, torch.from_numpy(truth)[:, None] > 0.5)
    return found.numpy(), iou.numpy(), truth.sum((1, 2))
