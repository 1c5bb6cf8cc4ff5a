"""Writes labelled images of random places, without LiDAR and without drives.

An image segmentation network is trained on these images.
"""

import json
import os
import shutil
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from PIL import Image

from elite_pipeline import sources
from elite_pipeline.config import SimulateImages
from elite_pipeline.datasets.classes import IGNORE, RAW_IDS, UNKNOWN, ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.marker import MARKER, refuse_recordings
from elite_pipeline.progress import progress
from elite_pipeline.provenance import versions
from elite_pipeline.resume import sole_writer


def write_images(
    folder: Path, settings: SimulateImages, unknown: list[str], classes: ClassTable, *, processes: int = 1
) -> None:
    """Render `settings.worlds` worlds into `folder`, which appears only when it is complete.

    The seeds of the worlds are `settings.seed` to `settings.seed + settings.worlds - 1`. View v of world w becomes
    `images/NNNNNN.png` (RGB) and `labels/NNNNNN.png` (8-bit grey, training ids of `classes`), with
    N = w * views per world + v. Classes named in `unknown` are labelled `IGNORE`. The files are first written to
    `<folder>.partial`. After a kill, the next run with the same settings and code renders only the missing worlds.

    Raises `InputError` where one of the two folders may hold the user's own files (see `refuse_recordings`), where
    another process writes there, or where `classes` lacks a raw id of the simulator.
    """
    partial = folder.with_name(folder.name + ".partial")
    for place in (folder, partial):
        refuse_recordings(place, "simulate_images")
    made_of = {"settings": settings.model_dump(mode="json"), "unknown": sorted(unknown), "classes": classes.to_json()}
    about = json.dumps({**made_of, "versions": versions(), "code": sources.digest("simulate_images")}, indent=2) + "\n"
    with sole_writer(partial):
        if not (partial / MARKER).exists() or (partial / MARKER).read_text() != about:
            # Delete the images before the marker is written: a kill in between must not leave images of other settings
            # under the new marker.
            for kind in ("images", "labels"):
                shutil.rmtree(partial / kind, ignore_errors=True)
            (partial / MARKER).write_text(about)
        for kind in ("images", "labels"):
            (partial / kind).mkdir(exist_ok=True)
        worlds = [w for w in range(settings.worlds) if not _last_label(partial, settings, w).exists()]
        jobs = [(partial, settings, unknown, classes, w) for w in worlds]
        with ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent) as pool:
            rendered = (pool.map if processes > 1 else map)(_render_world, jobs)
            done, total = settings.worlds - len(jobs), settings.worlds
            for _ in progress(rendered, label="simulate_images", unit="world", total=total, initial=done):
                pass
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)


def _last_label(folder: Path, settings: SimulateImages, world: int) -> Path:
    """The last file written for a world. If it exists, the world is complete."""
    return folder / "labels" / f"{(world + 1) * settings.views_per_world - 1:06d}.png"


def _end_with_parent() -> None:
    """Make this worker process exit when its parent dies.

    Without this, the workers of a killed parent stay alive and wait for work for ever.
    """

    def wait(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, args=[parent_process()], daemon=True).start()


def _render_world(job: tuple[Path, SimulateImages, list[str], ClassTable, int]) -> None:
    """Write the images and labels of one world. job: (folder, settings, unknown, classes, world number)."""
    folder, settings, unknown, classes, world = job
    from elite_pipeline.simulation import random_views

    shown = classes.of_raw(np.arange(RAW_IDS))
    shown[np.isin(shown, np.flatnonzero(classes.known(unknown)))] = IGNORE
    count = settings.views_per_world
    size = (settings.image_width, settings.image_height)
    views = random_views(settings.seed + world, count, *size, appearance=settings.appearance)
    for number, view in enumerate(views, start=world * count):
        if unknown_raw := sorted(set(view.semantic[shown[view.semantic] == UNKNOWN].tolist())):
            raise InputError(
                f"class table {classes.name}: learning_map lacks the raw ids {unknown_raw}, which the simulator uses."
                " Add them to learning_map, or set classes: semantickitti"
            )
        _save(view.rgb, folder / "images" / f"{number:06d}.png")
        _save(shown[view.semantic], folder / "labels" / f"{number:06d}.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    """Write a PNG under a temporary name, then rename it. A PNG that exists is therefore complete."""
    partial = path.with_suffix(".partial")
    Image.fromarray(pixels).save(partial, format="PNG", compress_level=3)
    os.replace(partial, path)
