"""Objects beside a street: plants, poles, signs, barriers and bins. All of them stand on z = 0."""

import numpy as np

from elite_pipeline.simulation.mesh import Mesh, Vector, ball, box, join, leaves, surface, tube
from elite_pipeline.simulation.palette import Palette, colour

FENCE, VEGETATION, TRUNK, POLE, SIGN, OTHER_OBJECT = 51, 70, 71, 80, 81, 99


def _sphere(rng: np.random.Generator, count: int) -> np.ndarray:
    points = rng.normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _clump(
    rng: np.random.Generator, centre: Vector, radii: Vector, count: int, size: float, tint: Vector
) -> list[Mesh]:
    """Leaves on the surface of an ellipsoid, and a dark core inside it."""
    outward = _sphere(rng, count)
    points = np.asarray(centre) + outward * np.asarray(radii) * rng.uniform(0.8, 1.08, (count, 1))
    core = ball(centre, np.asarray(radii) * 0.8, "foliage", np.asarray(tint) * 0.45, semantic=VEGETATION)
    return [leaves(rng, points, outward, size, tint, semantic=VEGETATION), core]


def tree(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A broad-leaved tree, a conifer or a slender tree."""
    height, tint = rng.uniform(*palette.ranges.tree_height), palette.leaf(rng)
    radius = rng.uniform(0.018, 0.03) * height
    bark = colour(rng.uniform(0.04, 0.1), rng.uniform(0.1, 0.4), rng.uniform(0.25, 0.5))
    kind = rng.choice(3, p=[0.6, 0.2, 0.2])
    bare = height * (0.3, 0.12, 0.22)[kind] + 0.6
    lean = rng.normal(0, 0.02, 2) * height
    bole, top = (lean[0] / 2, lean[1] / 2, bare), (lean[0], lean[1], height * 0.8)
    parts = [
        tube((0, 0, -0.3), bole, (1.25 * radius, radius), "bark", bark, sides=8, semantic=TRUNK),
        tube(bole, top, (radius, 0.3 * radius), "bark", bark, sides=6, semantic=TRUNK),
    ]
    if kind == 0:
        for _ in range(5):
            side = np.append(rng.normal(0, 0.13 * height, 2), rng.uniform(bare + 0.15 * height, 0.85 * height))
            reach = height * rng.uniform(0.14, 0.22)
            parts.append(tube((lean[0] / 2, lean[1] / 2, bare - 0.1), side, 0.4 * radius, "bark", bark, semantic=TRUNK))
            parts += _clump(rng, side, (reach, reach, 0.8 * reach), 110, 0.11 * reach + 0.16, tint)
    elif kind == 1:
        for share in np.linspace(0, 1, 6):
            reach = height * (0.2 * (1 - share) + 0.03)
            centre = (*lean, bare + 0.07 * height + share * (height * 0.93 - bare))
            parts += _clump(rng, centre, (reach, reach, 0.1 * height), 80, 0.22, tint * 0.8)
    else:
        reach = height * rng.uniform(0.13, 0.19)
        parts += _clump(rng, (*lean, 0.5 * (bare + height)), (reach, reach, 0.5 * (height - bare)), 420, 0.26, tint)
    return join(parts)


def bush(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A bush of 0.6 to 1.6 m."""
    radius, tint = rng.uniform(0.4, 0.9), palette.leaf(rng)
    return join(_clump(rng, (0, 0, 0.75 * radius), (radius, radius, 0.85 * radius), 130, 0.17, tint))


def hedge(rng: np.random.Generator, palette: Palette, length: float) -> Mesh:
    """A clipped hedge along x from 0 to `length`."""
    height, half, tint = rng.uniform(0.8, 2.0), rng.uniform(0.3, 0.55), palette.leaf(rng)
    core = np.array(palette.leaf(rng)) * 0.5
    count = int(min(900, 50 * length))
    side = rng.choice(5, count, p=[0.35, 0.35, 0.22, 0.04, 0.04])
    outward = np.array([(0, 1, 0), (0, -1, 0), (0, 0, 1), (1, 0, 0), (-1, 0, 0)], float)[side]
    points = rng.uniform((0, -half, 0.05), (length, half, height), (count, 3))
    flat = np.abs(outward) > 0
    edge = np.where(outward > 0, (length, half, height), (0, -half, 0.05))
    points = np.where(flat, edge, points) + rng.normal(0, 0.035, (count, 3))
    inner = box((0.05, -half + 0.05, -0.3), (length - 0.05, half - 0.05, height - 0.05), "foliage", core)
    return join([leaves(rng, points, outward, 0.15, tint, semantic=VEGETATION), inner.labelled(VEGETATION)])


def fence(rng: np.random.Generator, palette: Palette, length: float) -> Mesh:
    """A fence along x from 0 to `length`: planks, pickets, rails, a low wall or a crash barrier."""
    kind = rng.choice(["planks", "pickets", "rails", "bricks", "stonework", "concrete", "barrier"])
    wood = palette.shade(rng, (0.04, 0.12), (0.1, 0.5), (0.3, 0.75))
    steel = palette.shade(rng, (0.3, 0.6), (0.0, 0.4), (0.15, 0.6))
    if kind == "planks":
        return box((0, -0.03, -0.3), (length, 0.03, rng.uniform(1.2, 1.9)), "planks", wood, semantic=FENCE)
    if kind in ("bricks", "stonework", "concrete"):
        tint, height = palette.facade(rng) * 0.8, rng.uniform(0.5, 1.7)
        wall = box((0, -0.12, -0.3), (length, 0.12, height), kind, tint, semantic=FENCE)
        cap = box((0, -0.16, height), (length, 0.16, height + 0.07), "concrete", (0.4, 0.39, 0.37), semantic=FENCE)
        return join([wall, cap])
    posts = np.linspace(0.05, length - 0.05, max(2, round(length / 2.2)))
    if kind == "barrier":
        rail = box((0, -0.04, 0.45), (length, 0.04, 0.78), "metal", colour(0, 0, 0.65))
        return join([rail, *(box((x - 0.05, 0, -0.3), (x + 0.05, 0.1, 0.7), "metal", steel) for x in posts)]).labelled(
            FENCE
        )
    height = rng.uniform(0.9, 1.4)
    rails = [box((0, -0.03, z), (length, 0.03, z + 0.08), "planks", wood) for z in (0.25, height - 0.25)]
    if kind == "pickets":
        rails += [box((x, 0.03, 0), (x + 0.1, 0.055, height), "planks", wood) for x in np.arange(0, length - 0.1, 0.22)]
    else:
        rails += [box((0, -0.02, 0.55 * height), (length, 0.02, 0.55 * height + 0.07), "metal", steel)]
        rails += [
            box((x, -0.012, 0), (x + 0.025, 0.012, height), "metal", steel) for x in np.arange(0, length - 0.1, 0.3)
        ]
    rails += [box((x - 0.05, -0.05, -0.3), (x + 0.05, 0.05, height + 0.05), "planks", wood) for x in posts]
    return join(rails).labelled(FENCE)


def lamp_post(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A street lamp with an arm that points to the left."""
    height, reach, tint = (
        rng.uniform(5.5, 8.0),
        rng.uniform(0.8, 1.8),
        colour(0.4, rng.uniform(0, 0.3), rng.uniform(0.25, 0.6)),
    )
    parts = [
        tube((0, 0, -0.3), (0, 0, 1.0), 0.1, "metal", tint),
        tube((0, 0, 1.0), (0, 0, height), (0.075, 0.05), "metal", tint),
        tube((0, 0, height - 0.05), (0, reach, height + 0.2), 0.04, "metal", tint),
        box((-0.12, reach - 0.1, height + 0.14), (0.12, reach + 0.45, height + 0.26), "metal", tint),
    ]
    return join(parts).labelled(POLE)


def bollard(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A bollard, 0.9 m high."""
    tint = colour(rng.random(), rng.choice([0.0, 0.7]), rng.uniform(0.15, 0.7))
    return tube((0, 0, -0.2), (0, 0, 0.9), (0.07, 0.06), "metal", tint, semantic=POLE)


def utility_pole(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A wooden pole, about as thick as a young trunk."""
    height = rng.uniform(6.5, 9.0)
    pole = tube((0, 0, -0.3), (0, 0, height), (0.15, 0.1), "bark", palette.wood * 0.8, sides=8)
    arm = tube((-0.8, 0, height - 0.4), (0.8, 0, height - 0.4), 0.06, "planks", palette.wood * 0.7, sides=4)
    return join([pole, arm]).labelled(POLE)


def sign(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A traffic sign on its pole. It faces -x."""
    height, radius = rng.uniform(*palette.ranges.decks.sign_height), rng.uniform(0.32, 0.45)
    corners, turn = ((24, 0.0), (3, np.pi / 2), (4, np.pi / 4), (8, np.pi / 8), (4, 0.0))[rng.choice(5)]
    tint = ((0.55, 0.02, 0.03), (0.02, 0.1, 0.5), (0.7, 0.5, 0.03), (0.03, 0.3, 0.1))[
        rng.choice(4, p=[0.4, 0.35, 0.15, 0.1])
    ]
    angle = turn + np.arange(corners) * 2 * np.pi / corners
    face = np.stack([np.cos(angle), np.sin(angle)], 1)
    rim = np.column_stack([np.full(corners, -0.07), radius * face[:, 0], height + radius * face[:, 1]])
    fan = np.stack([np.zeros(corners - 2, int), np.arange(1, corners - 1), np.arange(2, corners)], 1)
    plate = surface(rim, fan, "sign", tint, uv=(face * (1.0 if corners > 4 else 0.9))[fan], semantic=SIGN)
    back = surface(rim + np.array((0.02, 0, 0)), fan, "metal", (0.3, 0.31, 0.32), semantic=SIGN)
    pole = tube((0, 0, -0.2), (0, 0, height + 0.3), 0.04, "metal", (0.36, 0.37, 0.38), semantic=POLE)
    return join([plate, back, pole])


def board(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A direction board or a warning board on two poles. It faces -x."""
    half, low = rng.uniform(0.6, 1.3), rng.uniform(0.4, 1.3)
    high = low + rng.uniform(0.7, 1.4)
    tint = ((0.02, 0.1, 0.5), (0.03, 0.3, 0.1), (0.7, 0.5, 0.03), (0.55, 0.02, 0.03))[rng.choice(4)]
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    rim = np.column_stack([np.full(4, -0.07), half * corners[:, 0], np.where(corners[:, 1] < 0, low, high)])
    fan = [(0, 1, 2), (0, 2, 3)]
    face = surface(rim, fan, "sign", tint, uv=corners[np.array(fan)], semantic=SIGN)
    back = surface(rim + np.array((0.02, 0, 0)), fan, "metal", (0.3, 0.31, 0.32), semantic=SIGN)
    poles = [
        tube((0, y, -0.2), (0, y, high), 0.045, "metal", (0.36, 0.37, 0.38), semantic=POLE)
        for y in (-0.7 * half, 0.7 * half)
    ]
    return join([face, back, *poles])


def traffic_light(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A traffic light on its pole. It faces -x. The case and the lamps are labelled as a traffic sign."""
    case = box((-0.2, -0.16, 2.5), (0.02, 0.16, 3.4), "plastic", (0.02, 0.022, 0.02), semantic=SIGN)
    on = rng.choice(3)
    tints = [(0.75, 0.02, 0.02), (0.75, 0.4, 0.02), (0.03, 0.6, 0.15)]
    lamps = [
        ball(
            (-0.21, 0, 3.25 - 0.28 * i), (0.04, 0.1, 0.1), "lamp", np.array(t) * (1 if i == on else 0.12), semantic=SIGN
        )
        for i, t in enumerate(tints)
    ]
    pole = tube((0.1, 0, -0.2), (0.1, 0, 3.5), 0.07, "metal", (0.2, 0.21, 0.2), semantic=POLE)
    return join([case, *lamps, pole])


def bin_or_box(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A wheeled bin or a switch cabinet. No evaluated class covers these objects."""
    width, height = rng.uniform(0.28, 0.45), rng.uniform(0.8, 1.15)
    tint = palette.shade(rng, (0.25, 0.6), (0.0, 0.6), (0.15, 0.6))
    return box((-0.3, -width, 0), (0.3, width, height), "plastic", tint, semantic=OTHER_OBJECT)
