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

from elite_pipeline import sources
from elite_pipeline.choices import IMAGE_FILES, load
from elite_pipeline.config import SimulateImages
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.marker import MARKER, refuse_recordings
from elite_pipeline.progress import progress
from elite_pipeline.provenance import versions
from elite_pipeline.resume import sole_writer
from elite_pipeline.simulation.image_files import ImageFiles


def write_images(
    folder: Path,
    settings: SimulateImages,
    unknown: list[str],
    classes: ClassTable,
    *,
    format: str = "folder",
    held_out: float = 0.1,
    processes: int = 1,
) -> None:
    """Render `settings.worlds` worlds into `folder`, which appears only when it is complete.

    The seeds of the worlds are `settings.seed` to `settings.seed + settings.worlds - 1`. View v of world w has the
    number w * views per world + v. `choices.IMAGE_FILES` says what `format` makes of it. Classes named in `unknown` are
    not labelled. held_out: the share of images that the format keeps apart, if it does. The files are first written to
    `<folder>.partial`. After a kill, the next run with the same settings and code renders only the missing worlds.

    Raises `InputError` where one of the two folders may hold the user's own files (see `refuse_recordings`), where
    another process writes there, or where `classes` lacks a raw id of the simulator.
    """
    partial = folder.with_name(folder.name + ".partial")
    for place in (folder, partial):
        refuse_recordings(place, "simulate_images")
    files: ImageFiles = load(IMAGE_FILES[format])(settings, unknown, classes, held_out)
    made_of = {"settings": settings.model_dump(mode="json"), "unknown": sorted(unknown), "classes": classes.to_json()}
    if format != "folder":
        made_of |= {"format": format, "held_out": held_out}
    about = json.dumps({**made_of, "versions": versions(), "code": sources.digest("simulate_images")}, indent=2) + "\n"
    with sole_writer(partial):
        if not (partial / MARKER).exists() or (partial / MARKER).read_text() != about:
            # Delete the images before the marker is written: a kill in between must not leave images of other settings
            # under the new marker.
            for written in partial.iterdir():
                if written.is_dir():
                    shutil.rmtree(written)
            (partial / MARKER).write_text(about)
        for written in files.folders:
            (partial / written).mkdir(parents=True, exist_ok=True)
        last = [files.last(partial, (w + 1) * settings.views_per_world - 1) for w in range(settings.worlds)]
        jobs = [(partial, settings, files, w) for w in range(settings.worlds) if not last[w].exists()]
        with ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent) as pool:
            rendered = (pool.map if processes > 1 else map)(_render_world, jobs)
            done, total = settings.worlds - len(jobs), settings.worlds
            for _ in progress(rendered, label="simulate_images", unit="world", total=total, initial=done):
                pass
        files.finish(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)


def _end_with_parent() -> None:
    """Make this worker process exit when its parent dies.

    Without this, the workers of a killed parent stay alive and wait for work for ever.
    """

    def wait(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, args=[parent_process()], daemon=True).start()


def _render_world(job: tuple[Path, SimulateImages, ImageFiles, int]) -> None:
    """Write the views of one world. job: (folder, settings, files, world number)."""
    folder, settings, files, world = job
    from elite_pipeline.simulation import random_views

    count = settings.views_per_world
    size = (settings.image_width, settings.image_height)
    views = random_views(settings.seed + world, count, *size, appearance=settings.appearance)
    for number, view in enumerate(views, start=world * count):
        files.write(folder, number, view)
