"""A folder of images with dense labels and no LiDAR: `images/<name>.png` (or .jpg) and `labels/<name>.png`.

Labels are 8-bit grey PNGs of training ids, 0 = unlabelled, of the image's size.
"""

import io
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.progress import progress

SUFFIXES = (".png", ".jpg", ".jpeg")
SHOWN = 20
"""Faults that are listed one by one."""


@dataclass(frozen=True)
class ImageFolder:
    """N images whose files have all been read once."""

    folder: Path
    classes: ClassTable
    files: list[Path]
    """Of the images, in the order of their names."""
    class_pixels: np.ndarray
    """(N, K) int64, pixels of each class."""
    crc32: str
    """8 hex digits of all names and files."""

    def __len__(self) -> int:
        return len(self.files)

    def image(self, k: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises `InputError` where the file can no longer be read."""
        return np.array(_read(self.files[k])[0].convert("RGB"))

    def labels(self, k: int) -> np.ndarray:
        """(H, W) uint8 training ids. Raises `InputError` where the file can no longer be read."""
        return np.array(_read(_label_file(self.folder, self.files[k].stem))[0])

    def split(self, held_out: float) -> tuple[range, range]:
        """(first, last): indices of all but the last images, and of these, a share `held_out` of all, one at least.

        The last by name and not random ones: images of one place or drive stand together, and one that has a neighbour
        among the others would be no test. Raises `InputError` where no image would be left.
        """
        last = max(1, round(held_out * len(self)))
        if last >= len(self):
            raise InputError(f"{self.folder} holds {len(self)} images, of which {last} are held out. Add more images.")
        return range(len(self) - last), range(len(self) - last, len(self))


def open_images(folder: Path, classes: ClassTable) -> ImageFolder:
    """The `ImageFolder` at `folder`, whose labels are training ids of `classes`.

    Raises `InputError` with all faults of its files.
    """
    folder = Path(folder)
    images = {file.stem: file for file in sorted(folder.glob("images/*")) if file.suffix.lower() in SUFFIXES}
    labels = {file.stem for file in folder.glob("labels/*.png")}
    if not images and not labels:
        raise InputError(f"{folder}: holds no images/*.png with labels/*.png. Put or link such a folder there.")
    faults = [
        f"{images[name]}: has no {_label_file(folder, name)}. Add it, or remove the image."
        for name in images.keys() - labels
    ]
    faults += [
        f"{_label_file(folder, name)}: has no image of its name. Add it, or remove the label."
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
    faults = sorted([*faults, *(fault for found, _, _ in checked for fault in found)])
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        listed = "\n".join(f"  {fault}" for fault in [*faults[:SHOWN], *more])
        raise InputError(f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}")
    contents = json.dumps([(file.name, *checksums) for file, (_, _, checksums) in zip(files, checked, strict=True)])
    class_pixels = np.stack([counts for _, counts, _ in checked])
    return ImageFolder(folder, classes, files, class_pixels, f"{zlib.crc32(contents.encode()):08x}")


def _label_file(folder: Path, name: str) -> Path:
    return folder / "labels" / f"{name}.png"


def _check(classes: int, pair: tuple[Path, Path]) -> tuple[list[str], np.ndarray, list[int]]:
    """Faults of an image and its label, (K,) int64 pixels of each class, and the crc32 of both files."""
    faults, pictures, checksums, counts = [], [], [], np.zeros(classes, np.int64)
    for file in pair:
        try:
            picture, checksum = _read(file)
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
        faults.append(f"{pair[0]} and its label are of different sizes, {sizes} pixels. Copy the originals.")
    if label.mode not in ("L", "P"):
        faults.append(f"{pair[1]}: of mode {label.mode}, not of one 8-bit id per pixel. Save training ids as grey.")
        return faults, counts, checksums
    counts = np.bincount(np.asarray(label).ravel(), minlength=classes)
    if strange := np.flatnonzero(counts[classes:]).tolist():
        ids = [k + classes for k in strange[:10]]
        faults.append(f"{pair[1]}: ids {ids} are no training ids, 0 to {classes - 1}. Map them to those.")
    return faults, counts[:classes], checksums


def _read(file: Path) -> tuple[Image.Image, int]:
    """(picture, crc32 of the file). Raises `InputError` where it is missing or no image."""
    try:
        data = file.read_bytes()
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file}: unreadable ({error}). Copy it again.") from None
    return picture, zlib.crc32(data)
