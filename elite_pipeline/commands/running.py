"""Make targets with Snakemake behind one line of progress. The output of Snakemake and of the stages goes to a file."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from elite_pipeline.commands.plan import Plan, duration, make_plan
from elite_pipeline.commands.progress_line import ProgressLine

PROFILE = "workflow/profiles/local"
LOGS = Path("logs/run")
LAST_LINES = 15
"""Lines of a failed job's log that are shown."""


def make(targets: Sequence[str], cores: int | None = None) -> int:
    """Make `targets` (none: those of rule `all`) in the working directory; says what it does on stdout.

    Returns Snakemake's exit status, 130 after Ctrl-C. Raises `InputError` where Snakemake refuses a target, the
    configuration or a missing file.
    """
    plan = make_plan(targets, cores)
    if not plan.to_do:
        print("Nothing to do: all results are up to date.")
        return 0
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{datetime.now():%Y-%m-%d_%H%M%S}.log"
    steps = f"{len(plan.to_do)} step" + "s" * (len(plan.to_do) > 1)
    print(f"{steps}{_expected(plan)}. The complete log: {log}", flush=True)
    begun = time.monotonic()
    line = ProgressLine(plan)
    try:
        status = _Run(line, ["--workflow-profile", PROFILE, *_options(cores), "--", *targets], log).wait()
    finally:
        line.close()
    took = duration(time.monotonic() - begun)
    if status == 0:
        print(f"Done: {steps} in {took}.")
    elif status == INTERRUPTED:
        print(f"Stopped after {line.finished} of {line.total or len(plan.to_do)} steps. {RESUME}")
    elif not line.failed:
        print(_fault(line, log), file=sys.stderr)
    return status


PATIENCE = 15
"""How many times to wait two seconds for a run to end."""
INTERRUPTED = 128 + signal.SIGINT
RESUME = "Finished steps are kept. Run the same command again to continue."


def _expected(plan: Plan) -> str:
    """The time of a plan, in words. Empty if no step of it has a rate."""
    seconds = [plan.estimates[k].seconds for k in plan.to_do]
    if all(found is None for found in seconds):
        return ""
    return f", {'at least' if None in seconds else 'about'} {duration(plan.seconds())}"


def _options(cores: int | None) -> list[str]:
    # The profile hides rules and reasons on a screen. A log should have them.
    return ["--quiet", "host", *([] if cores is None else ["--cores", str(cores)])]


class _Run:
    """A running Snakemake."""

    def __init__(self, line: ProgressLine, arguments: list[str], log: Path) -> None:
        self._line, self._log, self._interrupted = line, log, False
        reader, writer = os.pipe()
        words = [sys.executable, "-m", "elite_pipeline.commands.events", str(writer), *arguments]
        # A process group of its own, so that an interrupt reaches Snakemake and its jobs once, through this process.
        with log.open("w") as out:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[writer], start_new_session=True
            )
        os.close(writer)
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=[reader], daemon=True).start()

    def wait(self) -> int:
        """Follow the run to its end. Returns its exit status, `INTERRUPTED` after Ctrl-C or a kill."""
        handled = [name for name in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(name) != signal.SIG_IGN]
        before = {name: signal.signal(name, signal.default_int_handler) for name in handled}
        try:
            while True:
                try:
                    if not self._follow():
                        status = self._process.wait()
                        return INTERRUPTED if self._interrupted else status
                except KeyboardInterrupt:
                    self._interrupt()
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
            self._end()

    def _interrupt(self) -> None:
        """Ask Snakemake and its jobs to end. The second time, kill the jobs; Snakemake then ends and leaves no lock."""
        if self._interrupted:
            self._kill_jobs()
            return
        self._interrupted = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
        self._line.say("Stopping the running steps. Press Ctrl-C again to kill them.")

    def _kill_jobs(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def _end(self) -> None:
        """End a run that is no longer followed, for instance because stdout was closed."""
        if self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGINT)
        for _ in range(PATIENCE):
            try:
                self._process.wait(timeout=2)
                return
            except subprocess.TimeoutExpired:
                self._kill_jobs()  # including jobs that started after the interrupt
        os.killpg(self._process.pid, signal.SIGKILL)

    def _follow(self) -> bool:
        """Wait up to a second for an event, and show it. Returns False after the last event."""
        try:
            event = self._events.get(timeout=1.0)
        except queue.Empty:
            self._line.refresh()
            return True
        if event is None:
            return False
        self._line.event(event)
        if event["event"] == "job_error" and not self._interrupted:
            self._line.say(_failure(event, self._log))
        return True

    def _read(self, reader: int) -> None:
        with os.fdopen(reader) as lines:
            for text in lines:
                self._events.put(json.loads(text))
        self._events.put(None)


def _failure(event: dict[str, Any], whole: Path) -> str:
    """The message about a failed job: its rule, the end of its log, the log's path, and what to do."""
    shown = []
    for log in map(Path, event["log"] or []):
        lines = log.read_text(errors="replace").splitlines() if log.exists() else ["(no log was written)"]
        shown += [f"    {text}" for text in lines[-LAST_LINES:]]
        shown.append(f"Its log: {log}")
    return "\n".join(
        [f"\n{event['rule_name']} failed. The end of its log:", *shown, f"Complete log: {whole}", MEND, ""]
    )


MEND = "Correct the fault that the log shows, then run the same command again. Finished steps are kept."


def _fault(line: ProgressLine, log: Path) -> str:
    """The message where Snakemake failed outside of any job."""
    said = "\n".join(line.faults).strip() or "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
    return f"error: {said}\nComplete log: {log}"


def summarise(targets: Sequence[str]) -> None:
    """Print the Markdown files among `targets`, and the time of each stage of an experiment."""
    from elite_pipeline.commands.stage_times import table

    for target in map(Path, targets):
        if target.suffix == ".md":
            print(f"\n{target.read_text()}")
        if target.name.endswith("_summary.md"):
            print(table(target.name.removesuffix("_summary.md")))
