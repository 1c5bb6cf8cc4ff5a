"""Textures of the second appearance: the same materials with other patterns, scales and gloss."""

import numpy as np

from elite_pipeline.simulation.materials import MATERIALS, Look, Texture
from elite_pipeline.simulation.patterns import courses, lattice, sharp, stones

_RUST = np.array([1.25, 0.85, 0.6], np.float32)


def _swapped(uv: np.ndarray) -> np.ndarray:
    return uv[:, ::-1]


def _asphalt(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Pale worn asphalt: wheel tracks along the street, repaired rectangles, dark tar seams, coarse grain."""
    tracks = 0.08 * np.cos(uv[:, 1] * np.float32(2 * np.pi / 1.75))
    _, patch = courses(uv, (11.0, 3.1), 0.0, np.zeros(1, np.float32))
    repaired = sharp(patch - 0.82, 0.02)
    seam = sharp(0.03 - np.abs(uv[:, 1] % 3.1 - 1.55), np.maximum(footprint, 0.01)) * (footprint < 0.15)
    grain, stain = lattice(uv, 0.05, footprint), lattice(uv, 1.6, footprint)
    tone = (0.78 + 0.44 * grain) * (0.86 + 0.28 * stain) * (1 - tracks) * (1 - 0.3 * repaired) * (1 - 0.4 * seam)
    return tint * tone[:, None], 0.08


def _marking(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Paint with gaps that run along the street."""
    worn = sharp(lattice(uv * np.array([0.25, 1.0], np.float32), 0.12, footprint) - 0.3, 0.2)
    return tint * (0.5 + 0.5 * worn)[:, None], 0.1


def _pavers(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Basket weave: squares of two bricks, alternately along and across, with pale joints."""
    square = np.floor(uv / np.float32(0.24)).astype(np.int32)
    turned = (square.sum(1) & 1).astype(bool)
    along = np.where(turned[:, None], _swapped(uv), uv)
    joint, own = courses(along * np.array([0.5, 1.0], np.float32), (0.12, 0.12), 0.008, footprint)
    tone = (0.78 + 0.44 * own) * (0.85 + 0.3 * lattice(uv, 2.2, footprint))
    colour = tint * tone[:, None]
    return colour + (0.35 - colour) * (0.55 * joint)[:, None], 0.03


def _slabs(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Large slabs in a square grid, with dark joints and stains."""
    edge = np.abs(uv / np.float32(1.1) % 1 - 0.5).max(1)
    joint = sharp(edge - 0.486, np.maximum(footprint, 0.01) / 1.1) * np.clip(1.6 - footprint / 0.6, 0, 1)
    tone = (1 - 0.6 * joint) * (0.8 + 0.25 * lattice(uv, 0.5, footprint) + 0.15 * lattice(uv, 0.04, footprint))
    return tint * tone[:, None], 0.04


def _cobbles(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = stones(uv, 0.19, 0.02, footprint)
    return tint * ((0.6 + 0.7 * own) * (1 - 0.55 * joint))[:, None], 0.1


def _grass(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Mown in lanes, with tufts and yellow patches."""
    mown = 0.08 * np.sign(np.sin(uv[:, 1] * np.float32(2 * np.pi / 2.4))) * np.clip(1.5 - footprint, 0, 1)
    tuft, patch = lattice(uv, 0.11, footprint), lattice(uv, 3.5, footprint)
    dry = sharp(patch - 0.6, 0.25)[:, None] * np.array([0.6, 0.25, -0.1], np.float32)
    return tint * ((0.5 + 0.85 * tuft) * (1 + mown))[:, None] * (1 + dry), 0.02


def _soil(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Dark mulch with pale chips."""
    _, chip = stones(uv, 0.09, 0.0, footprint)
    tone = (0.5 + 0.3 * lattice(uv, 1.1, footprint)) * (0.8 + 1.2 * sharp(chip - 0.85, 0.05))
    return tint * tone[:, None], 0.0


def _gravel(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    gap, stone = stones(uv, 0.08, 0.012, footprint)
    return tint * ((0.6 + 0.75 * stone) * (1 - 0.5 * gap) * (0.9 + 0.2 * lattice(uv, 4.0, footprint)))[:, None], 0.03


def _concrete(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Boards' imprints across, and streaks of water that run down."""
    joint, own = courses(uv, (40.0, 0.22), 0.008, footprint)
    run = lattice(uv * np.array([1.0, 0.08], np.float32), 0.3, footprint)
    return tint * ((0.75 + 0.35 * run) * (0.92 + 0.16 * own) * (1 - 0.35 * joint))[:, None], 0.03


def _bricks(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Large blocks with dark joints, some of them burnt."""
    joint, own = courses(uv, (0.42, 0.17), 0.014, footprint)
    burnt = sharp(own - 0.88, 0.03)
    return tint * ((0.86 + 0.24 * own) * (1 - 0.6 * joint) * (1 - 0.35 * burnt))[:, None], 0.03


def _stonework(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    joint, own = stones(uv * np.array([0.7, 1.0], np.float32), 0.34, 0.05, footprint)
    stone = tint * ((0.65 + 0.6 * own) * (0.8 + 0.4 * lattice(uv, 0.2, footprint)))[:, None]
    return stone + (0.45 - stone) * (0.7 * joint)[:, None], 0.02


def _roof(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Small slates with moss."""
    joint, own = courses(uv, (0.24, 0.16), 0.018, footprint)
    moss = sharp(lattice(uv, 1.8, footprint) - 0.68, 0.2)[:, None]
    slate = tint * ((0.8 + 0.4 * own) * (1 - 0.35 * joint))[:, None]
    return slate + (np.array([0.1, 0.14, 0.05], np.float32) - slate) * 0.6 * moss, 0.12


def _glass(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint * np.array([0.2, 0.26, 0.24], np.float32), 0.8


def _planks(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Boards that lie flat, with flaking paint."""
    joint, own = courses(uv, (3.0, 0.19), 0.02, footprint)
    flaked = sharp(lattice(uv * np.array([0.3, 1.0], np.float32), 0.15, footprint) - 0.7, 0.1)
    board = tint * ((0.85 + 0.25 * own) * (1 - 0.65 * joint))[:, None]
    return board + (np.array([0.28, 0.22, 0.16], np.float32) - board) * (0.7 * flaked)[:, None], 0.06


def _bark(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Furrows, and spots of lichen."""
    furrow = np.abs(lattice(uv * np.array([1.0, 0.15], np.float32), 0.09, footprint) - 0.5)
    lichen = sharp(lattice(uv, 0.35, footprint) - 0.66, 0.1)[:, None]
    bark = tint * (0.55 + 1.8 * furrow)[:, None]
    return bark + (np.array([0.32, 0.36, 0.26], np.float32) - bark) * 0.5 * lichen, 0.0


def _foliage(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Leaves between light and shade; lit ones are yellowish."""
    light = sharp(lattice(uv, 0.22, footprint) - 0.5, 0.35)[:, None]
    return tint * (0.45 + 0.9 * light * np.array([1.1, 1.05, 0.7], np.float32)), 0.05


def _lacquer(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Clear coat, and dust towards the ground."""
    dust = np.clip(0.9 - uv[:, 1], 0, 0.9)[:, None] * 0.35
    return tint + (np.array([0.24, 0.21, 0.17], np.float32) - tint) * dust, 0.34


def _metal(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    rust = sharp(lattice(uv, 0.4, footprint) - 0.66, 0.12)[:, None]
    return tint * (1 + rust * (_RUST - 1)) * (1 - 0.25 * rust), 0.16


def _even(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint * (0.85 + 0.3 * lattice(uv, 1.4, footprint))[:, None], 0.06


def _cloth(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Folds, and stripes across."""
    stripe = 0.14 * np.sign(np.sin(uv[:, 1] * np.float32(2 * np.pi / 0.13))) * np.clip(1.5 - footprint / 0.06, 0, 1)
    return tint * ((0.75 + 0.5 * lattice(uv, 0.18, footprint)) * (1 + stripe))[:, None], 0.0


def _stucco(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """Rough plaster with a dark base, and dirt that runs down."""
    run = lattice(uv * np.array([1.0, 0.12], np.float32), 0.9, footprint)
    base = sharp(0.95 - uv[:, 1], np.maximum(footprint, 0.02))
    tone = (0.8 + 0.3 * run) * (0.92 + 0.16 * lattice(uv, 0.06, footprint)) * (1 - 0.4 * base)
    return tint * tone[:, None], 0.02


def _facade(wall: Texture) -> Texture:
    """The texture `wall` with windows: dark frames, four panes that mirror the sky, and coloured shutters.

    `detail` is (bay, storey, window width, window height), metres, as in the first appearance.
    """

    def texture(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
        albedo, gloss = wall(uv, footprint, tint, detail)
        bay, storey, width, height = np.maximum(detail.T, 0.1)
        column, row = np.floor(uv[:, 0] / bay), np.floor(uv[:, 1] / storey)
        x = np.abs((uv[:, 0] / bay - column) - 0.5) * bay
        y = ((uv[:, 1] / storey - row) - 0.53) * storey
        half, tall = 0.42 * width, 0.55 * height
        beyond, soft = np.maximum(x - half, np.abs(y) - tall), np.maximum(footprint, 0.01)
        frame, pane = sharp(0.05 - beyond, soft), sharp(-beyond, soft)
        pane = pane * sharp(np.abs(x) - 0.035, soft) * sharp(np.abs(y - 0.15 * tall) - 0.03, soft)
        own = lattice(np.stack([column * 3.7, row * 5.3], 1), 1.0, np.zeros(1, np.float32))
        shutter = sharp(0.3 - np.abs(x - half - 0.36), soft) * sharp(tall - np.abs(y), soft)
        slat = 0.8 + 0.2 * np.sign(np.sin(y * np.float32(2 * np.pi / 0.12))) * np.clip(1.5 - footprint / 0.05, 0, 1)
        painted = tint[:, ::-1] * np.array([0.35, 0.5, 0.55], np.float32) * slat[:, None]
        lintel = sharp(0.1 - np.abs(y - tall - 0.14), soft) * sharp(half + 0.15 - x, soft)
        albedo = albedo + (painted - albedo) * shutter[:, None]
        albedo = albedo + (0.55 - albedo) * (0.6 * lintel)[:, None]
        albedo = albedo + (np.array([0.06, 0.06, 0.07], np.float32) - albedo) * frame[:, None]
        inside = np.array([0.02, 0.025, 0.03], np.float32) + 0.25 * np.clip(own - 0.62, 0, 1)[:, None]
        albedo = albedo + (inside - albedo) * pane[:, None]
        return albedo, gloss + 0.62 * pane

    return texture


def _sign(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    """The face of a sign: a thin light border inside a dark rim, and a slanting arrow."""
    radius = np.maximum(np.abs(uv[:, 0]), np.abs(uv[:, 1]))
    border = sharp(0.05 - np.abs(radius - 0.8), 0.04)
    shaft = sharp(0.12 - np.abs(uv[:, 0] - 0.6 * uv[:, 1]), 0.05) * sharp(0.5 - np.abs(uv[:, 1]), 0.05)
    light = np.maximum(border, shaft)[:, None]
    face = tint * (1 - 0.6 * sharp(radius - 0.9, 0.04))[:, None]
    return face + (np.array([0.9, 0.88, 0.8], np.float32) - face) * light, 0.12


def _lamp(uv: np.ndarray, footprint: np.ndarray, tint: np.ndarray, detail: np.ndarray) -> Look:
    return tint * 1.7, 0.3


_SECOND: dict[str, Texture] = {
    "asphalt": _asphalt,
    "marking": _marking,
    "pavers": _pavers,
    "slabs": _slabs,
    "cobbles": _cobbles,
    "grass": _grass,
    "soil": _soil,
    "gravel": _gravel,
    "concrete": _concrete,
    "bricks": _bricks,
    "stonework": _stonework,
    "roof": _roof,
    "glass": _glass,
    "planks": _planks,
    "bark": _bark,
    "foliage": _foliage,
    "lacquer": _lacquer,
    "metal": _metal,
    "rubber": _even,
    "plastic": _even,
    "cloth": _cloth,
    "skin": _even,
    "plaster facade": _facade(_stucco),
    "brick facade": _facade(_bricks),
    "sign": _sign,
    "lamp": _lamp,
}

SECOND_TEXTURES = tuple(_SECOND.get(material.name, material.texture) for material in MATERIALS)
"""Textures of the second appearance by material id. The sky has none, as in the first."""
