"""Pre-training of `sam_tiny` without class names.

First, the encoder learns dense targets: materials, geometry, and which pixels belong to one region. It trains at low
resolution, then at full resolution, with one learning rate schedule over both. Then the encoder is frozen, and the mask
decoder learns to predict how well the mask of a click fits (`masks.py`).

Every step has its own random stream. Therefore an interrupted and resumed run ends with the same weights.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from elite_pipeline.config import PretrainSam
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.sam.tiny import FUSED, SHARPNESS, TinyEncoder, TinySam
from elite_pipeline.sam_pretraining.batches import DenseBatch, sample
from elite_pipeline.sam_pretraining.fitting import fit
from elite_pipeline.sam_pretraining.masks import calibrate_iou, calibrate_thresholds, train_masks
from elite_pipeline.sam_pretraining.rendered_views import Views
from elite_pipeline.simulation.raw_ids import simulated_classes

PIXELS = 2048
"""Number of pixels of each image at which the loss is computed."""
COMPARED = 384
"""Number of pixels of each image that are compared pair by pair."""
WEIGHTS = {"material": 1.0, "normal": 1.0, "depth": 0.5, "size": 1.0, "border": 0.5, "region": 1.0, "names": 1.0}
"""Weights of the losses in the sum."""


class Tasks(nn.Module):
    """Linear heads that predict the targets of a pixel from its fused features; discarded after pre-training."""

    def __init__(self, materials: int, *, names: int | None) -> None:
        """`materials`: number of materials. `names`: number of classes, for a control that also learns class names.

        None trains without class names.
        """
        super().__init__()
        self.material = nn.Linear(FUSED, materials)
        self.normal = nn.Linear(FUSED, 3)
        self.log_depth = nn.Linear(FUSED, 1)
        self.size = nn.Linear(FUSED, 3)
        self.border = nn.Linear(FUSED, 1)
        self.names = nn.Linear(FUSED, names) if names else None

    def losses(self, encoder: TinyEncoder, batch: DenseBatch) -> dict[str, torch.Tensor]:
        """Return the losses of `encoder` on `batch`: name -> scalar."""
        with torch.autocast(batch.images.device.type, torch.bfloat16):
            fused = encoder.fused(*encoder.maps(batch.images))
        # Linear heads commute with the interpolation. It is enough to apply them to the sampled pixels.
        x = F.grid_sample(fused.float(), batch.place[:, None], align_corners=False, padding_mode="border")
        x = x[:, :, 0].transpose(1, 2)  # (B, P, FUSED)
        solid = batch.depth > 0
        normal = F.cosine_similarity(self.normal(x), batch.normal, dim=-1)
        depth = F.smooth_l1_loss(self.log_depth(x)[..., 0], batch.depth.clamp(min=0.1).log(), reduction="none")
        size = F.smooth_l1_loss(self.size(x), batch.size, reduction="none", beta=0.25)
        regions = encoder.regions(x)
        losses = {
            "material": F.cross_entropy(self.material(x).flatten(0, 1), batch.material.flatten()),
            "normal": (1 - normal)[solid].mean(),
            "depth": depth[solid].mean(),
            "size": size[solid].mean(),
            "border": F.binary_cross_entropy_with_logits(self.border(x)[..., 0], batch.border),
            "region": _pair_loss(regions, batch.region),
        }
        if self.names is not None:
            losses["names"] = F.cross_entropy(
                self.names(x).flatten(0, 1), batch.semantic.flatten(), ignore_index=IGNORE
            )
        return losses


def _pair_loss(regions: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Return the binary cross entropy of "same region" for pairs of pixels.

    The pairs are all pairs of `COMPARED` pixels, mostly far apart, and the pairs of near pixels that `sample` drew.
    Pairs in the same region and pairs in different regions have the same total weight.

    `regions`: (B, P, E) unit vectors. `region`: (B, P) region ids.
    """
    stride = max(1, regions.shape[1] // COMPARED)
    some, ids = regions[:, ::stride], region[:, ::stride]
    quarter = regions.shape[1] // 4
    far = _same_loss(some @ some.transpose(1, 2), ids[:, :, None] == ids[:, None])
    near = _same_loss(
        (regions[:, 2 * quarter : 3 * quarter] * regions[:, 3 * quarter : 4 * quarter]).sum(-1),
        region[:, 2 * quarter : 3 * quarter] == region[:, 3 * quarter : 4 * quarter],
    )
    return far + near


def _same_loss(cosine: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    same = same.float()
    share = same.mean()
    weight = same / share.clamp(min=1e-6) + (1 - same) / (1 - share).clamp(min=1e-6)
    return F.binary_cross_entropy_with_logits(SHARPNESS * (cosine - 0.5), same, weight) / 2


def pretrain(
    views: Views, held_out: Views, settings: PretrainSam, run: Path, *, device: str | torch.device = "cpu"
) -> TinySam:
    """Train a `TinySam` on `views` with `settings`, calibrate it on `held_out`, and return it.

    Checkpoints are written to the folder `run`. An interrupted run resumes from them.
    """
    torch.manual_seed(settings.seed)
    sam = TinySam().to(device)
    tasks = Tasks(int(views.material.max()) + 1, names=len(simulated_classes()) if settings.class_names else None).to(
        device
    )
    encoder = sam.image_encoder

    def loss(step: int, rng: np.random.Generator) -> torch.Tensor:
        low = step < settings.low_resolution_steps
        batch = sample(views, rng, settings.batch * (2 if low else 1), pixels=PIXELS, halve=low)
        losses = tasks.losses(encoder, batch.to(device))
        return torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()

    fit(
        nn.ModuleList([encoder, tasks]),
        loss,
        settings,
        steps=settings.low_resolution_steps + settings.steps,
        checkpoint=run / "dense.pt",
        label="pretrain dense",
    )
    calibrate_thresholds(sam.eval(), held_out, settings.seed)
    if settings.mask_steps:
        train_masks(sam, views, settings, run)
        calibrate_iou(sam.eval(), held_out, settings.seed)
    return sam.cpu().eval()
