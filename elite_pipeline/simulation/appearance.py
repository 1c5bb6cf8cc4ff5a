"""What a world looks like in the camera. Two appearances of one world have the same geometry, labels and scans.

The image encoder `sam_tiny` was pre-trained on views of the first appearance. Drives of the second appearance are
therefore a domain that it has not seen: other patterns, colours, light and another camera.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.exposure import develop, develop_second
from elite_pipeline.simulation.light import Light, draw_light
from elite_pipeline.simulation.materials import TEXTURES, Texture
from elite_pipeline.simulation.ranges import Ranges
from elite_pipeline.simulation.second_light import draw_second_light
from elite_pipeline.simulation.second_materials import SECOND_TEXTURES
from elite_pipeline.simulation.second_paint import second_paint

Painter = Callable[[np.random.Generator, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Appearance:
    """One way to show a world.

    textures: by material id. paint: the tints that the camera sees (see `second_paint`); None: the world's own tints.
    light: draws the light of a world. develop: from linear radiance (H, W, 3) to an image (H, W, 3) uint8.
    """

    textures: tuple[Texture, ...]
    paint: Painter | None
    light: Callable[[np.random.Generator, Ranges], Light]
    develop: Callable[[np.ndarray, Light, np.random.Generator], np.ndarray]


APPEARANCES = {
    "first": Appearance(TEXTURES, None, draw_light, develop),
    "second": Appearance(SECOND_TEXTURES, second_paint, draw_second_light, develop_second),
}
"""`appearance:` of a simulated data set -> how it looks."""
