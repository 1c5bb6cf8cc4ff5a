"""Objects along the street: houses and gardens, parks, car parks, yards, parked vehicles and street furniture."""

from collections.abc import Callable

import numpy as np

from elite_pipeline.simulation import buildings, furniture
from elite_pipeline.simulation.catalogue import Maker
from elite_pipeline.simulation.ground import GRASS, OTHER, PARKING, REACH, SIDEWALK, SOIL
from elite_pipeline.simulation.mesh import Mesh
from elite_pipeline.simulation.palette import Palette
from elite_pipeline.simulation.site import Site
from elite_pipeline.simulation.traffic import deck

Junctions = list[tuple[float, float]]

_MAKERS: dict[str, Maker] = {
    "tree": furniture.tree,
    "bush": furniture.bush,
    "lamp": furniture.lamp_post,
    "sign": furniture.sign,
    "board": furniture.board,
    "light": furniture.traffic_light,
    "bollard": furniture.bollard,
    "pole": furniture.utility_pole,
    "bin": furniture.bin_or_box,
}


def draw_lots(site: Site, junctions: Junctions) -> None:
    """Fill both sides of the street, from the curb outwards, and close the view at both of its ends with trees."""
    start, stop = site.road.s[0] + 3, site.road.s[-1] - 3
    for side in (-1, 1):
        blocks = _blocks(start, stop, junctions, margin=2.0)
        for low, high in blocks:
            _line_with_lots(site, side, low, high)
        for low, high in _blocks(start, stop, junctions, margin=7.0):
            _park_vehicles(site, side, low, high)
            _furnish(site, side, low, high)
        _close_view(site, side, junctions)
    for s in (start, stop):
        for d in (-14.0, 0.0, 14.0):
            site.put_one(furniture.tree, s, d)


def _blocks(start: float, stop: float, junctions: Junctions, margin: float) -> list[tuple[float, float]]:
    """The intervals (low, high) of s between junctions.

    They keep `margin` metres clear of each crossing street. Intervals of 6 m or less are left out.
    """
    edges = [start, *(value for s, half in junctions for value in (s - half - margin, s + half + margin)), stop]
    return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if high - low > 6]


def _house(site: Site, side: int, s: float, d: float, width: float, depth: float, storeys: int) -> None:
    mesh, windows = buildings.house(site.rng, site.palette, width, depth, storeys)
    site.put(mesh, s if side > 0 else s + width, d, yaw=0.0 if side > 0 else np.pi, detail=windows)


def _barrier(site: Site, side: int, low: float, high: float, d: float) -> None:
    """A hedge or a fence along the street. It consists of short straight pieces and so follows the bends."""
    maker: Callable[[np.random.Generator, Palette, float], Mesh] = (
        furniture.hedge if site.rng.random() < 0.4 else furniture.fence
    )
    seed, pieces = int(site.rng.integers(1 << 32)), max(1, round((high - low) / 6))
    piece = (high - low) / pieces
    for index in range(pieces):
        mesh = maker(np.random.default_rng(seed), site.palette, piece)
        s = low + index * piece + (piece if side < 0 else 0)
        site.put(mesh, s, d, yaw=0.0 if side > 0 else np.pi)


def _line_with_lots(site: Site, side: int, low: float, high: float) -> None:
    rng, ranges = site.rng, site.palette.ranges
    kinds = deck(rng, ranges.decks.lots)
    s = low
    while s < high - 6:
        end = min(s + rng.uniform(*ranges.lot_length), high)
        if high - end < 7:
            end = high
        _LOTS[next(kinds)](site, side, s, end)
        s = end


def _storeys(site: Site) -> int:
    return int(site.rng.uniform(*site.palette.ranges.storeys))


