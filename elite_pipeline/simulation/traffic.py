"""Moving things: traffic at about the speed of the ego vehicle, oncoming traffic, riders at the road edge, pedestrians.

All of them keep their lanes. The speeds in a shared lane are chosen so that no two of them meet. Nothing therefore
drives through the ego vehicle.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import TypeVar

import numpy as np

from elite_pipeline.simulation.catalogue import MAKERS, Catalogue
from elite_pipeline.simulation.ground import Ground
from elite_pipeline.simulation.site import AHEAD, BEHIND, EGO_SPEED, MOVING, Mover

Card = TypeVar("Card")

_GAP = 15.0


def deck(rng: np.random.Generator, cards: tuple[Card, ...]) -> Iterator[Card]:
    """Yield the cards in shuffled order, again and again. Any `2 * len(cards)` draws in a row contain every card."""
    while True:
        yield from (cards[index] for index in rng.permutation(len(cards)))


def draw_movers(catalogue: Catalogue, ground: Ground, length: float, duration: float) -> tuple[Mover, ...]:
    """Random traffic for a drive of `length` metres and `duration` seconds."""
    rng, decks, movers = catalogue.rng, catalogue.palette.ranges.decks, []

    def add(raw: int, start: float, d: float, speed: float) -> None:
        moving = MOVING[raw]
        mesh = catalogue.thing(moving if moving in MAKERS else raw)
        movers.append(Mover(mesh.labelled(moving), start, d, speed))

    width = ground.right.road
    lane, edge = 0.42 * width, width - 0.5
    leader = EGO_SPEED + rng.uniform(-0.5, 0.5) * min(1.0, 10.0 / max(duration, 1.0))
    ahead = rng.uniform(20, 32)
    add(int(rng.choice([10, 10, 32])), ahead, -lane, leader)
    add(int(rng.choice([10, 18, 13], p=[0.4, 0.4, 0.2])), ahead + rng.uniform(20, 35), -lane, leader)
    add(10, -rng.uniform(20, 30), -lane, EGO_SPEED - rng.uniform(0, 0.3) * min(1.0, 10.0 / max(duration, 1.0)))

    cards, speed = deck(rng, decks.oncoming), -rng.uniform(7, 11)
    s = -BEHIND + rng.uniform(10, 40)
    while s < length - speed * duration + AHEAD:
        add(next(cards), s, lane, speed)
        s += _GAP + rng.uniform(0, 22)
    # One kind needs no deck, which would draw random numbers and so change the worlds of `streets`.
    kinds = set(decks.riders)
    riders = deck(rng, decks.riders) if len(kinds) > 1 else repeat(kinds.pop())
    for side in (-1, 1):
        speed = -side * rng.uniform(3.8, 5.0)
        s = -BEHIND + rng.uniform(0, 30) - max(speed, 0) * duration
        while s < length + AHEAD - min(speed, 0) * duration:
            add(next(riders), s, side * edge, speed)
            s += rng.uniform(*decks.riders_apart)
    for side in (-1, 1):
        p = ground.profile(side)
        for speed in (-1, 1) * rng.uniform(1.1, 1.6, 2):
            s = -BEHIND + rng.uniform(0, 20) - max(speed, 0) * duration
            while s < length + AHEAD - min(speed, 0) * duration:
                add(30, s, side * (0.5 * (p.verge + p.sidewalk) + 0.22 * np.sign(speed)), speed)
                s += rng.uniform(*decks.walkers_apart)
    return tuple(movers)
