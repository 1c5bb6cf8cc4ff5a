"""Colours of the second appearance. They replace a world's tints in the camera, and never in the LiDAR."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.materials import ID
from elite_pipeline.simulation.ranges import Range


@dataclass(frozen=True)
class Coat:
    """How one material is repainted.

    hues: centres of the hues, in turns. Each world uses up to three of them. spread: of a hue. saturation: range.
    share: weight of the new hue; the rest keeps the first appearance's hue. brightness: range of the factor.
    grey: share of the objects that get no hue.
    """

    hues: tuple[float, ...]
    saturation: Range
    share: float
    brightness: Range
    spread: float = 0.015
    grey: float = 0.0


_WALLS = Coat((0.09, 0.03, 0.12, 0.58, 0.97, 0.22, 0.06), (0.1, 0.42), 0.85, (0.7, 1.25))
_LEAVES = Coat((0.24, 0.21, 0.17, 0.33, 0.27), (0.45, 0.75), 0.9, (0.55, 1.0), spread=0.02)
_PAVING = Coat((0.02, 0.07, 0.1, 0.6), (0.08, 0.35), 0.8, (0.7, 1.1))

_COATS = {
    "asphalt": Coat((0.6, 0.09), (0.02, 0.1), 0.9, (1.25, 1.8)),
    "marking": Coat((0.13, 0.15), (0.05, 0.35), 0.9, (0.85, 1.0)),
    "pavers": _PAVING,
    "slabs": Coat((0.6, 0.1, 0.02), (0.03, 0.2), 0.9, (0.6, 0.95)),
    "cobbles": Coat((0.6, 0.05), (0.02, 0.15), 0.9, (0.5, 0.85)),
    "grass": Coat((0.2, 0.23, 0.17), (0.4, 0.65), 0.9, (0.7, 1.1)),
    "soil": Coat((0.05, 0.08), (0.3, 0.55), 0.8, (0.5, 0.9)),
    "gravel": Coat((0.6, 0.08, 0.03), (0.03, 0.25), 0.9, (0.7, 1.05)),
    "concrete": Coat((0.1, 0.55), (0.02, 0.12), 0.8, (0.65, 1.1)),
    "bricks": Coat((0.13, 0.02, 0.6), (0.1, 0.45), 0.85, (0.8, 1.5)),
    "stonework": Coat((0.1, 0.6), (0.05, 0.25), 0.85, (0.7, 1.1)),
    "roof": Coat((0.6, 0.03, 0.06, 0.62), (0.1, 0.6), 0.9, (0.7, 1.4)),
    "planks": Coat((0.08, 0.55, 0.35, 0.02), (0.15, 0.55), 0.8, (0.6, 1.2)),
    "bark": Coat((0.1, 0.6), (0.03, 0.2), 0.85, (0.8, 1.7)),
    "foliage": _LEAVES,
    "lacquer": Coat((0.0, 0.6, 0.1, 0.4, 0.57, 0.05), (0.4, 0.85), 0.95, (0.6, 1.3), spread=0.03, grey=0.55),
    "cloth": Coat((0.62, 0.0, 0.1, 0.55, 0.3), (0.1, 0.7), 0.9, (0.4, 1.1), spread=0.04, grey=0.3),
    "plaster facade": _WALLS,
    "brick facade": Coat((0.02, 0.11, 0.05, 0.6), (0.15, 0.6), 0.85, (0.75, 1.4)),
}


def _of_hue(hue: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """Linear colours (N, 3) of about mean 1, of hues (N,) in turns and saturations (N,) in [0, 1]."""
    turn = np.abs((hue[:, None] * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    colour = np.square(1 - saturation[:, None] * (1 - np.clip(turn, 0, 1)))
    # Green looks brighter than red or blue of the same mean.
    return colour / np.maximum(colour.mean(1), colour @ [0.25, 0.65, 0.1])[:, None]


def second_paint(rng: np.random.Generator, material: np.ndarray, tint: np.ndarray, thing: np.ndarray) -> np.ndarray:
    """The camera's tints (T, 3) float32 of triangles with the first appearance's `tint` (T, 3).

    material: (T,) ids. thing: (T,), index of the object of each triangle. An object has one colour for each of its
    materials.
    """
    paint, objects = tint.copy(), int(thing.max()) + 1
    for name, coat in _COATS.items():
        hues = rng.choice(coat.hues, min(3, len(coat.hues)), replace=False)
        hue = hues[rng.integers(len(hues), size=objects)] + rng.normal(0, coat.spread, objects)
        saturation = rng.uniform(*coat.saturation, objects) * (rng.random(objects) >= coat.grey)
        colours, brightness = _of_hue(hue, saturation), rng.uniform(*coat.brightness, objects)
        rows = np.flatnonzero(material == ID[name])
        value = tint[rows].mean(1, keepdims=True)
        mixed = (1 - coat.share) * tint[rows] + coat.share * value * colours[thing[rows]]
        paint[rows] = np.clip(mixed * brightness[thing[rows], None], 0, 0.92)
    return paint
