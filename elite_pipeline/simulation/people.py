"""Pedestrians, bicyclists and motorcyclists. Axes: x forward, y left, z up. They stand on z = 0."""

import numpy as np

from elite_pipeline.simulation.mesh import Mesh, ball, box, join, tube
from elite_pipeline.simulation.palette import Palette, colour
from elite_pipeline.simulation.vehicles import bicycle, motorcycle

Point = tuple[float, float, float]

_SHOE = colour(0.07, 0.2, 0.2)


def _limb(points: list[Point], radii: tuple[float, ...], material: str, tint: np.ndarray) -> list[Mesh]:
    pairs = zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
    return [tube(a, b, (ra, rb), material, tint, caps=False) for a, b, ra, rb in pairs]


def _figure(
    rng: np.random.Generator,
    palette: Palette,
    *,
    hip: Point,
    shoulder: Point,
    knees: tuple[Point, Point],
    feet: tuple[Point, Point],
    hands: tuple[Point, Point],
    helmet: bool,
) -> Mesh:
    """The body of a person whose joints are at the given positions, metres."""
    shirt, trousers = palette.cloth(rng), colour(rng.uniform(0.5, 0.75), rng.uniform(0, 0.5), rng.uniform(0.12, 0.5))
    skin = colour(rng.uniform(0.04, 0.09), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.85))
    hair = palette.cloth(rng) if helmet else colour(0.08, 0.5, rng.uniform(0.08, 0.5))
    (hx, _, hz), (sx, _, sz) = hip, shoulder
    parts = [
        tube((hx, 0, hz - 0.06), ((hx + sx) / 2, 0, (hz + sz) / 2), (0.16, 0.165), "cloth", shirt, sides=8),
        tube(((hx + sx) / 2, 0, (hz + sz) / 2), (sx, 0, sz + 0.04), (0.165, 0.13), "cloth", shirt, sides=8),
        tube((sx, 0, sz), (sx + 0.03, 0, sz + 0.14), 0.055, "skin", skin),
        ball((sx + 0.05, 0, sz + 0.23), (0.1, 0.085, 0.125), "skin", skin),
        ball((sx + 0.03, 0, sz + 0.275), (0.115, 0.1, 0.1), "plastic" if helmet else "cloth", hair),
    ]
    for side, knee, foot, hand in zip((-1, 1), knees, feet, hands, strict=True):
        parts += _limb([(hx, side * 0.09, hz), knee, foot], (0.095, 0.07, 0.05), "cloth", trousers)
        ankle = np.array(foot)
        parts.append(box(ankle - np.array((0.08, 0.045, 0.07)), ankle + np.array((0.17, 0.045, 0.03)), "rubber", _SHOE))
        elbow = tuple((np.array((sx, side * 0.2, sz)) + hand) / 2 + (-0.04, side * 0.03, -0.03))
        parts += _limb([(sx, side * 0.17, sz), elbow, hand], (0.06, 0.05, 0.04), "cloth", shirt)
        parts.append(ball(hand, (0.05, 0.04, 0.05), "skin", skin))
    return join(parts)


def person(rng: np.random.Generator, palette: Palette, *, walking: bool = False) -> Mesh:
    """A standing or walking person of 1.55 to 1.9 m, sometimes with a bag."""
    stride = rng.uniform(0.18, 0.32) if walking else rng.uniform(0.0, 0.05)
    figure = _figure(
        rng,
        palette,
        hip=(0, 0, 0.9),
        shoulder=(0.02, 0, 1.42),
        knees=((stride * 0.7, -0.1, 0.5), (-stride * 0.3, 0.1, 0.49)),
        feet=((stride, -0.1, 0.07), (-stride, 0.1, 0.09)),
        hands=((-stride * 0.8, -0.28, 0.86), (stride * 0.8, 0.28, 0.88)),
        helmet=False,
    )
    if rng.random() < 0.35:
        bag = box((-0.32, -0.16, 0.95), (-0.14, 0.16, 1.4), "cloth", palette.cloth(rng))
        figure = join([figure, bag])
    size = rng.uniform(0.92, 1.12)
    return figure.moved(np.diag([size, size, size, 1.0]))


def pedestrian(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A walking person."""
    return person(rng, palette, walking=True)


def bicyclist(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A person riding a bicycle."""
    rider = _figure(
        rng,
        palette,
        hip=(-0.2, 0, 1.0),
        shoulder=(0.08, 0, 1.46),
        knees=((0.18, -0.12, 0.78), (0.12, 0.12, 0.62)),
        feet=((0.0, -0.11, 0.42), (-0.12, 0.11, 0.24)),
        hands=((0.32, -0.24, 1.06), (0.32, 0.24, 1.06)),
        helmet=rng.random() < 0.6,
    )
    return join([bicycle(rng, palette), rider])


def motorcyclist(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A person riding a motorcycle."""
    rider = _figure(
        rng,
        palette,
        hip=(-0.38, 0, 0.9),
        shoulder=(-0.12, 0, 1.38),
        knees=((0.08, -0.24, 0.76), (0.08, 0.24, 0.76)),
        feet=((-0.05, -0.22, 0.36), (-0.05, 0.22, 0.36)),
        hands=((0.38, -0.32, 1.06), (0.38, 0.32, 1.06)),
        helmet=True,
    )
    return join([motorcycle(rng, palette), rider])
