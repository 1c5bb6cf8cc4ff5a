"""One line for a whole run: step k of n, what runs now, how long it has taken and will take.

On a terminal the line is redrawn. In a log, a plain line says when a step starts. A long step
adds a line each minute.
"""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from tqdm import tqdm

from elite_pipeline.commands.dry_run import job_key
from elite_pipeline.commands.plan import Plan, clock, duration

SILENCE = 60.0
"""After this many seconds without a line, a log gets one about the running step."""


@dataclass
class Step:
    """A running job."""

    number: int
    rule: str
    wildcards: dict[str, str]
    since: float

    @property
    def name(self) -> str:
        """The rule and its wildcards."""
        return " ".join([self.rule, "/".join(filter(None, self.wildcards.values()))]).strip()


class ProgressLine:
    """Follows the events of a run (`events.FIELDS`) and shows its progress."""

    def __init__(self, plan: Plan, out: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        """plan: what the run will take. out: stdout by default."""
        self.plan, self.now = plan, now
        self.out = sys.stdout if out is None else out
        self.total = 0
        self.finished = 0
        self.failed: list[dict[str, Any]] = []
        self.faults: list[str] = []
        """Snakemake's messages about errors outside any job."""
        self._spoken = now()
        self._running: dict[int, Step] = {}
        self._left = {plan.dag.jobs[k].key: k for k in plan.to_do}
        self._expected = self._took = 0.0
        self._bar = (
            tqdm(total=1, file=self.out, bar_format="{desc}", leave=False, ncols=_width(), nrows=20)
            if self.out.isatty()
            else None
        )

    def event(self, event: Mapping[str, Any]) -> None:
        """Handle one event."""
        kind = event["event"]
        if kind == "run_info":
            self.total = event["stats"]["total"]
        elif kind == "job_info":
            self._start(event["jobid"], event["rule_name"], dict(event["wildcards"] or {}))
        elif kind == "job_finished":
            self._finish(event["job_id"])
        elif kind == "job_error":
            self._running.pop(event["jobid"], None)
            self.failed.append(dict(event))
        elif kind == "error":
            self.faults.append(event["message"])
        self.refresh()

    def refresh(self) -> None:
        """Draw the line again. In a log, add a line after `SILENCE`."""
        if self._bar is not None:
            self._bar.ncols = _width()
            self._bar.set_description_str(self._line()[: self._bar.ncols])
        elif self._running and self.now() - self._spoken >= SILENCE:
            self.say(self._line())

    def say(self, text: str) -> None:
        """Print a line of its own, above the redrawn one."""
        self._spoken = self.now()
        if self._bar is not None:
            self._bar.write(text, file=self.out)
        else:
            print(text, file=self.out, flush=True)

    def close(self) -> None:
        """Remove the redrawn line."""
        if self._bar is not None:
            self._bar.close()

    def _start(self, job: int, rule: str, wildcards: dict[str, str]) -> None:
        number = self.finished + len(self._running) + len(self.failed) + 1
        self._running[job] = Step(number, rule, wildcards, self.now())
        if self._bar is None:
            expected = self._seconds(self._running[job])
            about = f", about {clock(expected)}" if expected else ""
            self.say(f"step {number} of {self.total}: {self._running[job].name}{about}{self._left_words()}")

    def _finish(self, job: int) -> None:
        step = self._running.pop(job, None)
        self.finished += 1
        if step is None:
            return
        k = self._left.pop(job_key(step.rule, step.wildcards), None)
        expected = None if k is None else self.plan.estimates[k].seconds
        if expected:
            self._expected += expected
            self._took += self.now() - step.since

    def _line(self) -> str:
        if not self.total:
            return "Snakemake reads the workflow"
        if not self._running:
            return f"step {self.finished} of {self.total} done"
        return self._described(list(self._running.values()))

    def _described(self, steps: list[Step]) -> str:
        """step 3 of 52: project_points demo/03 0:02 of about 0:04; about 8 min left"""
        parts = []
        for step in steps:
            expected = self._seconds(step)
            elapsed = clock(self.now() - step.since)
            parts.append(f"{step.name} {elapsed}" + (f" of about {clock(expected)}" if expected else ""))
        numbers = "-".join(str(n) for n in sorted({steps[0].number, steps[-1].number}))
        return f"step {numbers} of {self.total}: {', '.join(parts)}{self._left_words()}"

    def _left_words(self) -> str:
        left = self._remaining()
        return "" if left is None else f"; about {duration(left)} left"

    @property
    def _pace(self) -> float:
        """How much slower this run is than its plan; 1 until a minute has been seen."""
        return self._took / self._expected if self._expected and self._took > 60 else 1.0

    def _seconds(self, step: Step) -> float | None:
        """Expected seconds of a step, from start to end."""
        k = self._left.get(job_key(step.rule, step.wildcards))
        seconds = None if k is None else self.plan.estimates[k].seconds
        return None if seconds is None else seconds * self._pace

    def _remaining(self) -> float | None:
        """Seconds until all is done; None where a step that is left has no rate."""
        if any(self.plan.estimates[k].seconds is None for k in self._left.values()):
            return None
        seconds = {k: (self.plan.estimates[k].seconds or 0) * self._pace for k in self._left.values()}
        for step in self._running.values():
            k = self._left.get(job_key(step.rule, step.wildcards))
            if k is not None:
                seconds[k] = max(1.0, seconds[k] - (self.now() - step.since))
        return self.plan.makespan(seconds)


def _width() -> int:
    """Columns of a line that does not wrap."""
    return shutil.get_terminal_size().columns - 1
