"""Plan a target: the jobs of each stage, why they would run, and the time and disk space that they need."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from elite_pipeline import config
from elite_pipeline.commands.dry_run import Dag, DryJob, dry_run
from elite_pipeline.commands.rates import ROUGH, Estimate, Rates
from elite_pipeline.commands.timeline import makespan
from elite_pipeline.commands.workload import Workload, Workloads
from elite_pipeline.config.reading import COMPARISONS


@dataclass(frozen=True)
class Plan:
    """The jobs behind a target, and the time and disk space that they need."""

    dag: Dag
    estimates: list[Estimate]
    """Of each job of `dag`, whether it would run or not."""
    rates: Rates

    @property
    def to_do(self) -> list[int]:
        """Positions of the jobs that would run."""
        return [k for k, job in enumerate(self.dag.jobs) if job.why]

    def seconds(self) -> float:
        """Seconds until all targets are made. Jobs without a rate count as 0 s."""
        return self.makespan({k: self.estimates[k].seconds or 0.0 for k in self.to_do})

    def makespan(self, seconds: dict[int, float]) -> float:
        """Seconds until all jobs have ended. seconds: position of a job -> the seconds that it still takes."""
        return makespan(self.dag.jobs, seconds, self.dag.cores, self.dag.gpus)


def make_plan(targets: Sequence[str], cores: int | None = None) -> Plan:
    """The plan of `targets` (none: of rule `all`) in the working directory. Raises `InputError`, see `dry_run`."""
    dag = dry_run(targets, cores)
    workloads = Workloads(config.read(Path("config.yaml"), COMPARISONS))
    rates = Rates(dag.measured, workloads, gpu=which("nvidia-smi") is not None)
    estimates = [rates.estimate(job.rule, _work(workloads, job)) for job in dag.jobs]
    return Plan(dag, estimates, rates)


def _work(workloads: Workloads, job: DryJob) -> Workload:
    return workloads.of(job.rule, job.wildcards)


def show(plan: Plan) -> str:
    """The table of a plan, and one line for the whole."""
    jobs = [(k, job) for k, job in enumerate(plan.dag.jobs) if job.outputs]
    if not any(job.why for _, job in jobs):
        return f"Nothing to do: all {len(jobs)} jobs are done, and their results are up to date."
    lines = [f"{'stage':<24}{'to do':>6}{'done':>6}{'time':>10}{'disk':>10}  {'rates':<20}why"]
    for rule in dict.fromkeys(job.rule for _, job in jobs):
        of_rule = [(k, job) for k, job in jobs if job.rule == rule]
        lines.append(_row(rule, plan, of_rule))
    return "\n".join([*lines, "", *_total(plan, len(jobs))])


def _row(rule: str, plan: Plan, jobs: list[tuple[int, DryJob]]) -> str:
    to_do = [(plan.estimates[k], job) for k, job in jobs if job.why]
    done = len(jobs) - len(to_do)
    if not to_do:
        return f"{rule:<24}{0:>6}{done:>6}"
    known = [estimate for estimate, _ in to_do if estimate.seconds is not None]
    bases = {estimate.basis for estimate, _ in to_do}
    basis = next((b for b in (None, ROUGH) if b in bases), next(iter(bases))) or "not measured"
    seconds = duration(sum(e.seconds or 0 for e in known)) if len(known) == len(to_do) else "?"
    size = _bytes(sum(e.size or 0 for e in known)) if len(known) == len(to_do) else "?"
    why = ", ".join(
        f"{n} {reason}" if n < len(to_do) else reason for reason, n in Counter(j.why for _, j in to_do).items()
    )
    return f"{rule:<24}{len(to_do):>6}{done:>6}{seconds:>10}{size:>10}  {basis:<20}{why}"


def _total(plan: Plan, jobs: int) -> list[str]:
    """One line of totals, and a warning if the disk is too small."""
    chosen = [(plan.dag.jobs[k], plan.estimates[k]) for k in plan.to_do if plan.dag.jobs[k].outputs]
    unknown = {job.rule for job, estimate in chosen if estimate.seconds is None}
    needed = sum(estimate.size or 0 for job, estimate in chosen if not any(Path(p).exists() for p in job.outputs))
    free = shutil.disk_usage(".").free
    least = "at least " if unknown else "about "
    cores = f"{plan.dag.cores} core" + ("s" if plan.dag.cores > 1 else "")
    disk = f"{least}{_bytes(needed)} of disk" if needed else "no more disk"
    takes = f"{least}{duration(plan.seconds())} on {cores}, {disk}"
    if all(estimate.seconds is None for _, estimate in chosen):
        takes = "time and disk not known"
    lines = [f"Total: {len(chosen)} of {jobs} jobs to run, {takes} ({_bytes(free)} are free)."]
    if unknown:
        lines.append(
            f"Not measured, so not in the total: {', '.join(sorted(unknown))}. Run a few frames to measure them."
        )
    bases = {estimate.basis for _, estimate in chosen}
    if ROUGH in bases:
        lines.append("A rough guess is a rate of other hardware, or of other sizes, scaled by points and pixels.")
    if bases - {None, "measured here"}:
        lines.append(f"Rates from elsewhere: {plan.rates.machine}, {plan.rates.date}.")
    if needed > free:
        lines.append(
            f"Warning: the disk is too small by {_bytes(needed - free)}. Free some space, or link cache/ elsewhere."
        )
    return lines


def duration(seconds: float) -> str:
    """`seconds` in words: 45 s, 12 min, 3.4 h, 2.5 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def clock(seconds: float) -> str:
    """`seconds` as a clock shows them: 0:07, 12:30, 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
