"""The files of simulated labelled images: what every format offers, and a folder of images and labels."""

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from elite_pipeline.config import SimulateImages
from elite_pipeline.datasets.classes import IGNORE, RAW_IDS, UNKNOWN, ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.simulation.views import RenderedView


class ImageFiles(Protocol):
    """Writes simulated images in one format. `choices.IMAGE_FILES` lists all."""

    folders: tuple[str, ...]
    """Below the set's folder: what `write` writes into."""

    def __init__(self, settings: SimulateImages, unknown: list[str], classes: ClassTable, held_out: float) -> None:
        """unknown: names of classes that are left unlabelled. held_out: share of the images that are not trained on.

        Raises `InputError` where these images cannot be written in this format.
        """
        ...

    def last(self, folder: Path, number: int) -> Path:
        """Returns the file of view `number` that is written last. If it exists, the view is complete."""
        ...

    def write(self, folder: Path, number: int, view: RenderedView) -> None:
        """Write view `number`. Raises `InputError` where the class table lacks a raw id of the simulator."""
        ...

    def finish(self, folder: Path) -> None:
        """Write what needs all views."""
        ...


class FolderFiles:
    """`images/NNNNNN.png` (RGB) and `labels/NNNNNN.png` (8-bit grey, training ids) of view N."""

    folders = ("images", "labels")

    def __init__(self, settings: SimulateImages, unknown: list[str], classes: ClassTable, held_out: float) -> None:
        self.classes, self.shown = classes, classes.of_raw(np.arange(RAW_IDS))
        self.shown[np.isin(self.shown, np.flatnonzero(classes.known(unknown)))] = IGNORE

    def last(self, folder: Path, number: int) -> Path:
        return folder / "labels" / f"{number:06d}.png"

    def write(self, folder: Path, number: int, view: RenderedView) -> None:
        refuse_unknown(view.semantic, self.shown, self.classes)
        save(Image.fromarray(view.rgb), folder / "images" / f"{number:06d}.png")
        save(Image.fromarray(self.shown[view.semantic]), self.last(folder, number))

    def finish(self, folder: Path) -> None:
        pass


def refuse_unknown(semantic: np.ndarray, shown: np.ndarray, classes: ClassTable) -> None:
    """Raise `InputError` where `shown` (raw id -> training id) has no entry for a raw id in `semantic`."""
    if unknown_raw := sorted(set(semantic[shown[semantic] == UNKNOWN].tolist())):
        raise InputError(
            f"class table {classes.name}: learning_map lacks the raw ids {unknown_raw}, which the simulator uses."
            " Add them to learning_map, or set classes: semantickitti"
        )


def save(picture: Image.Image, path: Path) -> None:
    """Write an image under a temporary name, then rename it. An image that exists is therefore complete."""
    partial = path.with_suffix(".partial")
    if path.suffix == ".png":
        picture.save(partial, format="PNG", compress_level=3)
    else:
        picture.save(partial, format="JPEG", quality=95)
    os.replace(partial, path)
