"""Surface materials: their appearance in the camera and their remission in the LiDAR."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

import numpy as np

from elite_pipeline.simulation.patterns import courses, noise, sharp

Look = tuple[np.ndarray, np.ndarray | float]
"""Albedo (N, 3), and gloss: (N,) or one value for all points."""

Texture = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Look]
"""(uv (N, 2) metres, footprint (N,) metres per pixel, tint (N, 3), detail (N, 4)) -> look."""


@dataclass(frozen=True)
class Material:
    """One material.

    remission: share of the laser's light that returns at normal incidence. The values of different materials overlap on
    purpose, so that remission alone does not identify a class. roughness: standard deviation, metres, of the range
    noise that the surface adds to the sensor's own noise (grass blades or leaves, for example).
    """

    name: str
    texture: Texture
    remission: float
    roughness: float = 0.0


def _plain(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint * (0.96 + 0.08 * noise(uv, 0.6, footprint)[:, None]), 0.03


def _sky(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> NoReturn:
    raise AssertionError("the sky has no texture: leave sky pixels out of textured()")


def _asphalt(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    patch, grain = noise(uv, 7.0, footprint, soft=True), noise(uv, 0.9, footprint)
    crack = sharp(0.022 - np.abs(noise(uv, 19.0, footprint, soft=True) - 0.5), 0.02)
    tone = (0.72 + 0.5 * patch) * (0.8 + 0.4 * grain) * (1 - 0.25 * crack * (footprint < 0.04))
    return tint * tone[:, None], 0.05


def _marking(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    worn = sharp(noise(uv, 0.7, footprint) - 0.22, 0.12)
    return tint * (0.55 + 0.45 * worn)[:, None], 0.04


def _pavers(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = courses(uv, (0.22, 0.11), 0.008, footprint)
    tone = (0.85 + 0.3 * own) * (1 - 0.4 * joint) * (0.8 + 0.4 * noise(uv, 4.0, footprint, soft=True))
    return tint * tone[:, None], 0.02


def _slabs(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = courses(uv, (0.8, 0.5), 0.014, footprint)
    tone = (0.92 + 0.16 * own) * (1 - 0.45 * joint) * (0.8 + 0.4 * noise(uv, 3.0, footprint))
    return tint * tone[:, None], 0.02


def _cobbles(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = courses(uv + 0.02 * noise(uv, 1.3, footprint)[:, None], (0.14, 0.12), 0.014, footprint)
    return tint * ((0.7 + 0.55 * own) * (1 - 0.5 * joint))[:, None], 0.05


def _grass(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    patch, blade = noise(uv, 9.0, footprint, soft=True), noise(uv, 0.5, footprint)
    tone = (0.62 + 0.5 * blade) * (0.8 + 0.4 * patch)
    dry = sharp(patch - 0.62, 0.2)[:, None] * np.array([0.35, 0.12, 0.0], np.float32)
    return tint * tone[:, None] * (1 + dry), 0.0


def _soil(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    tone = (0.55 + 0.6 * noise(uv, 5.0, footprint, soft=True)) * (0.75 + 0.5 * noise(uv, 1.2, footprint))
    return tint * tone[:, None], 0.0


def _gravel(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    stone = noise(uv, 0.35, footprint)
    return tint * (0.45 + 1.05 * stone * (0.8 + 0.4 * noise(uv, 6.0, footprint, soft=True)))[:, None], 0.0


def _concrete(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    streak = noise(uv * np.array([1.0, 0.12], np.float32), 2.0, footprint)
    joint, _ = courses(uv, (2.5, 1.2), 0.015, footprint)
    return tint * ((0.82 + 0.3 * streak) * (1 - 0.3 * joint))[:, None], 0.02


def _bricks(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = courses(uv, (0.25, 0.09), 0.012, footprint)
    brick = tint * (0.78 + 0.44 * own)[:, None]
    mortar = 0.5 * tint + 0.24
    return brick + (mortar - brick) * joint[:, None], 0.01


def _stonework(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = courses(uv + 0.06 * noise(uv, 2.4, footprint)[:, None], (0.55, 0.28), 0.03, footprint)
    tone = (0.7 + 0.5 * own) * (1 - 0.5 * joint) * (0.8 + 0.4 * noise(uv, 1.0, footprint))
    return tint * tone[:, None], 0.01


def _roof(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = courses(uv, (0.3, 0.34), 0.035, footprint)
    return tint * ((0.85 + 0.3 * own) * (1 - 0.45 * joint))[:, None], 0.03


def _glass(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint * 0.45, 0.6


def _planks(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = courses(uv, (0.14, 50.0), 0.016, footprint)
    vein = noise(uv * np.array([1.0, 0.08], np.float32), 0.4, footprint)
    return tint * ((0.75 + 0.35 * own) * (0.85 + 0.3 * vein) * (1 - 0.6 * joint))[:, None], 0.02


def _bark(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    ridge = noise(uv * np.array([1.0, 0.25], np.float32), 0.8, footprint)
    return tint * (0.5 + ridge)[:, None], 0.0


def _foliage(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint * (0.75 + 0.5 * noise(uv, 0.6, footprint))[:, None], 0.02


def _lacquer(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint, 0.16


def _cloth(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint * (0.85 + 0.3 * noise(uv, 1.5, footprint))[:, None], 0.0


def _facade(wall: Texture) -> Texture:
    """The texture `wall` with windows.

    `detail` is (bay, storey, window width, window height), metres. The first bay begins at u = 0.
    """

    def texture(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
        albedo, gloss = wall(uv, footprint, tint, detail)
        bay, storey, width, height = np.maximum(detail.T, 0.1)
        column, row = np.floor(uv[:, 0] / bay), np.floor(uv[:, 1] / storey)
        x = np.abs((uv[:, 0] / bay - column) - 0.5) * bay  # metres from the window's centre line
        y = np.abs((uv[:, 1] / storey - row) - 0.53) * storey
        beyond = np.maximum(x - width / 2, y - height / 2)  # metres outside the opening, negative inside
        soft = np.maximum(footprint, 0.01)
        opening = sharp(0.07 - beyond, soft)
        pane = sharp(-beyond, soft) * sharp(np.abs(x) - 0.03, soft)
        sill = sharp(0.07 - np.abs((uv[:, 1] / storey - row) * storey - 0.53 * storey + height / 2 + 0.09), soft)
        sill = sill * sharp(width / 2 + 0.12 - x, soft)
        band = sharp(0.1 - (uv[:, 1] / storey - row) * storey, soft) * (row > 0)
        own = noise(np.stack([column, row], 1) * 0.37, 1.0, np.full_like(x, 0.3))
        curtain = sharp(own - 0.6, 0.05) * sharp(np.abs(x) - width * 0.22, soft)
        inside = np.array([0.035, 0.045, 0.055], np.float32) + 0.3 * (curtain * pane)[:, None]
        frame = np.array([0.62, 0.6, 0.56], np.float32)
        albedo = albedo * (1 - 0.25 * np.maximum(band, 0))[:, None]
        albedo = albedo + (frame - albedo) * np.maximum(opening, 0.7 * sill)[:, None]
        albedo = albedo + (inside - albedo) * pane[:, None]
        return albedo, gloss + 0.4 * pane * (1 - 0.7 * curtain)

    return texture


def _sign(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """The face of a sign: a light border and a light bar on the tint. uv runs from -1 to 1 over the plate."""
    radius = np.maximum(np.abs(uv[:, 0]), np.abs(uv[:, 1]))
    border = sharp(radius - 0.82, 0.05)
    symbol = sharp(0.22 - np.abs(uv[:, 1]), 0.06) * sharp(0.62 - np.abs(uv[:, 0]), 0.06)
    light = np.maximum(border, symbol)[:, None]
    return tint + (np.array([0.85, 0.85, 0.83], np.float32) - tint) * light, 0.05


def _lamp(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint * 1.3, 0.2


MATERIALS = (
    Material("sky", _sky, 0.0),
    Material("asphalt", _asphalt, 0.24, 0.004),
    Material("marking", _marking, 0.55, 0.003),
    Material("pavers", _pavers, 0.30, 0.005),
    Material("slabs", _slabs, 0.33, 0.004),
    Material("cobbles", _cobbles, 0.27, 0.008),
    Material("grass", _grass, 0.36, 0.03),
    Material("soil", _soil, 0.28, 0.012),
    Material("gravel", _gravel, 0.31, 0.012),
    Material("concrete", _concrete, 0.34),
    Material("bricks", _bricks, 0.32, 0.003),
    Material("stonework", _stonework, 0.33, 0.006),
    Material("roof", _roof, 0.25, 0.01),
    Material("glass", _glass, 0.07),
    Material("planks", _planks, 0.35, 0.004),
    Material("bark", _bark, 0.30, 0.01),
    Material("foliage", _foliage, 0.37, 0.05),
    Material("lacquer", _lacquer, 0.30),
    Material("metal", _plain, 0.40),
    Material("rubber", _plain, 0.10),
    Material("plastic", _plain, 0.22),
    Material("cloth", _cloth, 0.34, 0.006),
    Material("skin", _plain, 0.38),
    Material("plaster facade", _facade(_plain), 0.38),
    Material("brick facade", _facade(_bricks), 0.31, 0.003),
    Material("sign", _sign, 0.85),
    Material("lamp", _lamp, 0.60),
)
"""All materials. The index is the material id in meshes and views; 0 is the sky."""

ID = {material.name: index for index, material in enumerate(MATERIALS)}
"""Material name -> id."""

REMISSION = np.array([m.remission for m in MATERIALS], np.float32)
"""(materials,) float32, mean remission by material id."""

ROUGHNESS = np.array([m.roughness for m in MATERIALS], np.float32)
"""(materials,) float32, roughness by material id, metres."""


TEXTURES = tuple(material.texture for material in MATERIALS)
"""Textures of the first appearance by material id."""


def textured(
    material: np.ndarray,
    uv: np.ndarray,
    footprint: np.ndarray,
    tint: np.ndarray,
    detail: np.ndarray,
    textures: tuple[Texture, ...] = TEXTURES,
) -> tuple[np.ndarray, np.ndarray]:
    """Albedo (N, 3) and gloss (N,), float32, of N surface points. Sky points are not allowed.

    material: (N,) uint8. uv: (N, 2), metres. footprint: (N,), width of a pixel on the surface, metres.
    tint: (N, 3), linear colour. detail: (N, 4), see `_facade`. textures: by material id.
    """
    albedo, gloss = np.empty_like(tint), np.empty(len(material), np.float32)
    order = np.argsort(material, kind="stable")
    bounds = np.searchsorted(material[order], np.arange(len(MATERIALS) + 1))
    for index, (first, last) in enumerate(pairwise(bounds)):
        if first < last:
            rows = order[first:last]
            albedo[rows], gloss[rows] = textures[index](uv[rows], footprint[rows], tint[rows], detail[rows])
    return albedo, gloss
