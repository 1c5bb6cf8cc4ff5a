"""The things of one world. Each kind has a few variants, which are made once and placed many times."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from elite_pipeline.simulation import people, vehicles
from elite_pipeline.simulation.mesh import Mesh
from elite_pipeline.simulation.palette import Palette

Maker = Callable[[np.random.Generator, Palette], Mesh]

MAKERS: dict[int, tuple[Maker, ...]] = {
    10: (vehicles.car,),
    11: (vehicles.bicycle,),
    13: (vehicles.bus,),
    15: (vehicles.motorcycle,),
    18: (vehicles.truck,),
    20: (vehicles.trailer, vehicles.tractor),
    30: (people.person,),
    31: (people.bicyclist,),
    32: (people.motorcyclist,),
    254: (people.pedestrian,),
}
"""Raw id of a thing -> the functions that make its mesh."""

_VARIANTS = {vehicles.car: 14, people.person: 8, people.pedestrian: 12, people.bicyclist: 6}


class Catalogue:
    """Draws meshes for one world. It makes new variants of a kind until there are enough, then reuses them."""

    def __init__(self, rng: np.random.Generator, palette: Palette) -> None:
        self.rng, self.palette = rng, palette
        self._variants: dict[Maker, list[Mesh]] = {}

    def draw(self, maker: Maker) -> Mesh:
        """A mesh made by `maker`, new or reused, in its own frame."""
        variants = self._variants.setdefault(maker, [])
        if len(variants) < _VARIANTS.get(maker, 5):
            variants.append(replace(maker(self.rng, self.palette), kind=maker.__name__))
            return variants[-1]
        return variants[self.rng.integers(len(variants))]

    def thing(self, raw: int) -> Mesh:
        """A vehicle or a person. All of its triangles have the raw id `raw`."""
        makers = MAKERS[raw]
        return self.draw(makers[self.rng.integers(len(makers))]).labelled(raw)
