"""Labels of a recorded sequence for people who annotate: label files of raw ids, and the confidence of each point.

A point gets the best label that is known: the scan's own label, else one that was carried from another scan, else the
teacher's. The folder of a sequence is laid out as semantic-kitti-api expects it:

    predictions/<frame>.label   one little-endian uint32 per point: the raw id of its class; 0 where nothing is known
    confidence/<frame>.npy      one uint8 per point: 0 (nothing is known) to 255 (certain)
    export.json                 what these files are, and a digest of the label files
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elite_pipeline.aggregation.reached import Carried, Reached
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.deploy.submission import write_labels
from elite_pipeline.errors import InputError
from elite_pipeline.marker import EXPORTED, refuse_edited
from elite_pipeline.provenance import listing_digest
from elite_pipeline.resume import sole_writer

CERTAIN = 255
"""Confidence of the scan's own labels. Other confidences are probabilities, or shares of votes, times this."""

ORIGINS: tuple[str, ...] = ("nothing", "scan", "carried", "aggregated")
"""Where a point's label comes from, by its number in `Chosen.origin`; later ones give way to earlier ones."""

README = {
    "what": "labels to begin annotation with; no ground truth, except in labelled scans",
    "predictions": "uint32 per point, little-endian, in the scan's order: raw id of the class; 0: nothing is known",
    "confidence": "numpy.load: uint8 per point; 0: nothing is known, 255: certain. Of the scan's own labels: 255. Of"
    " carried ones: share of the votes of labelled scans. Of aggregated ones: the teacher's probability of the class.",
    "order": "the scan's own label, else one carried from labelled scans of the same place, else the teacher's",
    "warning": "snakemake may make this folder again: edit a copy",
}


@dataclass(frozen=True)
class Chosen:
    """The labels of the N points of one scan."""

    label: np.ndarray
    """(N,) uint8 training ids; `IGNORE` where nothing is known."""
    confidence: np.ndarray
    """(N,) uint8."""
    origin: np.ndarray
    """(N,) uint8: index in `ORIGINS`."""


def choose(own: np.ndarray, carried: Carried | None, reached: Reached | None, classes: int) -> Chosen:
    """Return the best known label of each point.

    own: (N,) training ids, `IGNORE` where the scan or the point is unlabelled. classes: K.
    """
    label, confidence, origin = (np.zeros(len(own), np.uint8) for _ in range(3))
    if reached is not None:
        best, likeliest = reached.logits(classes).exp().max(1)
        point = reached.point.numpy()
        label[point], origin[point] = likeliest.numpy(), ORIGINS.index("aggregated")
        confidence[point] = np.rint(CERTAIN * best.numpy())
    if carried is not None:
        point = carried.point.numpy()
        label[point], origin[point] = carried.label.numpy(), ORIGINS.index("carried")
        confidence[point] = np.rint(CERTAIN * carried.confidence.numpy())
    known = own != IGNORE
    label[known], confidence[known], origin[known] = own[known], CERTAIN, ORIGINS.index("scan")
    return Chosen(label, confidence, origin)


def write(out: Path, scans: Iterable[tuple[str, Chosen]], classes: ClassTable, about: dict[str, Any]) -> dict[str, int]:
    """Write the labels of a sequence to the folder `out`, which appears only when it is complete.

    scans: (frame, its labels), taken one at a time. about: JSON values for export.json. Returns the number of points
    by origin (`ORIGINS`). Raises `InputError` where `out` may hold somebody's work (see `refuse_edited`), where another
    process writes it, or where a file cannot be written.
    """
    refuse_edited(out)
    partial = out.with_name(out.name + ".partial")
    points = np.zeros(len(ORIGINS), np.int64)
    with sole_writer(partial):
        for left in partial.iterdir():  # by a killed run
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        (partial / "confidence").mkdir()
        (partial / "predictions").mkdir()
        for frame, chosen in scans:
            write_labels(partial / "predictions" / f"{frame}.label", classes.to_raw(chosen.label))
            try:
                np.save(partial / "confidence" / f"{frame}.npy", chosen.confidence)
            except OSError as error:
                reason = error.strerror or error
                raise InputError(f"{out}: cannot be written ({reason}). Free some space, or write elsewhere.") from None
            points += np.bincount(chosen.origin, minlength=len(ORIGINS))
        found = dict(zip(ORIGINS, points.tolist(), strict=True))
        names = {int(raw): name for raw, name in zip(classes.raw_ids, classes.names, strict=True)}
        content = {**README, **about, "points": found, "classes": names}
        content["digest"] = listing_digest([partial / "predictions"])
        (partial / EXPORTED).write_text(json.dumps(content, indent=2) + "\n")
        if out.exists():
            shutil.rmtree(out)
        os.rename(partial, out)
    return found
