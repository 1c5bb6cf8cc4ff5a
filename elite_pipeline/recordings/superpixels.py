"""Superpixels: small regions of an image of about one colour, which rarely cross the border of an object."""

import numpy as np
from skimage.segmentation import slic

from elite_pipeline.config import SegmentImages


def segments(image: np.ndarray, settings: SegmentImages) -> np.ndarray:
    """SLIC (Achanta et al., TPAMI 2012) as SLidR calls it: the superpixel of each pixel of an RGB image.

    image: (H, W, 3) uint8. Returns (H, W) int32, numbered from 0 without gaps; `settings.segments` are asked for, and
    about as many come out.
    """
    found = slic(
        image,
        n_segments=settings.segments,
        compactness=settings.compactness,
        sigma=settings.sigma,
        start_label=0,
    )
    return found.astype(np.int32)


def at(segments: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """The superpixel of each point: (n,) int32 of `segments` (H, W) at `pixel` (n, 2) float32, (u right, v down)."""
    column, row = pixel.astype(np.intp).T
    return segments[row, column]
