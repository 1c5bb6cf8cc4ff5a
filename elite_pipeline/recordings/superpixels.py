"""Superpixels: small regions of an image with about one colour each. They rarely cross the border of an object."""

import numpy as np
from skimage.segmentation import slic

from elite_pipeline.config import SegmentImages


def segments(image: np.ndarray, settings: SegmentImages) -> np.ndarray:
    """(H, W) int32: the superpixel of each pixel of an RGB image, numbered from 0 without gaps.

    image: (H, W, 3) uint8. The method is SLIC (Achanta et al., TPAMI 2012), called as in SLidR. The number of
    superpixels is about `settings.segments`.
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
    """(n,) int32: the superpixel of each point. segments: (H, W). pixel: (n, 2) float32, (u right, v down)."""
    column, row = pixel.astype(np.intp).T
    return segments[row, column]
