"""Measured rates: seconds to start a job, seconds and bytes for each frame, image or scan of its work.

A rate comes from the jobs that have run in this folder (`logs/jobs`), or else from `rates.json`, which
`benchmarks/rates.py` measured. Where a rate was measured with other sizes of scans or images it is scaled by them,
which is a rough guess. With other settings (another encoder, another network) no rate is used.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elite_pipeline.commands.dry_run import Statistics
from elite_pipeline.commands.workload import Workload, Workloads
from elite_pipeline.errors import InputError

PACKAGED = Path(__file__).with_name("rates.json")
"""{"machine", "date", "gpu", "rates"}, as `benchmarks/rates.py` writes it."""

HERE, ELSEWHERE, ROUGH = "measured here", "measured elsewhere", "rough guess"


@dataclass(frozen=True)
class MeasuredJob:
    """A job that has run."""

    rule: str
    work: Workload
    seconds: float
    size: int | None
    """Bytes of its results; None where they are not there any more."""


@dataclass(frozen=True)
class Rate:
    """What a job of one rule takes."""

    rule: str
    unit: str
    like: dict[str, Any]
    start: float
    """Seconds of a job without any work: mostly imports."""
    seconds: float
    """Seconds for each unit of work."""
    size: float
    """Bytes for each unit of work."""
    points: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a job will take; None where no rate applies."""

    seconds: float | None
    size: float | None
    """Bytes of its results."""
    basis: str | None
    """Where the rate comes from: `HERE`, `ELSEWHERE` or `ROUGH`."""


class Rates:
    """The rates that apply in this folder."""

    def __init__(self, measured: Iterable[Statistics], workloads: Workloads, gpu: bool) -> None:
        """gpu: whether this machine has one; then rates that were measured without a GPU are only a rough guess."""
        about = json.loads(PACKAGED.read_text())
        self.machine, self.date = about["machine"], about["date"]
        self._foreign = about["gpu"] != gpu
        self._packaged = [Rate(**rate) for rate in about["rates"]]
        self._own = fit(measured_jobs(measured, workloads), {rate.rule: rate.start for rate in self._packaged})

    def estimate(self, rule: str, work: Workload) -> Estimate:
        """What a job of `rule` with this work will take."""
        for rates, basis in ((self._own, HERE), (self._packaged, ROUGH if self._foreign else ELSEWHERE)):
            found = [r for r in rates if (r.rule, r.unit, r.like) == (rule, work.unit, work.like)]
            if found:
                rate = min(found, key=lambda r: abs(_scale(r, work) - 1))
                scale = _scale(rate, work)
                return Estimate(
                    rate.start + rate.seconds * work.amount * scale,
                    rate.size * work.amount * scale,
                    basis if abs(scale - 1) < 0.05 else ROUGH,
                )
        return Estimate(None, None, None)


def _scale(rate: Rate, work: Workload) -> float:
    """How much larger the scans and images are than those that were measured."""
    pairs = [(work.points, rate.points), (work.pixels, rate.pixels)]
    ratios = [now / before for now, before in pairs if now and before]
    return sum(ratios) / len(ratios) if ratios else 1.0


def measured_jobs(jobs: Iterable[Statistics], workloads: Workloads) -> list[MeasuredJob]:
    """The jobs that have run in the working directory, with their work under its configuration."""
    found = []
    for job in jobs:
        try:
            work = workloads.of(job.rule, job.wildcards)
        except InputError:
            continue  # of a data set or an experiment that is not there any more
        there = bool(job.outputs) and all(Path(path).exists() for path in job.outputs)
        found.append(MeasuredJob(job.rule, work, job.seconds, bytes_of(job.outputs) if there else None))
    return found


def fit(jobs: Iterable[MeasuredJob], starts: dict[str, float]) -> list[Rate]:
    """The rates of jobs that have run. starts: rule -> seconds of a job without work, where that is known."""
    groups: dict[str, list[MeasuredJob]] = {}
    for job in jobs:
        work = job.work
        key = json.dumps([job.rule, work.unit, work.like, work.points, work.pixels], sort_keys=True)
        groups.setdefault(key, []).append(job)
    return [_fit(group, starts) for group in groups.values()]


def _fit(jobs: list[MeasuredJob], starts: dict[str, float]) -> Rate:
    """The rate of jobs of one kind: by least squares where their amounts differ by half or more, else from `starts`."""
    import numpy as np
    from scipy.optimize import nnls

    rule, work = jobs[0].rule, jobs[0].work
    amounts = np.array([job.work.amount for job in jobs])
    seconds = np.array([job.seconds for job in jobs])
    if work.unit == "job":
        start, slope = seconds.mean(), 0.0
    elif amounts.max() >= 1.5 * amounts.min():
        (start, slope), _ = nnls(np.column_stack([np.ones_like(amounts), amounts]), seconds)
        if slope == 0:
            # Other programs hid the growth. Rather too much for a large data set than nearly nothing.
            largest = amounts == amounts.max()
            start, slope = 0.0, seconds[largest].mean() / amounts.max()
    else:
        start = min(starts.get(rule, 0.0), seconds.min())
        slope = (seconds - start).sum() / amounts.sum() if amounts.sum() else 0.0
    kept = [(job.size, job.work.amount) for job in jobs if job.size is not None]
    total = sum(amount for _, amount in kept)
    size = sum(size for size, _ in kept) / total if total else 0.0
    return Rate(rule, work.unit, dict(work.like), float(start), float(slope), size, work.points, work.pixels)


def bytes_of(paths: Iterable[str]) -> int:
    """Bytes of files and of all files in folders; 0 for what is not there."""
    files = (file for path in map(Path, paths) for file in ([path] if path.is_file() else path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())
