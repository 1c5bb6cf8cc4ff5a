"""Runs of a real Snakemake behind one line of progress: done, again, failed, killed, interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elite_pipeline.__main__ import main
from elite_pipeline.commands.running import _failure
from elite_pipeline.errors import InputError


def test_run_tells_its_steps_and_keeps_the_log(small, capfd):
    assert main(["run", "report.md"]) == 0
    told = capfd.readouterr().out
    log = Path(re.search(r"The complete log: (logs/run/\S+\.log)", told)[1])
    assert told.startswith("3 steps. ")
    assert re.search(r"^step 1 of 3: first [ab]", told, re.MULTILINE)
    assert re.search(r"^step 3 of 3: report", told, re.MULTILINE)
    assert re.search(r"^Done: 3 steps in \d+ s\.$", told, re.MULTILINE)
    assert told.endswith("\na\nb\n\n"), "a target that is a text is printed"
    assert "Building DAG" not in told
    assert "Building DAG" in log.read_text()
    assert "first works on a" in log.read_text()
    assert "Missing output files" in log.read_text(), "the reasons, which the profile leaves out on a screen"

    assert main(["run", "report.md"]) == 0
    told = capfd.readouterr().out
    assert told.startswith("Nothing to do: all results are up to date.\n")
    assert told.endswith("\na\nb\n\n")


def test_failed_job_names_rule_log_and_remedy(small, capfd):
    assert main(["run", "broken/a.txt"]) == 1
    told = capfd.readouterr().out
    assert "broken failed. The end of its log:\n    87\n" in told
    assert "    error: the reason\nIts log: logs/broken/a.log\nComplete log: logs/run/" in told
    assert "run the same command again" in told
    assert "Done" not in told
    assert (small / "first/a.txt").exists()


def test_killed_job_is_a_failed_one(small, capfd):
    assert main(["run", "killed.txt"]) == 1
    assert "killed failed. The end of its log:\n    works\nIts log: logs/killed.log" in capfd.readouterr().out


def test_job_without_a_log_is_told_too(small):
    told = _failure({"rule_name": "quiet", "log": ["logs/quiet.log"]}, Path("logs/run/all.log"))
    assert "quiet failed. The end of its log:\n    (no log was written)\nIts log: logs/quiet.log" in told


@pytest.mark.parametrize(("name", "of_sigint"), [("SIGINT", signal.SIG_DFL), ("SIGTERM", signal.SIG_IGN)])
def test_interrupt_ends_all_that_runs(small, name, of_sigint):
    """Also of a run in the background, which a shell starts with SIGINT ignored."""
    run = subprocess.Popen(
        [sys.executable, "-m", "elite_pipeline", "run", "slow.txt"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, of_sigint),
    )
    waited = time.monotonic() + 60
    while not (small / "pid").exists() or not (small / "pid").read_text().strip():
        assert time.monotonic() < waited
        time.sleep(0.1)
    job = int((small / "pid").read_text())
    run.send_signal(signal.Signals[name])
    out, fault = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Stopped after 0 of 1 steps. Finished steps are kept" in out
    assert fault == ""
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)
    assert not list(small.glob(".snakemake/locks/*")), "the same command can go on"


def test_closed_output_ends_the_run(small):
    """As in `elite-pipeline run slow.txt | head -1`."""
    command = [sys.executable, "-m", "elite_pipeline", "run", "slow.txt"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run.stdout.readline()
    run.stdout.close()
    assert run.wait(timeout=100) == 141
    assert run.stderr.read() == ""
    assert not list(small.glob(".snakemake/locks/*"))


def test_locked_folder_is_told(small, capfd):
    assert main(["run", "first/a.txt"]) == 0
    lock = small / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("first/b.txt\n")
    capfd.readouterr()
    assert main(["run", "first/b.txt"]) == 1
    told = capfd.readouterr().err
    assert "cannot be locked" in told
    assert "Complete log: logs/run/" in told


def test_target_that_nothing_makes_is_refused(small):
    with pytest.raises(InputError, match="nowhere"):
        main(["run", "nowhere.txt"])


def test_no_workflow_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no Snakefile here"):
        main(["plan", "all"])


def test_another_checkout_is_refused(small):
    (small / "elite_pipeline").mkdir()
    with pytest.raises(InputError, match="an elite_pipeline of its own"):
        main(["plan", "report.md"])
