"""Masks as COCO's compressed run lengths: column by column, runs of 0 and 1 in turn, of which the first is of 0."""

import base64
import binascii
from typing import Any

import numpy as np

LONGEST = 6
"""Characters that one run may have: 30 bits. A damaged string may have more."""


def counts_of(mask: Any, height: int, width: int) -> bytes:
    """Returns the compressed counts of nuImages' `mask` of an image of height x width pixels.

    mask: {"size": [height, width], "counts": base64}. Raises `ValueError` where it is damaged or has another size.
    """
    if not isinstance(mask, dict) or "counts" not in mask or not isinstance(mask.get("size"), list):
        raise ValueError("is no run lengths with size and counts")
    if mask["size"] != [height, width]:
        of = " x ".join(map(str, mask["size"][::-1]))
        raise ValueError(f"is of {of} pixels, but its image has {width} x {height}")
    try:
        return base64.b64decode(mask["counts"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"has undecodable counts ({error})") from None


def run_lengths(counts: bytes, pixels: int) -> np.ndarray:
    """Returns the run lengths (R,) int64 of compressed `counts`. pixels: their sum, as it must be.

    Raises `ValueError` where the string is damaged. `pycocotools` does not notice that: of runs that end too early it
    returns memory that nobody wrote.
    """
    values = np.frombuffer(counts, np.uint8).astype(np.int64) - ord("0")
    if not len(values) or values.min() < 0 or values.max() > 63 or values[-1] & 32:
        raise ValueError("has undecodable counts (not COCO's run lengths, or truncated)")
    ends = np.flatnonzero(values & 32 == 0)  # bit 5: the number goes on with the next character
    starts = np.concatenate([[0], ends[:-1] + 1])
    characters = ends - starts + 1
    if characters.max() > LONGEST:
        raise ValueError("has undecodable counts (a run of more than 30 bits)")
    place = np.arange(len(values)) - np.repeat(starts, characters)
    runs = np.add.reduceat((values & 31) << 5 * place, starts)
    runs -= (values[ends] >> 4 & 1) << 5 * characters  # bit 4 of the last character is the sign
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])  # the difference to the run before the last one
    if runs.min() < 0 or runs.sum() != pixels:
        raise ValueError(f"has undecodable counts (its runs have {runs.sum()} pixels, and the image {pixels})")
    return runs


def decode(counts: bytes, height: int, width: int) -> np.ndarray:
    """Returns the mask (height, width) bool of counts that `run_lengths` accepts. Its columns are contiguous."""
    from pycocotools import mask

    return mask.decode({"size": [height, width], "counts": counts}).view(bool)


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Returns nuImages' `mask` of a mask (H, W) bool. `counts_of` is the inverse."""
    from pycocotools import mask as coco

    counts: Any = coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return {"size": list(mask.shape), "counts": base64.b64encode(counts).decode()}
