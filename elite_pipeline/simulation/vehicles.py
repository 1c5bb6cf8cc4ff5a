"""Cars, vans, trucks, buses, trailers, tractors, bicycles and motorcycles.

Axes: x forward, y left, z up. They stand on z = 0.
"""

from itertools import pairwise

import numpy as np

from elite_pipeline.simulation.mesh import Mesh, ball, box, join, loft, tube
from elite_pipeline.simulation.palette import Palette, colour

_TYRE = colour(0, 0, 0.14)
_DARK = colour(0.6, 0.1, 0.17)
_PANE = colour(0.58, 0.2, 0.3)
_CHROME = colour(0, 0, 0.7)
_HEADLIGHT = (0.85, 0.85, 0.8)
_TAILLIGHT = (0.55, 0.02, 0.02)


def _section(x: float, half: float, low: float, high: float, chamfer: float) -> list[tuple[float, float, float]]:
    """Cross-section of a vehicle at x: 8 corners, with chamfered upper edges and a narrower sill."""
    waist = low + 0.55 * (high - low)
    return [
        (x, -0.9 * half, low),
        (x, -half, low + 0.3 * (high - low)),
        (x, -half, waist),
        (x, -half + chamfer, high),
        (x, half - chamfer, high),
        (x, half, waist),
        (x, half, low + 0.3 * (high - low)),
        (x, 0.9 * half, low),
    ]


def _wheel(x: float, y: float, radius: float, width: float = 0.2, rim: np.ndarray = _CHROME) -> Mesh:
    """A wheel with a hub cap. Its outer face points away from y = 0."""
    out = np.sign(y) or 1.0
    tyre = tube((x, y - out * width, radius), (x, y, radius), radius, "rubber", _TYRE, sides=14)
    hub = tube((x, y, radius), (x, y + 0.012 * out, radius), 0.62 * radius, "metal", rim, sides=10)
    return join([tyre, hub])


def _arch(x: float, y: float, radius: float) -> Mesh:
    """The dark wheel arch around a wheel."""
    out = np.sign(y)
    return tube((x, y - 0.1 * out, radius), (x, y - 0.006 * out, radius), 1.22 * radius, "plastic", _DARK, sides=14)


def _lights(x_front: float, x_rear: float, half: float, height: float) -> list[Mesh]:
    parts = []
    for side in (-1, 1):
        y = sorted((side * half * 0.55, side * half * 0.92))
        parts.append(box((x_front - 0.12, y[0], height - 0.07), (x_front, y[1], height + 0.07), "lamp", _HEADLIGHT))
        parts.append(box((x_rear, y[0], height), (x_rear + 0.12, y[1], height + 0.16), "lamp", _TAILLIGHT))
    parts.append(box((x_rear - 0.01, -0.25, height - 0.28), (x_rear + 0.1, 0.25, height - 0.16), "plastic", (0.8,) * 3))
    parts.append(box((x_front - 0.1, -0.5, height - 0.3), (x_front + 0.01, 0.5, height - 0.12), "plastic", _DARK))
    return parts


