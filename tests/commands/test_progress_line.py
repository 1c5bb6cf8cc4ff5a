"""The line of a run, as events come in: redrawn on a terminal, plain in a log."""

import io
import os
import select

import pytest

from elite_pipeline.commands.dry_run import Dag, DryJob
from elite_pipeline.commands.plan import Plan
from elite_pipeline.commands.progress_line import ProgressLine
from elite_pipeline.commands.rates import Estimate


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def plan_of(seconds):
    """A plan of jobs 0, 1, ... of rule `work`, one after the other on one core, which take `seconds`."""
    jobs = [DryJob("work", {"name": str(k)}, "new", 1, 0, [k - 1] * (k > 0), ["x"]) for k in range(len(seconds))]
    return Plan(Dag(jobs, [], 1, 0), [Estimate(s, None, None) for s in seconds], None)


def started(k):
    return {"event": "job_info", "jobid": k, "rule_name": "work", "wildcards": {"name": str(k)}, "message": ""}


def ended(k):
    return {"event": "job_finished", "job_id": k, "message": ""}


RUN = {"event": "run_info", "stats": {"work": 3, "total": 3}, "message": ""}


def test_log_gets_a_line_for_each_step_and_one_a_minute():
    out, clock = io.StringIO(), Clock()
    line = ProgressLine(plan_of([100.0, 50.0, 10.0]), out, clock)
    line.event(RUN)
    line.event(started(0))
    for clock.now in range(1, 130):
        line.refresh()
    line.event(ended(0))
    line.event(started(1))
    assert out.getvalue().splitlines() == [
        "step 1 of 3: work 0, about 1:40; about 3 min left",
        "step 1 of 3: work 0 1:00 of about 1:40; about 2 min left",
        "step 1 of 3: work 0 2:00 of about 1:40; about 61 s left",
        "step 2 of 3: work 1, about 1:04; about 77 s left",
    ], "the second step is expected to be as much slower as the first was"


def test_steps_that_nobody_measured_have_no_times():
    out = io.StringIO()
    line = ProgressLine(plan_of([None, 5.0]), out, Clock())
    line.event(RUN)
    line.event(started(0))
    assert out.getvalue() == "step 1 of 3: work 0\n"


@pytest.fixture
def terminal(monkeypatch):
    """(file to write to, function that returns what the terminal was sent): 120 columns."""
    monkeypatch.setenv("COLUMNS", "120")
    reader, writer = os.openpty()

    def sent():
        """All that was written: the kernel hands it on a little later."""
        text = ""
        while select.select([reader], [], [], 0.2)[0]:
            text += os.read(reader, 100_000).decode()
        return text

    with os.fdopen(writer, "w") as out:
        yield out, sent
    os.close(reader)


def test_terminal_has_one_line_that_is_redrawn(terminal):
    out, sent = terminal
    clock = Clock()
    line = ProgressLine(plan_of([10.0, 10.0, 10.0]), out, clock)
    line.event(RUN)
    line.event(started(0))
    for clock.now in range(1, 5):
        line.refresh()
    text = sent()
    assert "\n" not in text
    assert text.count("\r") > 4
    assert text.endswith("step 1 of 3: work 0 0:04 of about 0:10; about 26 s left")
    line.say("a line of its own")
    assert "a line of its own\r\n" in sent()
    line.close()
    assert sent().endswith("\r")


def test_jobs_side_by_side_share_the_line(terminal):
    out, sent = terminal
    line = ProgressLine(plan_of([10.0, 10.0, 10.0]), out, Clock())
    for event in (RUN, started(0), started(1)):
        line.event(event)
    assert "step 1-2 of 3: work 0 0:00 of about 0:10, work 1 0:00 of about 0:10" in sent()
