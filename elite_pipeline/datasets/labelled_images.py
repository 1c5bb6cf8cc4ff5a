"""Images with dense labels and without LiDAR. One format is here: `images/<name>.png` or .jpg, and `labels/<name>.png`.

Labels are 8-bit grey PNGs of training ids, 0 = unlabelled. They have the size of their image.
"""

import io
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress

SUFFIXES = (".png", ".jpg", ".jpeg")
SHOWN = 20
"""The maximum number of faults that an error lists."""


class LabelledSet(Protocol):
    """N labelled images. `choices.IMAGE_FORMATS` lists what opens and checks one."""

    @property
    def classes(self) -> ClassTable: ...

    @property
    def files(self) -> list[Path]:
        """The image files."""
        ...

    @property
    def order(self) -> str:
        """How the images are sorted, to complete the sentence "The images are ..."."""
        ...

    @property
    def notes(self) -> list[str]:
        """What the user should know of the images."""
        ...

    @property
    def class_pixels(self) -> np.ndarray:
        """(N, K) int64, pixels of each class in each image."""
        ...

    @property
    def crc32(self) -> str:
        """Checksum of the images and labels, 8 hex digits."""
        ...

    def __len__(self) -> int: ...

    def image(self, k: int) -> np.ndarray:
        """Returns image `k`: (H, W, 3) uint8 RGB. Raises `InputError` where the file can no longer be read."""
        ...

    def labels(self, k: int) -> np.ndarray:
        """Returns the labels of image `k`: (H, W) uint8 training ids. Raises `InputError` where they cannot be read."""
        ...

    def split(self, held_out: float) -> tuple[range, range]:
        """Returns the indices of the training images and of the held-out images, which are the last ones.

        held_out: share of the images, where the set itself has no such split. Raises `InputError` where no training
        image would be left.
        """
        ...


@dataclass(frozen=True)
class ImageFolder:
    """A `LabelledSet` in a folder. All files have been read and checked once."""

    folder: Path
    classes: ClassTable
    files: list[Path]
    """The image files, sorted by name."""
    class_pixels: np.ndarray
    """(N, K) int64, pixels of each class in each image."""
    crc32: str
    """Checksum of all names and files, 8 hex digits."""
    order: str = "sorted by name"
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)

    def image(self, k: int) -> np.ndarray:
        """Returns image `k`: (H, W, 3) uint8 RGB. Raises `InputError` where the file can no longer be read."""
        return np.array(read_picture(self.files[k])[0].convert("RGB"))

    def labels(self, k: int) -> np.ndarray:
        """Returns the labels of image `k`: (H, W) uint8 training ids. Raises `InputError` where they cannot be read."""
        return np.array(read_picture(_label_file(self.folder, self.files[k].stem))[0])

    def split(self, held_out: float) -> tuple[range, range]:
        """Returns the indices of the training images and of the held-out images.

        The held-out images are the last ones by name: a share `held_out` of all, at least one. They are not random,
        because neighbours in the list often show the same place, and such images would be no fair test. Raises
        `InputError` where no training image would be left.
        """
        return hold_out(self.folder, len(self), held_out)


def hold_out(folder: Path, count: int, held_out: float) -> tuple[range, range]:
    """Returns the indices of all but the last images, and of the last ones: a share of `count`, at least one."""
    last = max(1, round(held_out * count))
    if last >= count:
        raise InputError(f"{folder} has {count} images, and {last} of them are held out. Add more images.")
    return range(count - last), range(count - last, count)


def parts(folder: Path) -> list[Path]:
    """Returns the folders of images and labels. Raises `InputError` where one is missing."""
    found = [folder / "images", folder / "labels"]
    if not all(place.is_dir() for place in found):
        raise InputError(
            f"{folder}: the labelled images are missing. Link the folder that contains images/ and labels/:\n"
            f"    mkdir -p data && ln -sfn /path/to/that/folder {folder}"
        )
    return found


def open_images(folder: Path, classes: ClassTable) -> ImageFolder:
    """Returns the `ImageFolder` at `folder`. Its labels must be training ids of `classes`.

    Raises `InputError` with all faults of its files.
    """
    folder = Path(folder)
    images = {file.stem: file for file in sorted(folder.glob("images/*")) if file.suffix.lower() in SUFFIXES}
    labels = {file.stem for file in folder.glob("labels/*.png")}
    if not images and not labels:
        raise InputError(f"{folder}: has no images/*.png with labels/*.png. Put or link a folder with both there.")
    faults = [
        f"{images[name]}: has no {_label_file(folder, name)}. Add it, or remove the image."
        for name in images.keys() - labels
    ]
    faults += [
        f"{_label_file(folder, name)}: has no image of the same name. Add the image, or remove the label."
        for name in labels - images.keys()
    ]
    files = [images[name] for name in sorted(images.keys() & labels)]
    pairs = [(file, _label_file(folder, file.stem)) for file in files]
    with ThreadPoolExecutor() as pool:
        checked = list(
            progress(
                pool.map(partial(_check, len(classes)), pairs),
                label=f"check {folder.name}",
                unit="image",
                total=len(pairs),
            )
        )
    refuse(folder, [*faults, *(fault for found, _, _ in checked for fault in found)])
    contents = json.dumps([(file.name, *checksums) for file, (_, _, checksums) in zip(files, checked, strict=True)])
    class_pixels = np.stack([counts for _, counts, _ in checked])
    return ImageFolder(folder, classes, files, class_pixels, f"{zlib.crc32(contents.encode()):08x}")


def refuse(folder: Path, faults: list[str]) -> None:
    """Raise `InputError` with the first faults of the set in `folder`, if it has any."""
    if faults:
        faults = sorted(faults)
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        listed = "\n".join(f"  {fault}" for fault in [*faults[:SHOWN], *more])
        raise InputError(f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}")


def _label_file(folder: Path, name: str) -> Path:
    return folder / "labels" / f"{name}.png"


def _check(classes: int, pair: tuple[Path, Path]) -> tuple[list[str], np.ndarray, list[int]]:
    """Returns the faults of an image and its label, (K,) int64 pixels of each class, and the crc32 of both files."""
    faults, pictures, checksums, counts = [], [], [], np.zeros(classes, np.int64)
    for file in pair:
        try:
            picture, checksum = read_picture(file)
        except InputError as error:
            faults.append(str(error))
        else:
            pictures.append(picture)
            checksums.append(checksum)
    if faults:
        return faults, counts, checksums
    image, label = pictures
    if image.size != label.size:
        sizes = " and ".join("{} x {}".format(*picture.size) for picture in pictures)
        faults.append(f"{pair[0]} and its label have different sizes, {sizes} pixels. Copy the original files.")
    if label.mode not in ("L", "P"):
        faults.append(f"{pair[1]}: has mode {label.mode}, not one 8-bit id per pixel. Save training ids as a grey PNG.")
        return faults, counts, checksums
    counts = np.bincount(np.asarray(label).ravel(), minlength=classes)
    if strange := np.flatnonzero(counts[classes:]).tolist():
        ids = [k + classes for k in strange[:10]]
        faults.append(f"{pair[1]}: ids {ids} are not training ids (0 to {classes - 1}). Map them to training ids.")
    return faults, counts[:classes], checksums


def read_picture(file: Path) -> tuple[Image.Image, int]:
    """Returns (picture, crc32 of the file). Raises `InputError` where the file is missing or not an image."""
    try:
        data = file.read_bytes()
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file}: unreadable ({error}). Copy it again.") from None
    return picture, zlib.crc32(data)
