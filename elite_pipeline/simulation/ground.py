"""The ground of a world: a raster of surface types in road coordinates, and the height of the ground."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline.simulation.materials import ID
from elite_pipeline.simulation.mesh import Mesh
from elite_pipeline.simulation.palette import Palette, colour
from elite_pipeline.simulation.patterns import noise
from elite_pipeline.simulation.road import Centreline

CELL = 0.1
"""Size of a raster cell along and across the road, metres."""

REACH = 62.0
"""Extent of the raster to either side of the centreline, metres."""

ROAD, MARKING, PARKING, SIDEWALK, CURB, GRASS, SOIL, OTHER = range(8)
RAW_ID = np.array([40, 60, 44, 48, 48, 72, 72, 49], np.uint16)
"""Raw semantic id by ground code."""

_DASH, _ZEBRA, _STOP = 1, 2, 4


@dataclass(frozen=True)
class Profile:
    """Cross-section of one side of the road: for each band, the distance from the centreline to its end, metres."""

    road: float
    parking: float
    verge: float
    sidewalk: float


@dataclass(frozen=True)
class Ground:
    """Surface codes over (s, d), and heights.

    codes: (S, D) uint8. Cell (i, j) begins at s = `start + i * CELL` and d = `-REACH + j * CELL`.
    lines: (S,) uint8, flags of the road markings at each s: dashed centre line, zebra crossing, stop line.
    material: (codes,) uint8. tint: (codes, 3) float32. lift: (codes,) float32, metres above the road.
    bank: (S, 2) float32, slope of the land beyond the right (0) and the left (1) sidewalk.
    """

    start: float
    codes: np.ndarray
    lines: np.ndarray
    material: np.ndarray
    tint: np.ndarray
    lift: np.ndarray
    bank: np.ndarray
    right: Profile
    left: Profile

    def profile(self, side: int) -> Profile:
        """The cross-section of the left (+1) or the right (-1) side."""
        return self.left if side > 0 else self.right

    def _cells(self, s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row = ((s - self.start) * (1 / CELL)).astype(np.int32)
        column = ((d + REACH) * (1 / CELL)).astype(np.int32)
        return np.clip(row, 0, len(self.codes) - 1), np.clip(column, 0, self.codes.shape[1] - 1)

    def fill(self, s: tuple[float, float], d: tuple[float, float], code: int) -> None:
        """Set the rectangle between two s and two d to `code`. Only called while the world is being built."""
        rows, columns = self._cells(np.array(sorted(s)) + CELL / 2, np.array(sorted(d)) + CELL / 2)
        self.codes[rows[0] : rows[1], columns[0] : columns[1]] = code

    def code(self, s: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Ground codes (N,) uint8 at road coordinates (N,), including road markings."""
        row, column = self._cells(s, d)
        code, lines = self.codes[row, column], self.lines[row]
        dash = (lines & _DASH > 0) & (np.abs(d) < 0.07) & (s % 6.0 < 3.0)
        zebra = (lines & _ZEBRA > 0) & (d % 1.0 < 0.5)
        stop = (lines & _STOP > 0) & (d < -0.15)
        painted = (code == ROAD) & (dash | zebra | stop)
        painted |= (code == PARKING) & (s % 5.8 < 0.1)
        return np.where(painted, np.uint8(MARKING), code)

    def height(self, s: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Ground height (N,) above the centreline at road coordinates (N,), metres."""
        row, column = self._cells(s, d)
        code = self.codes[row, column]
        outer = np.where(d > 0, self.left.sidewalk, self.right.sidewalk)
        beyond = np.maximum(np.abs(d) - outer, 0)
        rise = self.bank[row, (d > 0).astype(int)] * beyond**2 / (beyond + 8)
        rough = np.isin(code, (GRASS, SOIL, OTHER)) * np.minimum(beyond, 1)
        bumps = noise(np.stack([s, d], -1).reshape(-1, 2), 60.0, np.zeros(1), soft=True).reshape(np.shape(s)) - 0.5
        return self.lift[code] + rise + 0.35 * rough * bumps

    def mesh(self, road: Centreline) -> Mesh:
        """The ground as a mesh in world coordinates.

        Its uv are (s, d). Its material, class and tint are placeholders: `Scene.cast` reads them from the raster.
        """
        s = np.arange(self.start, self.start + len(self.codes) * CELL, 0.5)
        d = np.unique(np.concatenate([self._lines_across(1), -self._lines_across(-1), [0.0]]))
        grid_s, grid_d = np.meshgrid(s, d, indexing="ij")
        vertices = road.place(grid_s, grid_d, self.height(grid_s, grid_d)).reshape(-1, 3)
        index = np.arange(grid_s.size).reshape(grid_s.shape)
        a, b, c, e = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
        triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, e], -1).reshape(-1, 3)])
        count = len(triangles)
        return Mesh(
            vertices.astype(np.float32),
            triangles,
            np.stack([grid_s, grid_d], -1).reshape(-1, 2)[triangles].astype(np.float32),
            np.full(count, ID["sky"], np.uint8),
            np.zeros(count, np.uint16),
            np.zeros((count, 3), np.float32),
        )

    def _lines_across(self, side: int) -> np.ndarray:
        """Distances of the mesh lines from the centreline, metres: a pair at each band's end, coarser further out."""
        p = self.profile(side)
        curbs = np.array([p.road, p.parking, p.verge, p.sidewalk])
        near, far = np.arange(1.8, p.sidewalk + 14, 1.8), np.arange(p.sidewalk + 16, REACH - 1, 5.0)
        plain = near[np.abs(near[:, None] - curbs).min(1) > 0.1]
        return np.concatenate([curbs - 0.02, curbs + 0.02, plain, far, [REACH - 0.1]])


def draw_profile(rng: np.random.Generator, palette: Palette, half_width: float) -> Profile:
    """Random bands of one side. Parking or verge may be missing; there is always a sidewalk."""
    ranges = palette.ranges
    widths = [
        rng.uniform(*ranges.parking_width) * (rng.random() < 0.75),
        rng.uniform(*ranges.verge_width) * (rng.random() < 0.6),
        rng.uniform(*ranges.sidewalk_width),
    ]
    return Profile(*np.round(np.cumsum([half_width, *widths]), 1))


def draw_ground(
    rng: np.random.Generator, palette: Palette, start: float, stop: float, junctions: list[tuple[float, float]]
) -> Ground:
    """The streets of a world: the main street along d = 0, and a crossing street at each junction (s, half width)."""
    half_width = round(rng.uniform(*palette.ranges.road_half_width), 1)
    right, left = (draw_profile(rng, palette, half_width) for _ in range(2))
    rows = round((stop - start) / CELL)
    curb = rng.uniform(*palette.ranges.curb_height)
    knots = np.linspace(0, rows, max(3, rows // 600))
    bank = [np.interp(np.arange(rows), knots, rng.uniform(-0.08, 0.12, len(knots))) for _ in range(2)]
    material, tint = _draw_surfaces(rng, palette)
    ground = Ground(
        start=start,
        codes=np.full((rows, round(2 * REACH / CELL)), GRASS, np.uint8),
        lines=np.zeros(rows, np.uint8),
        material=material,
        tint=tint,
        lift=np.array([0, 0, 0.02, curb, curb, curb + 0.02, curb, 0.6 * curb], np.float32),
        bank=np.stack(bank, 1).astype(np.float32),
        right=right,
        left=left,
    )
    along = (start, stop)
    ground.lines[:] = _DASH
    ground.fill(along, (-half_width, half_width), ROAD)
    for side in (-1, 1):
        p = ground.profile(side)
        ground.fill(along, (side * p.road, side * p.parking), PARKING)
        ground.fill(along, (side * p.verge, side * p.sidewalk), SIDEWALK)
        ground.fill(along, (side * p.parking, side * (p.parking + 0.2)), CURB)
    for s, half in junctions:
        _cross(ground, s, half, half_width)
    return ground


def _cross(ground: Ground, s: float, half: float, half_width: float) -> None:
    """Draw a crossing street at `s`, with its sidewalks.

    The main street gets a zebra crossing on both sides of the junction and a stop line before it.
    """
    for side in (-1, 1):
        p = ground.profile(side)
        corner = (side * p.road, side * p.sidewalk)
        ground.fill((s - half - 7, s + half + 7), corner, SIDEWALK)
        ground.fill((s - half - 7, s + half + 7), (side * p.road, side * (p.road + 0.2)), CURB)
        for edge in (-1, 1):
            ground.fill((s + edge * half, s + edge * (half + 2)), (side * p.road, side * REACH), SIDEWALK)
            ground.fill((s + edge * half, s + edge * (half + 0.2)), (side * p.road, side * REACH), CURB)
    ground.fill((s - half, s + half), (-REACH, REACH), ROAD)
    for low, high, flag in (
        (s - half - 1, s + half + 1, 0),
        (s - half - 4.5, s - half - 1.5, _ZEBRA),
        (s - half - 6.0, s - half - 5.6, _STOP),
        (s + half + 1.5, s + half + 4.5, _ZEBRA),
    ):
        first, last = (int((value - ground.start) / CELL) for value in (low, high))
        ground.lines[max(first, 0) : max(last, 0)] = flag


def _draw_surfaces(rng: np.random.Generator, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """Material ids (codes,) and tints (codes, 3) by ground code. Paved classes share materials and tones."""
    grey = [colour(0.1, rng.uniform(0, 0.08), value) for value in rng.uniform(0.36, 0.5, 2)]
    pale = palette.shade(rng, (0.05, 0.13), (0.02, 0.15), (0.55, 0.72))
    parking = [
        ("pavers", palette.shade(rng, (0.0, 0.06), (0.2, 0.45), (0.42, 0.6))),
        ("cobbles", palette.shade(rng, (0.05, 0.13), (0.1, 0.25), (0.46, 0.64))),
        ("asphalt", colour(0.03, rng.uniform(0.2, 0.4), rng.uniform(0.52, 0.62))),
    ][rng.choice(3, p=[0.45, 0.25, 0.3])]
    sidewalk = [
        ("slabs", pale),
        ("pavers", palette.shade(rng, (0.05, 0.14), (0.03, 0.15), (0.5, 0.68))),
        ("asphalt", pale * 0.75),
    ][rng.choice(3, p=[0.55, 0.25, 0.2])]
    other = [
        ("gravel", palette.shade(rng, (0.08, 0.13), (0.05, 0.25), (0.55, 0.75))),
        ("cobbles", palette.shade(rng, (0.08, 0.13), (0.1, 0.3), (0.5, 0.65))),
    ][rng.choice(2, p=[0.7, 0.3])]
    grass = colour(palette.leaf_hue + rng.normal(0, 0.02), rng.uniform(0.4, 0.65), rng.uniform(0.4, 0.58))
    surfaces = [
        ("asphalt", grey[0]),
        ("marking", colour(0.12, rng.uniform(0, 0.1), rng.uniform(0.82, 0.93))),
        parking,
        sidewalk,
        ("concrete", colour(0.1, 0.05, rng.uniform(0.6, 0.75))),
        ("grass", grass),
        ("soil", palette.shade(rng, (0.06, 0.1), (0.25, 0.5), (0.35, 0.55))),
        other,
    ]
    return np.array([ID[name] for name, _ in surfaces], np.uint8), np.array([t for _, t in surfaces], np.float32)
