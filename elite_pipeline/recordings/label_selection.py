"""Few labels: which of the training scans keep theirs."""

import math

import numpy as np

from elite_pipeline.config import LabelsToSelect
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.index import Index

ROUNDING = 1e-6


def select(indices: dict[str, Index], settings: LabelsToSelect) -> dict[str, set[str]]:
    """Sequence -> frames whose labels are used, of all sequences of the training split.

    `interval`: every k-th of all labelled scans, sorted by sequence and frame, as in the literature on few labels (with
    `labelled: 0.1`, every tenth, beginning with the first). `classes`: a random subset of as many, a function of the
    seed, in which each next scan is one that shows most of the classes that are still missing.
    Raises `InputError` where no scan is labelled, or where `settings` list scans that are not there.
    """
    if isinstance(settings.labelled, dict):
        return _listed(indices, settings.labelled)
    scans = [(s, f) for s in sorted(indices) for f in np.flatnonzero(indices[s].labelled)]
    if not scans:
        raise InputError(f"sequences {', '.join(sorted(indices))} hold no labelled scan; at least one is needed")
    # As many as scans[::k] holds where the share is 1 / k; shares such as 0.1 are not exact in binary.
    count = math.ceil(settings.labelled * len(scans) - ROUNDING)
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


def _covering(shown: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """`count` rows of `shown` (N, K) bool: the next one always shows most of what is missing; equals, at random."""
    left = rng.permutation(len(shown))
    missing, chosen = np.ones(shown.shape[1], dtype=bool), []
    for _ in range(count):
        best = int((shown[left] & missing).sum(axis=1).argmax())
        chosen.append(left[best])
        missing &= ~shown[left[best]]
        left = np.delete(left, best)
    return chosen


def _listed(indices: dict[str, Index], listed: dict[str, list[str]]) -> dict[str, set[str]]:
    """`listed`, sequence -> frames, as sets. Raises `InputError` where one is not among the labelled."""
    if strange := sorted(set(listed) - set(indices)):
        raise InputError(f"labelled names sequences {', '.join(strange)}, which are not in train")
    for sequence, frames in listed.items():
        index = indices[sequence]
        known = {frame for frame, labelled in zip(index.frames, index.labelled, strict=True) if labelled}
        if strange := sorted(set(frames) - known):
            raise InputError(f"labelled: sequence {sequence} has no labelled scans {', '.join(strange)}: name others")
    if not any(listed.values()):
        raise InputError("labelled: the list is empty; at least one scan needs labels")
    return {sequence: set(listed.get(sequence, ())) for sequence in indices}