def car(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A hatchback, saloon, estate or van, 3.7 to 5 m long."""
    kind = rng.choice(4, p=[0.35, 0.25, 0.25, 0.15])
    length, half = rng.uniform(3.7, 4.2) if kind == 0 else rng.uniform(4.3, 4.9), rng.uniform(0.83, 0.93)
    height = rng.uniform(1.42, 1.55) + (0, -0.03, 0.12, 0.42)[kind]
    belt = 0.61 * height if kind < 3 else 0.55 * height
    nose, low, radius = 0.74 * belt, 0.2, rng.uniform(0.29, 0.34)
    front, rear = length / 2, -length / 2
    hood = front - (1.25, 1.35, 1.2, 0.8)[kind]
    tail = rear + (0.1, 0.95, 0.08, 0.05)[kind]
    paint = palette.paint(rng)

    stations = [
        _section(rear, 0.82 * half, low + 0.16, 0.86 * belt, 0.1),
        _section(rear + 0.14, 0.96 * half, low + 0.02, 0.97 * belt, 0.08),
        _section(rear + 0.7, half, low, belt, 0.07),
        _section(hood, half, low, belt, 0.07),
        _section(front - 0.55, 0.98 * half, low, 0.5 * (belt + nose) + 0.04, 0.1),
        _section(front - 0.14, 0.9 * half, low + 0.02, nose, 0.12),
        _section(front, 0.72 * half, low + 0.14, nose - 0.14, 0.1),
    ]
    base = (tail, hood + 0.08, 0.93 * half, belt - 0.01)
    roof = (tail + (0.42, 0.6, 0.3, 0.18)[kind], hood - (0.62, 0.7, 0.65, 0.6)[kind], 0.74 * half, height - 0.05)

    def outline(x0: float, x1: float, y: float, z: float) -> list[tuple[float, float, float]]:
        return [(x0, -y, z), (x1, -0.94 * y, z), (x1, 0.94 * y, z), (x0, y, z)]

    cap = (roof[0] + 0.1, roof[1] - 0.12, roof[2] - 0.08, height)
    parts = [
        loft(np.array(stations), "lacquer", paint),
        loft(np.array([outline(*base), outline(*roof)]), "glass", _PANE, caps=False),
        loft(np.array([outline(*roof), outline(*cap)]), "lacquer", paint),
    ]
    for bottom, top in zip(outline(*base), outline(*roof), strict=True):
        parts.append(tube(bottom, top, 0.045, "lacquer", paint, sides=4, caps=False))
    for share in (0.45,) if kind == 0 else (0.38, 0.72):
        for side in (-1, 1):
            bottom = (base[0] + (base[1] - base[0]) * (1 - share), side * base[2], base[3])
            top = (roof[0] + (roof[1] - roof[0]) * (1 - share), side * roof[2], roof[3])
            parts.append(tube(bottom, top, 0.04, "lacquer", paint * 0.8, sides=4, caps=False))
    for x in (front - 0.82, rear + 0.78):
        for side in (-1, 1):
            parts += [_arch(x, side * (half + 0.012), radius), _wheel(x, side * (half + 0.02), radius)]
    for side in (-1, 1):
        mirror = (hood - 0.25, side * (half + 0.08), belt + 0.06)
        parts.append(ball(mirror, (0.06, 0.1, 0.07), "lacquer", paint))
    return join(parts + _lights(front - 0.05, rear, half, nose - 0.12))


def truck(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A delivery truck: a cab, and a box body, a tarpaulin or an open bed."""
    length, half, height = rng.uniform(6.0, 8.5), rng.uniform(1.08, 1.22), rng.uniform(2.7, 3.4)
    front, rear = length / 2, -length / 2
    cab_paint, body_paint = palette.paint(rng), palette.paint(rng)
    cab_height, cab_rear = min(height - 0.2, rng.uniform(2.3, 2.7)), front - 1.9

    def ring(x0: float, x1: float, z: float) -> list[tuple[float, float, float]]:
        return [(x0, -half * 0.97, z), (x1, -half * 0.93, z), (x1, half * 0.93, z), (x0, half * 0.97, z)]

    parts = [
        loft(np.array([ring(cab_rear, front, 0.45), ring(cab_rear, front, 1.35)]), "lacquer", cab_paint),
        loft(np.array([ring(cab_rear, front, 1.35), ring(cab_rear, front - 0.25, cab_height - 0.3)]), "glass", _PANE),
        loft(
            np.array([ring(cab_rear, front - 0.25, cab_height - 0.3), ring(cab_rear, front - 0.45, cab_height)]),
            "lacquer",
            cab_paint,
        ),
        box((cab_rear, -half, 0.9), (cab_rear + 0.9, half, cab_height - 0.05), "lacquer", cab_paint),
        box((rear, -half * 0.6, 0.55), (cab_rear, half * 0.6, 0.85), "metal", _DARK),
        box((front - 0.1, -half, 0.35), (front + 0.05, half, 0.75), "plastic", _DARK),
    ]
    top = height if rng.random() < 0.8 else 1.5
    material = rng.choice(["lacquer", "cloth"])
    parts.append(box((rear, -half, 0.85), (cab_rear - 0.15, half, top), str(material), body_paint))
    parts.append(box((rear - 0.02, -half - 0.01, 0.8), (cab_rear - 0.15, half + 0.01, 0.95), "metal", _DARK))
    for x in (front - 1.1, rear + 1.3, *((rear + 2.4,) if length > 7.5 else ())):
        parts += [_wheel(x, side * half, 0.47, 0.32) for side in (-1, 1)]
    return join(parts + _lights(front + 0.06, rear - 0.05, half, 0.62))


def bus(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A city bus with a band of windows, 9 to 12 m long."""
    length, half, height = rng.uniform(9.0, 12.0), 1.24, rng.uniform(2.9, 3.15)
    front, rear = length / 2, -length / 2
    paint, trim = colour(rng.random(), rng.uniform(0.3, 0.85), rng.uniform(0.45, 0.9)), palette.paint(rng)
    parts = [
        box((rear, -half, 0.3), (front, half, 1.15), "lacquer", paint),
        box((rear + 0.05, -half + 0.03, 1.15), (front - 0.06, half - 0.03, 2.45), "glass", _PANE),
        box((rear, -half, 2.45), (front, half, height), "lacquer", trim),
        box((rear, -half, 1.15), (rear + 1.2, half, 2.45), "lacquer", paint),
        box((front - 0.02, -0.8, 2.55), (front + 0.01, 0.8, height - 0.1), "lamp", (0.5, 0.25, 0.02)),
    ]
    for x in np.arange(rear + 2.4, front - 0.5, 1.6):
        parts.append(box((x, -half - 0.004, 1.1), (x + 0.09, half + 0.004, 2.5), "lacquer", trim))
    for x in (front - 2.5, rear + 2.8):
        for side in (-1, 1):
            parts += [_arch(x, side * (half + 0.012), 0.48), _wheel(x, side * (half + 0.02), 0.48, 0.3)]
    return join(parts + _lights(front + 0.02, rear - 0.02, half, 0.75))


def trailer(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A caravan or a box trailer, of the class other-vehicle."""
    length, half, height = rng.uniform(3.6, 5.6), rng.uniform(0.95, 1.12), rng.uniform(2.0, 2.55)
    front, rear = length / 2, -length / 2
    paint, stripe = colour(0.1, 0.05, rng.uniform(0.7, 0.95)), palette.cloth(rng)
    stations = [
        _section(rear, 0.95 * half, 0.5, height - 0.1, 0.12),
        _section(rear + 0.2, half, 0.4, height, 0.1),
        _section(front - 0.5, half, 0.4, height, 0.1),
        _section(front, 0.95 * half, 0.5, 0.72 * height, 0.12),
    ]
    parts = [
        loft(np.array(stations), "lacquer", paint),
        box((rear + 0.1, -half - 0.01, 0.75), (front - 0.3, half + 0.01, 1.0), "lacquer", stripe),
        box((rear + 0.6, -half - 0.015, 1.2), (front - 1.2, half + 0.015, 1.75), "glass", _PANE),
        box((rear - 0.01, -0.6 * half, 1.15), (rear + 0.1, 0.6 * half, 1.75), "glass", _PANE),
        tube((front - 0.2, 0, 0.45), (front + 1.0, 0, 0.42), 0.06, "metal", _DARK),
    ]
    parts += [_wheel(-0.1, side * (half + 0.02), 0.32) for side in (-1, 1)]
    return join(parts)


def tractor(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A tractor with a glazed cab, of the class other-vehicle."""
    paint, rim = colour(rng.choice([0.0, 0.08, 0.3, 0.6]), 0.8, rng.uniform(0.4, 0.7)), colour(0.13, 0.8, 0.7)
    parts = [
        loft(
            np.array([_section(x, 0.42, 0.75, z, 0.1) for x, z in ((0.1, 1.5), (1.3, 1.45), (1.75, 1.25))]),
            "lacquer",
            paint,
        ),
        box((-1.1, -0.62, 0.8), (0.2, 0.62, 1.35), "lacquer", paint),
        box((-1.05, -0.6, 1.35), (0.15, 0.6, 2.35), "glass", _PANE),
        box((-1.2, -0.7, 2.35), (0.25, 0.7, 2.5), "lacquer", paint),
        tube((1.0, 0.3, 1.4), (1.0, 0.3, 2.3), 0.05, "metal", _DARK),
    ]
    for side in (-1, 1):
        parts += [_wheel(-0.7, side * 0.98, 0.78, 0.42, rim), _wheel(1.25, side * 0.9, 0.46, 0.28, rim)]
    return join(parts)


def _ring_wheel(x: float, radius: float, thickness: float, spokes: int, rim: np.ndarray) -> list[Mesh]:
    """A thin wheel in the plane y = 0: a tyre made of short tubes, and spokes."""
    angles = np.linspace(0, 2 * np.pi, 13)
    points = np.stack([x + radius * np.cos(angles), 0 * angles, radius * (1 + np.sin(angles)) + thickness], 1)
    parts = [tube(a, b, thickness, "rubber", _TYRE, sides=4, caps=False) for a, b in pairwise(points)]
    hub = (x, 0, radius + thickness)
    return parts + [
        tube(hub, points[i * 12 // spokes], 0.008, "metal", rim, sides=3, caps=False) for i in range(spokes)
    ]


def bicycle(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A bicycle, 1.7 m long."""
    paint = palette.cloth(rng)
    rear, front, crank, seat, head = (
        (-0.5, 0, 0.35),
        (0.55, 0, 0.35),
        (-0.08, 0, 0.3),
        (-0.22, 0, 0.85),
        (0.38, 0, 0.82),
    )
    bars = [(rear, crank), (rear, seat), (crank, seat), (crank, head), (seat, head), (head, front)]
    parts = [tube(a, b, 0.028, "lacquer", paint, sides=5) for a, b in bars]
    parts += _ring_wheel(-0.5, 0.31, 0.03, 6, _CHROME) + _ring_wheel(0.55, 0.31, 0.03, 6, _CHROME)
    parts += [
        tube(head, (0.36, 0, 1.0), 0.022, "metal", _CHROME, sides=5),
        tube((0.3, -0.27, 1.02), (0.3, 0.27, 1.02), 0.022, "metal", _DARK, sides=5),
        box((-0.36, -0.07, 0.88), (-0.1, 0.07, 0.95), "plastic", _DARK),
    ]
    if rng.random() < 0.4:
        parts.append(box((0.45, -0.16, 0.8), (0.75, 0.16, 1.02), "planks", palette.wood))
    return join(parts)


def motorcycle(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A motorcycle, or a scooter with a leg shield, about 2 m long."""
    paint, scooter = palette.paint(rng), rng.random() < 0.45
    radius, width = (0.24, 0.13) if scooter else (0.31, 0.14)
    parts = []
    for x in (-0.62, 0.68):
        parts.append(tube((x, -width / 2, radius), (x, width / 2, radius), radius, "rubber", _TYRE, sides=14))
        parts.append(
            tube((x, -width / 2 - 0.02, radius), (x, width / 2 + 0.02, radius), 0.55 * radius, "metal", _CHROME)
        )
    parts += [
        tube((0.68, 0, radius), (0.38, 0, 0.98), 0.05, "metal", _CHROME),
        tube((0.4, -0.36, 1.02), (0.4, 0.36, 1.02), 0.028, "metal", _DARK),
        ball((0.5, 0, 0.9), (0.1, 0.12, 0.11), "lamp", _HEADLIGHT),
        ball((-0.42, 0, 0.76), (0.42, 0.15, 0.09), "plastic", _DARK),
        box((-0.92, -0.1, 0.6), (-0.84, 0.1, 0.7), "lamp", _TAILLIGHT),
    ]
    if scooter:
        parts += [
            loft(
                np.array([_section(-0.85, 0.16, 0.35, 0.68, 0.04), _section(0.0, 0.2, 0.25, 0.72, 0.05)]),
                "lacquer",
                paint,
            ),
            box((-0.05, -0.18, 0.22), (0.45, 0.18, 0.3), "lacquer", paint),
            loft(
                np.array([_section(0.38, 0.22, 0.25, 1.0, 0.06), _section(0.48, 0.18, 0.25, 0.95, 0.06)]),
                "lacquer",
                paint,
            ),
        ]
    else:
        parts += [
            ball((0.12, 0, 0.8), (0.34, 0.18, 0.17), "lacquer", paint),
            ball((0.05, 0, 0.45), (0.34, 0.2, 0.22), "metal", _DARK),
            tube((-0.15, 0.2, 0.32), (-0.85, 0.22, 0.42), 0.06, "metal", _CHROME),
            ball((-0.66, 0, 0.68), (0.26, 0.1, 0.07), "lacquer", paint),
        ]
    return join(parts)
