"""From light to pixels: the response of the camera, in two kinds."""

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from elite_pipeline.simulation.light import Light

SOFTNESS = 0.12
"""Lens blur: the share of a pixel's light that goes to each neighbour in its row, and to each in its column."""

MIDDLE_GREY = 0.24
"""Target of the exposure: mean linear brightness of the metered area, as a fraction of full scale."""

_SECOND_GREY = 0.15
"""The same for the second camera. It meters the whole image, so that a bright sky darkens the street."""

_MATRIX = np.array([[1.22, -0.16, -0.06], [-0.10, 1.16, -0.06], [-0.02, -0.18, 1.20]], np.float32)
"""Colour matrix (3, 3) of the second camera. Its rows sum to 1, so grey stays grey and colours are stronger."""


def develop(radiance: np.ndarray, light: Light, rng: np.random.Generator) -> np.ndarray:
    """Convert linear radiance (H, W, 3) to an image (H, W, 3) uint8: lens blur, exposure, response curve, noise."""
    image = _blurred(radiance)
    # Meter the lower two thirds only: the street should be well exposed, not the sky.
    metered = np.minimum(image[len(image) // 3 :: 4, ::4], 1.0).mean()
    image *= light.gain * np.clip(MIDDLE_GREY / metered, 0.5, 3.0)
    image /= 1 + 0.25 * image
    np.sqrt(np.maximum(image, 0, out=image), out=image)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(light.noise)
    return _quantised(image)


def develop_second(radiance: np.ndarray, light: Light, rng: np.random.Generator) -> np.ndarray:
    """The second camera: `develop` with glare, vignette, a filmic curve, sharpening, and noise that grows with light.

    It draws as many random numbers as `develop`, so that scans do not depend on the camera.
    """
    height, width = radiance.shape[:2]
    random = rng.standard_normal(radiance.shape, np.float32)
    image = _blurred(radiance)
    # Glare: very bright places, such as the sky, spill into their surroundings.
    glare = gaussian_filter(np.maximum(image[::4, ::4] - 0.8, 0), (width / 120, width / 120, 0))
    scale = (height / np.size(glare, 0), width / np.size(glare, 1), 1)
    image += 0.35 * zoom(glare, scale, order=1)
    metered = np.minimum(image[::4, ::4], 1.2).mean()
    image *= light.gain * np.clip(_SECOND_GREY / metered, 0.3, 2.0)
    row, column = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    image *= (1 - 0.28 * (column**2 + 0.4 * row**2))[..., None]
    image = np.maximum(image @ _MATRIX.T, 0)
    image += random * np.sqrt(image + 0.002) * np.float32(1.2 * light.noise)
    image = np.maximum(image, 0) * np.float32(1.35)
    image = image * (2.51 * image + 0.03) / (image * (2.43 * image + 0.59) + 0.14)  # Narkowicz's fit of a filmic curve
    image = np.power(image, np.float32(1 / 2.2))
    brightness = image.mean(2, keepdims=True)
    image += 0.6 * (brightness - gaussian_filter(brightness, (1.2, 1.2, 0)))
    return _quantised(image)


def _blurred(radiance: np.ndarray) -> np.ndarray:
    soft = radiance.copy()
    soft[:, 1:-1] += SOFTNESS * (radiance[:, 2:] + radiance[:, :-2] - 2 * radiance[:, 1:-1])
    image = soft.copy()
    image[1:-1] += SOFTNESS * (soft[2:] + soft[:-2] - 2 * soft[1:-1])
    return image


def _quantised(image: np.ndarray) -> np.ndarray:
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
