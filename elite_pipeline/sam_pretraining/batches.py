"""Batches of rendered views: augmented images, and the ground truth at sampled pixels, more of them at borders."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch.nn import functional as F

from elite_pipeline.planes import border
from elite_pipeline.sam.view import normalise
from elite_pipeline.sam_pretraining.rendered_views import Views

NEAR = 6
"""Largest offset in pixels, in each direction, between a border pixel and the pixel that it is compared with."""


@dataclass(frozen=True)
class DenseBatch:
    """B normalised images, and the ground truth at P sampled pixels of each."""

    images: torch.Tensor
    """(B, 3, h, w) float32."""
    place: torch.Tensor
    """(B, P, 2) float32: (x, y) positions of the pixels in -1 .. 1 over the image, as `grid_sample` expects."""
    material: torch.Tensor
    """(B, P) int64."""
    normal: torch.Tensor
    """(B, P, 3) float32."""
    depth: torch.Tensor
    """(B, P) float32 metres; 0 = sky."""
    region: torch.Tensor
    """(B, P) int64."""
    size: torch.Tensor
    """(B, P, 3) float32: height above the road, height of the region, length of the region; log(1 + metres)."""
    semantic: torch.Tensor
    """(B, P) int64 training ids."""
    border: torch.Tensor
    """(B, P) float32: 1 where the pixel touches another region, else 0."""

    def to(self, device: str | torch.device) -> "DenseBatch":
        """The batch on `device`."""
        return DenseBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(DenseBatch)})


def sample(views: Views, rng: np.random.Generator, count: int, *, pixels: int, halve: bool) -> DenseBatch:
    """Return a `DenseBatch` of `count` random views, with random flips and colour jitter.

    `pixels`: number of sampled pixels per view. The first half is drawn evenly over the image. The third quarter lies
    on borders of regions, where thin objects are. The last quarter holds, for each of these, another pixel within
    `NEAR`. `halve`: scale the images to half their size.
    """
    index = rng.integers(len(views), size=count)
    height, width = views.size
    flip = rng.random(count) < 0.5
    rows, columns = np.empty((2, count, pixels), np.int64)
    borders = np.stack([border(views.region[i]) for i in index])
    for k in range(count):
        rows[k], columns[k] = _spread(rng, borders[k], pixels)
    at = (index[:, None], rows, columns)
    normal = views.normal[at].astype(np.float32) / 127
    size = np.concatenate([views.height[at][..., None], views.extent[at]], -1).astype(np.float32)
    normal[flip, :, 0] *= -1
    x = np.where(flip[:, None], width - 1 - columns, columns)
    place = np.stack([(2 * x + 1) / width - 1, (2 * rows + 1) / height - 1], -1).astype(np.float32)
    images = torch.from_numpy(views.rgb[index]).permute(0, 3, 1, 2).float()
    images = torch.where(torch.from_numpy(flip)[:, None, None, None], images.flip(3), images)
    images = normalise(jitter(F.avg_pool2d(images, 2) if halve else images, rng))
    return DenseBatch(
        images=images,
        place=torch.from_numpy(place),
        material=torch.from_numpy(views.material[at].astype(np.int64)),
        normal=torch.from_numpy(normal),
        depth=torch.from_numpy(views.depth[at].astype(np.float32)),
        region=torch.from_numpy(views.region[at].astype(np.int64)),
        size=torch.from_numpy(np.log1p(size.clip(0, 60))),
        semantic=torch.from_numpy(views.semantic[at].astype(np.int64)),
        border=torch.from_numpy(borders[np.arange(count)[:, None], rows, columns].astype(np.float32)),
    )


def _spread(rng: np.random.Generator, borders: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the sampled pixels, (pixels,) each. `sample` explains how they are drawn."""
    height, width = borders.shape
    candidates = np.flatnonzero(borders)
    if not len(candidates):
        candidates = np.arange(borders.size)
    at = np.concatenate([rng.integers(borders.size, size=pixels // 2), rng.choice(candidates, pixels // 4)])
    rows, columns = np.divmod(at, width)
    near = rng.integers(-NEAR, NEAR + 1, size=(2, pixels - len(at)))
    rows = np.concatenate([rows, np.clip(rows[pixels // 2 :] + near[0], 0, height - 1)])
    return rows, np.concatenate([columns, np.clip(columns[pixels // 2 :] + near[1], 0, width - 1)])


def jitter(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Change brightness, contrast, saturation and hue of each image at random. `images`: RGB (B, 3, h, w), 0..255."""
    brightness, contrast, saturation = torch.from_numpy(rng.uniform(0.7, 1.3, (3, len(images), 1, 1, 1))).float()
    tint = torch.from_numpy(rng.uniform(0.92, 1.08, (len(images), 3, 1, 1))).float()
    grey = images.mean(1, keepdim=True)
    images = grey + saturation * (images - grey)
    mean = grey.mean((2, 3), keepdim=True)
    return ((mean + contrast * (images - mean)) * brightness * tint).clamp(0, 255)
