"""Measures the confidence of a teacher's soft labels at labelled scans, both cached and aggregated ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation.confidence import calibration, draw
from elite_pipeline.progress import progress
from elite_pipeline.recordings.label_selection import held_out
from elite_pipeline.recordings.sequence import Recorded

POINTS = 200_000
"""At most so many points of all scans are taken, so that memory does not grow with the data."""


def scans_to_measure(sequences: Sequence[Recorded], share: float, *, tuned: bool) -> tuple[list[tuple[int, int]], bool]:
    """The labelled scans that the teacher was not tuned on; where there are none, those that it was tuned on.

    share: `tune_teacher.held_out`. tuned: whether the teacher was tuned on these drives at all.
    Returns (the scans as (index of the sequence, frame index), whether they are held out).
    """
    indices = [recorded.index for recorded in sequences]
    labelled = [index.labelled for index in indices]
    kept = held_out(indices, share) if tuned else labelled
    is_held_out = any(rows.any() for rows in kept)
    chosen = kept if is_held_out else labelled
    return [(s, int(f)) for s, rows in enumerate(chosen) for f in np.flatnonzero(rows)], is_held_out


def measure(sequences: Sequence[Recorded], scans: Sequence[tuple[int, int]], *, label: str) -> dict[str, Any]:
    """The `calibration` of "targets" and "aggregated" soft labels at labelled scans; None where none are aggregated.

    sequences: with targets that hold soft labels. scans: as in `scans_to_measure`. label: shown by `progress`.
    Raises `InputError` where a file is damaged, or does not fit the others.
    """
    classes = sequences[0].index.classes
    if len(stages := {recorded.stages for recorded in sequences}) > 1:
        raise InputError(
            f"the targets differ in their number of stages, {stages}. Delete them and run snakemake again."
        )
    names = sequences[0].known_classes or classes.evaluated
    known = torch.tensor([k != IGNORE and name in names for k, name in enumerate(classes.names)])
    each = max(1, POINTS // max(1, len(scans)))
    targets = [(torch.zeros(0, sequences[0].stages or 1, len(classes)), torch.zeros(0, dtype=torch.int64))]
    aggregated = [(torch.zeros(0, 1, len(classes)), torch.zeros(0, dtype=torch.int64))]
    for s, f in progress(scans, label=label, unit="scan"):
        recorded, labels = sequences[s], torch.from_numpy(sequences[s].labels(f))
        answers = recorded.answers(f)
        rows = draw(labels[answers.taught], known, each, (s, f))
        targets.append((answers.teacher[rows], labels[answers.taught[rows]]))
        if recorded.aggregated is not None:
            reached = recorded.reached(f)
            rows = draw(labels[reached.point], known, each, (s, f))
            aggregated.append((reached.logits(len(classes))[rows, None], labels[reached.point[rows]]))
    found = {"targets": calibration(*_joined(targets)), "aggregated": None}
    if any(recorded.aggregated is not None for recorded in sequences):
        found["aggregated"] = calibration(*_joined(aggregated))
    return found


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The logits (n, S, K) and the labels (n,) of all `parts`."""
    return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])
