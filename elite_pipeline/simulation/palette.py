"""Colours of a world."""

import colorsys
from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.ranges import Range, Ranges


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """Linear RGB (3,) of an HSV colour.

    The hue is in turns. Saturation and value are in [0, 1] and describe the colour in an image, not linear light.
    """
    return np.square(colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1)))


@dataclass(frozen=True)
class Palette:
    """The colours of one world. Its methods draw random colours."""

    ranges: Ranges
    leaf_hue: float
    leaf_saturation: float
    wood: np.ndarray

    def shade(self, rng: np.random.Generator, hue: Range, saturation: Range, value: Range) -> np.ndarray:
        """A colour (3,) within the intervals. With `any_hue`, half of the colours have a random hue and saturation."""
        if self.ranges.any_hue and rng.random() < 0.5:
            hue, saturation = (0.0, 1.0), (0.0, 0.8)
        return colour(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))

    def leaf(self, rng: np.random.Generator) -> np.ndarray:
        """A foliage colour (3,), close to the leaf colour of the world."""
        saturation = self.leaf_saturation * rng.uniform(0.75, 1.1)
        return colour(self.leaf_hue + rng.normal(0, 0.025), saturation, rng.uniform(0.34, 0.6))

    def facade(self, rng: np.random.Generator) -> np.ndarray:
        """A wall colour (3,), usually warm and pale."""
        saturation = rng.uniform(*self.ranges.facade_saturation)
        return self.shade(rng, (0.02, 0.16), (saturation, saturation), (0.55, 0.92))

    def paint(self, rng: np.random.Generator) -> np.ndarray:
        """A vehicle's colour (3,). About half of the vehicles are white, grey or black, as on real streets."""
        if rng.random() < 0.55:
            return colour(0.6, 0.04, rng.choice([0.92, 0.75, 0.5, 0.28, 0.16]))
        return colour(rng.random(), rng.uniform(*self.ranges.paint_saturation), rng.uniform(0.25, 0.8))

    def cloth(self, rng: np.random.Generator) -> np.ndarray:
        """A garment's colour (3,)."""
        return colour(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.15, 0.85))


def draw_palette(rng: np.random.Generator, ranges: Ranges) -> Palette:
    """A random palette for one world."""
    hue = rng.random() if ranges.any_hue and rng.random() < 0.4 else rng.uniform(0.19, 0.30)
    return Palette(
        ranges=ranges,
        leaf_hue=hue,
        leaf_saturation=rng.uniform(0.4, 0.75),
        wood=colour(rng.uniform(0.04, 0.1), rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.55)),
    )