def _garden(site: Site, side: int, low: float, high: float) -> None:
    """A house behind a front garden. A lot longer than 12 m also has a driveway."""
    rng, edge = site.rng, site.ground.profile(side).sidewalk
    setback = max(1.5, rng.uniform(*site.palette.ranges.setback))
    site.ground.fill((low, high), (side * edge, side * REACH), GRASS)
    if rng.random() < 0.5:
        site.ground.fill((low, high), (side * edge, side * (edge + setback)), OTHER if rng.random() < 0.6 else SOIL)
    drive = 3.2 if high - low > 12 else 0.0
    if drive:
        site.ground.fill((low, low + drive), (side * edge, side * (edge + 9)), PARKING)
        if rng.random() < 0.45:
            site.put_thing(10, low + drive / 2, side * (edge + rng.uniform(3.2, 6)), np.pi / 2 * rng.choice([-1, 1]))
    front, width = side * (edge + setback), high - low - drive - 1.6
    _house(site, side, low + drive + 0.8, front, width, rng.uniform(7, 11), min(_storeys(site), 3))
    if setback > 2.2:
        if rng.random() < 0.8:
            _barrier(site, side, low + drive, high, side * (edge + 0.3))
        for s in np.arange(low + drive + 1.5, high - 1, rng.uniform(2.5, 5)):
            maker = furniture.tree if setback > 5 and rng.random() < 0.25 else furniture.bush
            site.put_one(maker, s, side * (edge + setback * rng.uniform(0.4, 0.7)))
    for s in np.arange(low + 2, high, 9.0):
        site.put_one(furniture.tree, s, side * (edge + setback + rng.uniform(15, 24)))


def _terrace(site: Site, side: int, low: float, high: float) -> None:
    """A tall house at the sidewalk, as wide as its lot, so that neighbouring terraces touch."""
    rng, edge = site.rng, site.ground.profile(side).sidewalk
    site.ground.fill((low, high), (side * edge, side * (edge + 16)), SIDEWALK)
    front = side * (edge + rng.uniform(0.3, 1.0))
    _house(site, side, low, front, high - low, rng.uniform(8, 12), max(2, _storeys(site)))


def _park(site: Site, side: int, low: float, high: float) -> None:
    """Trees and bushes on grass or soil."""
    rng, edge = site.rng, site.ground.profile(side).sidewalk
    site.ground.fill((low, high), (side * edge, side * REACH), SOIL if rng.random() < 0.35 else GRASS)
    for _ in range(int((high - low) * rng.uniform(0.3, 0.7))):
        maker = furniture.tree if rng.random() < 0.6 else furniture.bush
        site.put_one(maker, rng.uniform(low + 1, high - 1), side * (edge + rng.uniform(1.5, 34)))
    if rng.random() < 0.5:
        _barrier(site, side, low, high, side * (edge + 0.4))
    site.put_thing(30, (low + high) / 2, side * (edge + 1.6), rng.uniform(0, 6.3))


def _car_park(site: Site, side: int, low: float, high: float) -> None:
    """Two rows of parked vehicles. Behind them are a hedge, a fence or a wall, and sometimes a house."""
    rng, edge = site.rng, site.ground.profile(side).sidewalk
    site.ground.fill((low, high), (side * edge, side * (edge + 17)), PARKING)
    site.ground.fill((low, high), (side * edge, side * (edge + 0.9)), OTHER)
    kinds = deck(rng, site.palette.ranges.decks.parked)
    for s in np.arange(low + 1.6, high - 1.5, 2.9):
        for row in (3.4, 12.5):
            if rng.random() < 0.6:
                raw = next(kinds)
                deep = 11.0 if raw == 18 else row  # a truck stands across the aisle between the rows
                site.put_thing(raw, s, side * (edge + deep + rng.uniform(-0.3, 0.3)), np.pi / 2 * rng.choice([-1, 1]))
    _barrier(site, side, low, high, side * (edge + 16.5))
    if rng.random() < 0.6:
        _house(site, side, low, side * (edge + 19), high - low, 10, _storeys(site))


