"""Render views of random simulated places into a folder, once.

This module does not import torch, so that the render processes start quickly.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elite_pipeline.progress import progress
from elite_pipeline.simulation.raw_ids import simulated_classes

if TYPE_CHECKING:
    from elite_pipeline.simulation import RenderedView


@dataclass(frozen=True)
class Views:
    """N rendered views, with the renderer's ground truth for each pixel."""

    rgb: np.ndarray
    """(N, H, W, 3) uint8."""
    material: np.ndarray
    """(N, H, W) uint8."""
    normal: np.ndarray
    """(N, H, W, 3) int8: 127 times the unit normal, camera frame (x right, y down, z forward)."""
    depth: np.ndarray
    """(N, H, W) float16 metres; 0 = sky."""
    region: np.ndarray
    """(N, H, W) uint16."""
    height: np.ndarray
    """(N, H, W) float16 metres above the road."""
    extent: np.ndarray
    """(N, H, W, 2) float16 metres: height and length of the pixel's region."""
    semantic: np.ndarray
    """(N, H, W) uint8 training ids. Only the control that is trained with class names uses them."""

    def __len__(self) -> int:
        return len(self.rgb)

    def __getitem__(self, some: slice) -> "Views":
        """The views of a slice."""
        return Views(**{field.name: getattr(self, field.name)[some] for field in fields(Views)})

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W)."""
        return self.rgb.shape[1:3]


def render(
    folder: Path, *, worlds: int, views_per_world: int, height: int, width: int, seed: int, processes: int
) -> Views:
    """Return the `Views` of the worlds with the seeds `seed` .. `seed + worlds - 1`.

    Worlds that `folder` already holds are read; the others are rendered into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (folder / f"{seed + i}_{views_per_world}_{height}x{width}.npz", seed + i, views_per_world, height, width)
        for i in range(worlds)
    ]
    missing = [job for job in jobs if not job[0].exists()]
    if missing:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            for _ in progress(pool.map(_render_world, missing), label="render views", total=len(missing), unit="world"):
                pass
    return read([job[0] for job in jobs])


def read(paths: Iterable[Path]) -> Views:
    """Return the `Views` in files that `render` wrote, in the order of `paths`."""
    files = [np.load(path) for path in paths]
    return Views(**{field.name: np.concatenate([file[field.name] for file in files]) for field in fields(Views)})


def _render_world(job: tuple[Path, int, int, int, int]) -> None:
    path, seed, count, height, width = job
    from elite_pipeline.simulation import random_views

    views = pack(random_views(seed, count, width, height))
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **{field.name: getattr(views, field.name) for field in fields(Views)})
    os.replace(partial, path)


def pack(views: "Iterable[RenderedView]") -> Views:
    """Convert rendered views to `Views`."""
    views = list(views)
    return Views(
        rgb=np.stack([view.rgb for view in views]),
        material=np.stack([view.material for view in views]),
        normal=np.stack([np.rint(127 * view.normal.astype(np.float32)).astype(np.int8) for view in views]),
        depth=np.stack([view.depth.astype(np.float16) for view in views]),
        region=np.stack([view.region for view in views]),
        height=np.stack([view.height.astype(np.float16) for view in views]),
        extent=np.stack([view.extent.astype(np.float16) for view in views]),
        semantic=np.stack([simulated_classes().of_raw(view.semantic) for view in views]),
    )
