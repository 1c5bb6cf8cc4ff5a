"""Few labels: selects the training scans that keep their labels, and of those the ones that no teacher is tuned on."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from elite_pipeline.config import LabelsToSelect
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.index import Index

ROUNDING = 1e-6


def select(indices: dict[str, Index], settings: LabelsToSelect) -> dict[str, set[str]]:
    """Sequence -> frames whose labels are used, for all sequences of the training split.

    `interval`: every k-th of all labelled scans, sorted by sequence and frame, as in the literature on few labels. With
    `labelled: 0.1`, this is every tenth scan, starting with the first.
    `classes`: a random subset of the same size, which depends on the seed. Each next scan is one that shows the largest
    number of missing classes.
    `drive`: whole drives (sequences), drawn at random with the seed; `labelled` is their share, rounded up, so that at
    least one is drawn. All their labelled scans keep their labels. Drives without any labelled scan are not drawn. With
    one seed, the drives of a smaller share are among those of a larger one.
    Raises `InputError` where no scan is labelled, or where `settings` list scans that do not exist or have no labels.
    """
    if isinstance(settings.labelled, dict):
        return _listed(indices, settings.labelled)
    scans = [(s, f) for s in sorted(indices) for f in np.flatnonzero(indices[s].labelled)]
    if not scans:
        raise InputError(f"sequences {', '.join(sorted(indices))} hold no labelled scan: label at least one")
    if settings.by == "drive":
        drives = _drawn(sorted({s for s, _ in scans}), settings.labelled, settings.seed)
        return {
            s: {name for name, f in zip(i.frames, i.labelled, strict=True) if f and s in drives}
            for s, i in indices.items()
        }
    count = _count(settings.labelled, len(scans))
    if settings.by == "interval":
        chosen = np.floor(np.arange(count) / settings.labelled + ROUNDING).astype(int)
    else:
        shown = np.stack([indices[s].class_points[f][1:] > 0 for s, f in scans])
        chosen = _covering(shown, count, np.random.default_rng(settings.seed))
    result: dict[str, set[str]] = {s: set() for s in indices}
    for k in chosen:
        sequence, f = scans[k]
        result[sequence].add(indices[sequence].frames[f])
    return result


def write_selection(path: Path, chosen: Mapping[str, set[str]]) -> None:
    """Write the result of `select` to the JSON file `path`: first to a partial file, which is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({sequence: sorted(chosen[sequence]) for sequence in sorted(chosen)}, indent=1) + "\n")
    os.replace(partial, path)


def read_selection(path: Path, sequence: str) -> set[str]:
    """Returns the frames of `sequence` whose labels are used, from a file of `write_selection`.

    Raises `InputError` where the file is unreadable, or lacks the sequence.
    """
    try:
        return set(json.loads(path.read_text())[sequence])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: does not list the labels of sequence {sequence} ({error!r}). Delete it and run snakemake again."
        ) from None


def _count(share: float, of: int) -> int:
    """The number of scans or drives in a share, rounded up: at least one, unless the share is 0."""
    # For a share of 1 / k, this is the length of scans[::k]. ROUNDING: shares such as 0.1 are not exact in binary.
    return max(math.ceil(share * of - ROUNDING), int(share > 0))


def _drawn(drives: list[str], share: float, seed: int) -> set[str]:
    """A share of the `drives`, at random."""
    shuffled = np.random.default_rng(seed).permutation(len(drives))
    return {drives[k] for k in shuffled[: _count(share, len(drives))]}


def held_out(indices: Sequence[Index], share: float) -> list[np.ndarray]:
    """The labelled scans that a teacher is not tuned on, so that its confidence can be measured there.

    Where several sequences have labelled scans, these are all labelled scans of the last `share` of these sequences, in
    sorted order. Where only one has, they are the last `share` of its labelled scans: neighbouring scans show the same
    things, so a scan between two others would not be unseen. Shares are rounded up. At least one is held out and at
    least one is left, unless `share` is 0 or there is only one labelled scan: then none is held out.
    Returns (F,) bool for each of `indices`.
    """
    held = [np.zeros(len(index.frames), dtype=bool) for index in indices]
    of_labelled = {index.sequence: k for k, index in enumerate(indices) if index.labelled.any()}
    names = sorted(of_labelled)
    if not share or not names:
        return held
    if len(names) > 1:
        for name in names[-min(_count(share, len(names)), len(names) - 1) :]:
            k = of_labelled[name]
            held[k] |= indices[k].labelled
        return held
    k = of_labelled[names[0]]
    scans = np.flatnonzero(indices[k].labelled)
    if len(scans) > 1:
        held[k][scans[-min(_count(share, len(scans)), len(scans) - 1) :]] = True
    return held


def _covering(shown: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """`count` rows of `shown` (N, K) bool. Each next row shows the most missing classes; ties are broken at random."""
    left = rng.permutation(len(shown))
    missing, chosen = np.ones(shown.shape[1], dtype=bool), []
    for _ in range(count):
        best = int((shown[left] & missing).sum(axis=1).argmax())
        chosen.append(left[best])
        missing &= ~shown[left[best]]
        left = np.delete(left, best)
    return chosen


def _listed(indices: dict[str, Index], listed: dict[str, list[str]]) -> dict[str, set[str]]:
    """`listed` (sequence -> frames) as sets. Raises `InputError` where a frame is not a labelled scan."""
    if strange := sorted(set(listed) - set(indices)):
        raise InputError(f"labelled: sequences {', '.join(strange)} are not in train: add them there or leave them out")
    for sequence, frames in listed.items():
        index = indices[sequence]
        known = {frame for frame, labelled in zip(index.frames, index.labelled, strict=True) if labelled}
        if strange := sorted(set(frames) - known):
            raise InputError(f"labelled: sequence {sequence} has no labelled scans {', '.join(strange)}: name others")
    if not any(listed.values()):
        raise InputError("labelled: the list is empty: name at least one scan")
    return {sequence: set(listed.get(sequence, ())) for sequence in indices}