def _yard(site: Site, side: int, low: float, high: float) -> None:
    """A yard of gravel or cobbles with a few vehicles and a rider, in front of a one-storey house."""
    rng, edge = site.rng, site.ground.profile(side).sidewalk
    site.ground.fill((low, high), (side * edge, side * (edge + 20)), OTHER)
    kinds = deck(rng, site.palette.ranges.decks.yard)
    for s in np.arange(low + 3, high - 3, 5.5):
        if rng.random() < 0.55:
            site.put_thing(next(kinds), s, side * (edge + rng.uniform(6, 13)), rng.uniform(0, 6.3))
    if rng.random() < 0.8:
        _barrier(site, side, low, high, side * (edge + 0.4))
    site.put_thing(rng.choice([31, 32]), low + 1.5, side * (edge + 2), rng.uniform(0, 6.3))
    _house(site, side, low, side * (edge + 21), high - low, 9, 1)


_LOTS = {"garden": _garden, "terrace": _terrace, "park": _park, "car park": _car_park, "yard": _yard}


def _park_vehicles(site: Site, side: int, low: float, high: float) -> None:
    """Park vehicles in the parking strip. Does nothing where the strip is missing or narrower than 1.9 m."""
    rng, p = site.rng, site.ground.profile(side)
    if p.parking - p.road < 1.9:
        return
    decks = site.palette.ranges.decks
    kinds, middle = deck(rng, decks.parked), (p.road + p.parking) / 2
    yaw = 0.0 if side < 0 else np.pi
    s = low + rng.uniform(3, 6)
    while s < high - 3:
        raw = next(kinds)
        long = 9.5 if raw == 18 else 5.8
        if rng.random() < 0.62 and s + long < high:
            at = s + long / 2
            if raw in (11, 15):
                count = rng.integers(1, decks.group + 1)
                for offset in np.linspace(-1.5, 1.5, decks.group)[:count]:
                    site.put_thing(raw, at + offset, side * middle, np.pi / 2 + rng.normal(0, 0.15))
            else:
                site.put_thing(raw, at, side * middle, yaw + rng.normal(0, 0.02))
        s += long


def _furnish(site: Site, side: int, low: float, high: float) -> None:
    """Put up street furniture.

    Trees and bushes stand on the verge. Poles, signs and bins stand on the verge or, without one, at the curb.
    Bicycles, motorcycles and persons stand at the far edge of the sidewalk.
    """
    rng, p = site.rng, site.ground.profile(side)
    line = (p.parking + p.verge) / 2 if p.verge - p.parking > 0.8 else p.parking + 0.35
    outer = p.sidewalk - 0.35
    if p.verge - p.parking > 0.8 and rng.random() < 0.4:
        site.ground.fill((low, high), (side * (p.parking + 0.2), side * p.verge), OTHER if rng.random() < 0.6 else SOIL)
    yaw = 0.0 if side < 0 else np.pi
    decks = site.palette.ranges.decks
    kinds = deck(rng, decks.furniture)
    for s in np.arange(low + rng.uniform(1, 4), high - 1, rng.uniform(*decks.furniture_apart)):
        kind = next(kinds)
        if kind == "bike":
            for offset in 0.75 * np.arange(rng.integers(1, decks.group + 1)):
                site.put_thing(
                    11, s + offset, side * outer, yaw + rng.normal(0, 0.15) + np.pi / 2 * (p.sidewalk - p.verge > 2.4)
                )
        elif kind == "motorcycle":
            site.put_thing(15, s, side * outer, yaw + rng.normal(0, 0.2))
        elif kind == "person":
            site.put_thing(30, s, side * outer, rng.uniform(0, 6.3))
        elif kind not in ("tree", "bush"):
            site.put_one(_MAKERS[kind], s, side * line, yaw + rng.normal(0, 0.06))
        elif p.verge - p.parking > 0.8:
            site.put_one(_MAKERS[kind], s, side * line)


def _close_view(site: Site, side: int, junctions: Junctions) -> None:
    """Close the view along each crossing street with a house. A car and a rider wait at the main street."""
    p = site.ground.profile(side)
    for s, half in junctions:
        lane, yaw = s - side * half / 2, -side * np.pi / 2
        _house(site, side, s - 9, side * (REACH - 12), 18, 9, 2)
        site.put_thing(10, lane, side * (p.sidewalk + 3.2), yaw)
        site.put_thing(site.rng.choice([31, 32]), lane, side * (p.sidewalk + 7.5), yaw)
