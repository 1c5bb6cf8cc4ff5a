"""nuImages: photographs with masks of objects and of driveable surface, and without LiDAR labels.

`<folder>/samples/CAM_*/*.jpg` and a folder of tables for each official split (`nuimages_tables.py`). Eleven of
nuScenes' sixteen classes have masks. Pixels without a mask are unlabelled; they are no background.
"""

import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.datasets.labelled_images import hold_out, read_picture, refuse
from elite_pipeline.datasets.nuimages_tables import COPY, Picture, parts, read_split
from elite_pipeline.datasets.run_lengths import decode
from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress

END = b"\xff\xd9"
"""The marker at the end of a JPEG. It is in no other part of a JPEG's compressed pixels."""

TAIL = 4096
"""Bytes at the end of a JPEG in which the marker must be: some writers put a few bytes behind it."""


@dataclass(frozen=True)
class NuImages:
    """A `LabelledSet`. All tables and masks have been checked once; of the images, that they are there and complete.

    Images and labels have no lens distortion, if the formula of their lens is known (`lens.lens_of`).
    """

    folder: Path
    classes: ClassTable
    files: list[Path]
    """The image files: those of `v1.0-train`, then those of `v1.0-val`; or all of one folder of tables."""
    class_pixels: np.ndarray
    """(N, K) int64, pixels of the masks of each class in each image. Where masks overlap, a pixel counts for each."""
    crc32: str
    """Checksum of the names, bytes and calibrations of the images, and of the masks, 8 hex digits. The contents of the
    images do not count, because to read them takes minutes."""
    order: str
    notes: list[str]
    training: int | None
    """The number of training images, where `v1.0-val` has the held-out ones."""
    pictures: list[Picture]
    first: np.ndarray
    """(N + 1,) int64, where the masks of each image begin."""
    labels_of_masks: np.ndarray
    """(M,) uint8 training ids, in the order of painting."""
    place: np.ndarray
    """(M, 2) int64, where the compressed counts of each mask begin and end in `masks`."""
    masks: bytearray

    def __len__(self) -> int:
        return len(self.files)

    def image(self, k: int) -> np.ndarray:
        """Returns image `k`: (H, W, 3) uint8 RGB. Raises `InputError` where the file can no longer be read."""
        picture, about = read_picture(self.files[k])[0].convert("RGB"), self.pictures[k]
        if picture.size != (about.width, about.height):
            raise InputError(f"{self.files[k]}: is no longer of {about.width} x {about.height} pixels. Copy it again.")
        return np.array(about.lens.undistort(picture) if about.lens else picture)

    def labels(self, k: int) -> np.ndarray:
        """Returns the labels of image `k`: (H, W) uint8 training ids. Later masks are painted over earlier ones."""
        about = self.pictures[k]
        labels = np.full((about.height, about.width), IGNORE, np.uint8, order="F")  # as the masks
        for mask in range(self.first[k], self.first[k + 1]):
            begin, end = self.place[mask]
            shown = decode(bytes(self.masks[begin:end]), about.height, about.width)
            np.copyto(labels, self.labels_of_masks[mask], where=shown)
        labels = np.ascontiguousarray(labels)
        return np.array(about.lens.undistort(Image.fromarray(labels), labels=True)) if about.lens else labels

    def split(self, held_out: float) -> tuple[range, range]:
        """Returns the indices of the training images and of the held-out images, which are the last ones.

        held_out: share of the images, where `v1.0-val` was not read. Raises `InputError` as `hold_out` does.
        """
        if self.training is None:
            return hold_out(self.folder, len(self), held_out)
        return range(self.training), range(self.training, len(self))


def open_nuimages(folder: Path, classes: ClassTable) -> NuImages:
    """Returns the images of the nuImages root `folder`. `classes` maps nuScenes' raw ids.

    Raises `InputError` with all faults of its tables and images.
    """
    folder, faults, masks = Path(folder), [], bytearray()
    tables = parts(folder)
    splits = [read_split(place, masks, faults) for place in tables]
    if empty := [place for place, split in zip(tables, splits, strict=True) if not split.pictures]:
        faults.append(f"{empty[0]}/sample.json: has no sample. {COPY}")
    pictures = [picture for split in splits for picture in split.pictures]
    files = [folder / picture.file for picture in pictures]
    with ThreadPoolExecutor() as pool:
        checks = pool.map(_check, files, pictures)
        checked = list(progress(checks, label=f"check {folder.name}", unit="image", total=len(files)))
    refuse(folder, [*faults, *(fault for fault, _ in checked if fault)])

    starts = np.cumsum([0, *(len(split.pictures) for split in splits)])
    picture = np.concatenate([start + split.picture for start, split in zip(starts, splits, strict=False)])
    raw, pixels, place = (
        np.concatenate([getattr(split, name) for split in splits]) for name in ("raw", "pixels", "place")
    )
    labels = classes.of_raw(raw)
    class_pixels = np.zeros((len(files), len(classes)), np.int64)
    np.add.at(class_pixels, (picture, labels), pixels)
    sizes = np.array([about.height * about.width for about in pictures])
    class_pixels[:, IGNORE] = np.maximum(sizes - class_pixels[:, IGNORE + 1 :].sum(1), 0)
    contents = [(astuple(about), size) for about, (_, size) in zip(pictures, checked, strict=True)]
    crc32 = zlib.crc32(json.dumps([contents, [place.name for place in tables]]).encode())
    for part in (picture.data, raw.data, place.data, masks):
        crc32 = zlib.crc32(part, crc32)
    return NuImages(
        folder,
        classes,
        files,
        class_pixels,
        f"{crc32:08x}",
        order=f"those of {', then those of '.join(place.name for place in tables)}, sorted by name",
        notes=_notes(pictures),
        training=int(starts[1]) if len(splits) > 1 else None,
        pictures=pictures,
        first=np.searchsorted(picture, np.arange(len(files) + 1)),
        labels_of_masks=labels,
        place=place,
        masks=masks,
    )


def _notes(pictures: list[Picture]) -> list[str]:
    """Returns what is left of the distortion of the lenses."""
    notes, count = [], len(pictures)
    if undone := sum(about.lens is not None for about in pictures):
        notes.append(f"the distortion of the lens is undone in {undone} of {count} images")
    if kept := sum(about.stays_distorted for about in pictures):
        notes.append(f"the distortion of the lens stays in {kept} of {count} images: its formula is not published")
    return notes


def _check(file: Path, about: Picture) -> tuple[str | None, int]:
    """Returns what is wrong with an image file, and its bytes. Only the beginning and the end of the file are read."""
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            with Image.open(opened) as picture:
                width, height, is_jpeg = *picture.size, picture.format == "JPEG"
            opened.seek(max(0, size - TAIL))
            whole = not is_jpeg or END in opened.read()
    except FileNotFoundError:
        return f"{file}: there is no such image, but the tables name it. Unpack all archives of the images.", 0
    except (OSError, SyntaxError, ValueError) as error:
        return f"{file}: unreadable ({error}). Copy it again.", 0
    if not whole:
        return f"{file}: truncated. Copy it again.", 0
    if (width, height) != (about.width, about.height):
        return f"{file}: has {width} x {height} pixels, but its tables say {about.width} x {about.height}. {COPY}", 0
    return None, size
