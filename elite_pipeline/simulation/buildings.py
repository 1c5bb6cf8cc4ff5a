"""Houses.

The street front lies on y = 0, for x in [0, width]. The house extends behind it to y > 0. The ground is at z = 0.
"""

import numpy as np

from elite_pipeline.simulation.mesh import Mesh, box, join, surface
from elite_pipeline.simulation.palette import Palette, colour

BUILDING = 50
_EAVES = 0.35


def _pitched(
    width: float, depth: float, eaves: float, rise: float, hip: float, tint: np.ndarray, gable: np.ndarray
) -> Mesh:
    """A roof with its ridge along x, `rise` metres above the eaves. The ridge is `hip` metres shorter at each end."""
    o = _EAVES
    corners = np.array([(-o, -o), (width + o, -o), (width + o, depth + o), (-o, depth + o)])
    low = np.column_stack([corners, np.full(4, eaves - o * 2 * rise / depth)])
    ridge = np.array([(hip - o, depth / 2, eaves + rise), (width + o - hip, depth / 2, eaves + rise)])
    vertices = np.concatenate([low, ridge])
    slopes = surface(vertices, [(0, 1, 5), (0, 5, 4), (2, 3, 4), (2, 4, 5)], "roof", tint)
    if hip > 0:
        return join([slopes, surface(vertices, [(3, 0, 4), (1, 2, 5)], "roof", tint)])
    ends = np.array([(x, y, z) for x in (0, width) for y, z in ((0, eaves), (depth, eaves), (depth / 2, eaves + rise))])
    return join([slopes, surface(ends, [(0, 1, 2), (3, 4, 5)], "concrete", gable)])


def house(
    rng: np.random.Generator, palette: Palette, width: float, depth: float, storeys: int
) -> tuple[Mesh, np.ndarray]:
    """A house of about `width` by `depth` metres, and the layout of its windows.

    Returns the mesh and (4,) float32, metres: bay, storey, window width, window height. The facade texture reads these
    four values.
    """
    ranges = palette.ranges
    storey = rng.uniform(*ranges.storey_height)
    bay = width / max(2, round(width / rng.uniform(1.9, 3.4)))
    depth = bay * max(2, round(depth / bay))
    eaves = storey * storeys + 0.35
    opening = (bay * rng.uniform(0.35, 0.62), storey * rng.uniform(0.4, 0.58))
    wall, roof = palette.facade(rng), palette.shade(rng, (0.0, 0.07), (0.1, 0.6), (0.25, 0.55))
    brick = rng.random() < 0.35
    material = "brick facade" if brick else "plaster facade"
    if brick:
        wall = palette.shade(rng, (0.0, 0.08), (0.3, 0.6), (0.4, 0.65))

    door = palette.shade(rng, (0.0, 1.0), (0.1, 0.7), (0.2, 0.5))
    # The door must be large enough to hide the window of its bay.
    doorway, lintel = max(0.5, opening[0] / 2 + 0.1), max(2.1, 0.53 * storey + opening[1] / 2 + 0.1)
    parts = [
        box((0, 0, 0), (width, depth, eaves), material, wall),
        box((-0.03, -0.03, -0.8), (width + 0.03, depth + 0.03, 0.4), "concrete", wall * 0.55),
        box((bay / 2 - doorway, -0.05, 0), (bay / 2 + doorway, 0.05, lintel), "planks", door),
        box((bay / 2 - 0.85, -0.7, 0), (bay / 2 + 0.85, 0, 0.16), "concrete", (0.3, 0.3, 0.29)),
    ]
    style = rng.choice(["gable", "hip", "flat"], p=[0.45, 0.25, 0.3] if storeys < 4 else [0.15, 0.2, 0.65])
    if style == "flat":
        rim = wall * 0.8
        parts.append(
            box((-0.15, -0.15, eaves), (width + 0.15, depth + 0.15, eaves + rng.uniform(0.2, 0.6)), "concrete", rim)
        )
    else:
        hip = min(width, depth) * 0.45 if style == "hip" else 0.0
        parts.append(_pitched(width, depth, eaves, depth * rng.uniform(0.25, 0.5), hip, roof, wall * 0.9))
        x = width * rng.uniform(0.25, 0.75)
        parts.append(
            box((x, depth * 0.42, eaves), (x + 0.6, depth * 0.42 + 0.5, eaves + 0.55 * depth), "bricks", roof * 0.8)
        )
    if storeys >= 2 and rng.random() < 0.45:
        slab = colour(0, 0, rng.uniform(0.5, 0.8))
        for level in range(1, storeys):
            for column in range(1, round(width / bay), 2):
                x, z = (column + 0.5) * bay, level * storey
                half = bay * 0.45
                parts.append(box((x - half, -1.1, z), (x + half, 0, z + 0.14), "concrete", slab))
                parts.append(box((x - half, -1.1, z + 0.14), (x + half, -1.05, z + 1.0), "metal", roof))
    return join(parts).labelled(BUILDING), np.array([bay, storey, *opening], np.float32)
