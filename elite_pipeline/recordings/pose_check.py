"""Whether the poses of a drive fit its scans. Wrong poses carry labels to wrong points without any other error."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from elite_pipeline.datasets import Recording
from elite_pipeline.progress import progress
from elite_pipeline.recordings.overlap import ScanSurfaces, fit

POOR = 0.12
"""A pair of scans with a larger `Fit.error` fits poorly, metres.

By benchmarks/poses.py, with simulated scans of 16 to 64 beams, 1 to 10 m apart: the error is at most 0.08 with right
poses. With noise of 0.05, 0.2 or 0.5 m it is larger than 0.12 in 2, 93 or 99 % of the pairs; with noise of 0.1, 0.5 or
2 degrees in 0, 40 or 96 %.
"""

SHARE = 0.1
"""Share of poorly fitting pairs above which the poses of a drive are not trusted."""

WRONG = 0.5
"""A single pair with a larger `Fit.error` is already worth a warning, metres."""

APART = 15.0
"""Scans farther apart are not compared, metres: they have too little in common within `overlap.RANGE`."""

JUMP = 50.0
"""No vehicle drives so far from one scan to the next, metres."""

LIMIT = 100
"""Largest number of compared pairs."""

FEW = 8
"""Largest number of compared pairs where a stage checks the poses that it is about to use, in about a second."""


@dataclass(frozen=True)
class PoseCheck:
    """The result of comparing consecutive scans of a drive through its poses."""

    sequence: str
    frames: list[str]
    """The F frames of the drive."""
    steps: np.ndarray
    """(F - 1,) float64: distance from each scan to the next, metres."""
    pairs: np.ndarray
    """(n,) int64: the compared pairs; pair f is frames f and f + 1."""
    errors: np.ndarray
    """(n,) float64: `Fit.error` of each compared pair, metres; infinity where they have no place in common."""
    estimated: bool
    """Whether the poses are those of `estimate_poses`."""

    @property
    def warning(self) -> str | None:
        """What is wrong with the poses, and what to do; None where nothing is."""
        found = [text for text in (self._jumps(), self._poor()) if text]
        if not found:
            return None
        remedy = (
            "Perhaps the scans are too far apart or too empty for kiss-icp. Try another estimate_poses.voxel_size, or"
            " set datasets.<name>.poses: none."
            if self.estimated
            else "Check that the poses belong to these scans, are in metres, and are those of the sensor that the"
            " format says (camera 0 in poses.txt). Otherwise set datasets.<name>.poses: estimated, or none."
        )
        return " ".join([f"warning: sequence {self.sequence}:", *found, remedy])

    @property
    def verdict(self) -> str:
        """The warning, or one line for the log if nothing is wrong."""
        return self.warning or str(self)

    def __str__(self) -> str:
        """One line for the log."""
        count, known = len(self.pairs), self.errors[np.isfinite(self.errors)]
        if count == 0:
            return f"sequence {self.sequence}: no two consecutive scans are near enough to check the poses"
        middle = f"{np.median(known):.3f} m" if len(known) else "unknown"
        poor = int((self.errors > POOR).sum())
        return f"sequence {self.sequence}: {poor} of {count} compared pairs of scans fit poorly; median error {middle}"

    def _jumps(self) -> str | None:
        jumps = np.flatnonzero(self.steps > JUMP)
        if not len(jumps):
            return None
        longest = int(jumps[np.argmax(self.steps[jumps])])
        return (
            f"{len(jumps)} of {len(self.steps)} steps between consecutive poses are longer than {JUMP:g} m, the longest"
            f" {self.steps[longest]:.0f} m after frame {self.frames[longest]}."
        )

    def _poor(self) -> str | None:
        poor = self.errors > POOR
        if not (poor.sum() > SHARE * len(poor) or (self.errors > WRONG).any()):
            return None
        worst = np.argsort(-self.errors, kind="stable")[: min(3, int(poor.sum()))]
        named = ", ".join(
            f"{self.frames[int(self.pairs[k])]} ("
            + (f"{self.errors[k]:.2f} m)" if np.isfinite(self.errors[k]) else "no overlap)")
            for k in worst
        )
        return (
            f"the poses do not fit the scans. In {poor.sum()} of {len(poor)} compared pairs of consecutive scans,"
            f" surfaces are more than {POOR:g} m apart; worst after frame {named}. Labels that these poses carry would"
            " land on wrong points."
        )


def check_poses(
    recording: Recording, frames: list[str], poses: np.ndarray, *, estimated: bool, limit: int = LIMIT
) -> PoseCheck:
    """Compare consecutive scans of a drive through its poses.

    frames: names of the F frames. poses: (F, 4, 4) float64 world_from_lidar, metres. estimated: whether they are those
    of `estimate_poses`, for the advice. At most `limit` pairs are compared: half of them spread over the drive, half
    where the motion changes most, because a faulty pose shows there. Raises `InputError` where a scan is unreadable.
    """
    motion = np.linalg.inv(poses[:-1]) @ poses[1:]
    steps = np.linalg.norm(motion[:, :3, 3], axis=1)
    pairs = _chosen(motion, np.flatnonzero(steps <= APART), limit)
    errors, last, before = [], -1, None
    for f in progress([int(f) for f in pairs], label=f"check poses {recording.sequence}", unit="pair"):
        a = before if before is not None and last == f else ScanSurfaces.of(recording.points(frames[f]))
        before, last = ScanSurfaces.of(recording.points(frames[f + 1])), f + 1
        errors.append(fit(a, before, motion[f]).error)
    return PoseCheck(recording.sequence, frames, steps, pairs, np.array(errors, dtype=np.float64), estimated)


def _chosen(motion: np.ndarray, near: np.ndarray, limit: int) -> np.ndarray:
    """(n,) int64: at most `limit` of the pairs `near`, sorted. motion: (F - 1, 4, 4), of all pairs."""
    if len(near) <= limit:
        return near
    change = np.linalg.inv(motion[:-1]) @ motion[1:]
    # Metres by which a point 10 m away moves otherwise than in the pair before.
    size = np.linalg.norm(change[:, :3, 3], axis=1) + 10 * Rotation.from_matrix(change[:, :3, :3]).magnitude()
    size = np.maximum(np.append(size, 0), np.append(0, size))
    abrupt = near[np.argsort(-size[near], kind="stable")[: limit // 2]]
    spread = near[np.linspace(0, len(near) - 1, limit - len(abrupt)).astype(int)]
    return np.union1d(abrupt, spread)
