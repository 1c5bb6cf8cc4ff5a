"""How long jobs take together, given their dependencies and the number of cores and GPUs."""

import heapq
from collections.abc import Mapping, Sequence

from elite_pipeline.commands.dry_run import DryJob


def makespan(jobs: Sequence[DryJob], seconds: Mapping[int, float], cores: int, gpus: int) -> float:
    """Seconds until all jobs of `seconds` have ended, each started as soon as it can.

    seconds: position in `jobs` -> seconds that it still takes. Jobs that are not in it have ended.
    """
    waiting = {k: {other for other in jobs[k].after if other in seconds} for k in seconds}
    followers: dict[int, list[int]] = {k: [] for k in seconds}
    for k, others in waiting.items():
        for other in others:
            followers[other].append(k)
    ready = sorted(k for k, others in waiting.items() if not others)
    running: list[tuple[float, int]] = []
    now, free, free_gpus = 0.0, cores, gpus
    while ready or running:
        for k in list(ready):
            threads, cards = _needs(jobs[k], cores, gpus)
            if threads <= free and cards <= free_gpus:
                ready.remove(k)
                free, free_gpus = free - threads, free_gpus - cards
                heapq.heappush(running, (now + seconds[k], k))
        now, ended = heapq.heappop(running)
        threads, cards = _needs(jobs[ended], cores, gpus)
        free, free_gpus = free + threads, free_gpus + cards
        for k in followers[ended]:
            waiting[k].discard(ended)
            if not waiting[k]:
                ready.append(k)
    return now


def _needs(job: DryJob, cores: int, gpus: int) -> tuple[int, int]:
    """(threads, GPUs) of a job, no more than there are."""
    return min(max(job.threads, 1), cores), min(job.gpus, gpus)
