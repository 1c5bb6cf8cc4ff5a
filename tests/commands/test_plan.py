"""What a target would take, by a real dry run: jobs, reasons, time, disk."""

import json
import re
import shutil
from pathlib import Path

import pytest

from elite_pipeline.__main__ import DEMO, main
from elite_pipeline.commands.plan import clock, duration
from elite_pipeline.errors import InputError


def rows(told):
    """Stage -> (to do, done, time, disk, rates, why) of the table."""
    lines = [re.split(r"  +", line) for line in told.splitlines() if re.match(r"[a-z_]+ +\d+ +\d+", line)]
    return {line[0]: line[1:] for line in lines}


def test_demo_that_is_not_made_yet(whole, capsys):
    assert main(["plan", *DEMO, "--cores", "2"]) == 0
    told = capsys.readouterr().out
    found = rows(told)
    assert found["simulate_drive"][:2] == ["7", "0"]
    assert found["train_student"][:2] == ["1", "0"]
    assert told.count(" new\n") == len(found) == 23
    assert "measured elsewhere" in told
    # benchmarks/rates.py has not run since these stages exist.
    new = {"aggregate_targets", "plot_aggregation", "keep_labels"}
    assert {stage for stage, row in found.items() if "not measured" in row} <= new
    assert re.search(
        r"^Total: 60 of 60 jobs to run, (about|at least) \d+ min on 2 cores, .*\d+ MB of disk", told, re.MULTILINE
    )
    assert "Warning" not in told


def statistics(seconds):
    """Text of a `benchmark:` file of Snakemake."""
    return f"s\th:m:s\tmax_rss\n{seconds}\t0:00:09\t100.0\n"


def test_own_measurements_count_and_other_sizes_are_a_rough_guess(whole, capsys):
    jobs = Path("logs/jobs/index_frames/demo")
    jobs.mkdir(parents=True)
    (jobs / "00.tsv").write_text(statistics(2000))
    assert main(["plan", "cache/demo/frames/00.parquet", "cache/full_size/frames/00.parquet"]) == 0
    told = capsys.readouterr().out
    assert "rough guess" in told
    assert main(["plan", "cache/demo/frames/00.parquet"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^index_frames +1 +0 +33 min .*measured here +new$", told, re.MULTILINE)


@pytest.fixture
def recorded(whole, write_drive):
    """`whole` with drives of one's own, in SemanticKITTI's layout, as data set `sample`."""
    for sequence in ("00", "08"):
        write_drive(whole / "data/sample/sequences" / sequence)
    return whole


def test_own_recordings_and_what_is_not_measured(recorded, capsys):
    """500 points a scan, two cameras, a student without a teacher that the demo does not have."""
    text = Path("config.yaml").read_text()
    Path("config.yaml").unlink()
    Path("config.yaml").write_text(text.replace("elite_sample: {of: elite_demo,", "elite_sample: {of: elite,"))
    assert main(["plan", "results/sample_miou.json"]) == 0
    told = capsys.readouterr().out
    found = rows(told)
    assert found["project_points"][4] == "rough guess", "of other points per scan than the demo's"
    assert found["train_student"][2:4] == ["?", "?"]
    assert found["train_student"][4] == "not measured"
    assert re.search(r"^Total: \d+ of \d+ jobs to run, at least ", told, re.MULTILINE)
    assert re.search(r"^Not measured, so not in the total: .*train_student", told, re.MULTILINE)


def test_missing_recordings_are_refused(whole):
    with pytest.raises(InputError, match=r"^data/semkitti/sequences/08: the data folder is missing") as refused:
        main(["plan", "results/semkitti_miou.json"])
    assert "Traceback" not in str(refused.value)


def test_missing_sequence_of_a_job_before_is_refused(whole, write_drive):
    write_drive(whole / "data/sample/sequences/08")
    with pytest.raises(InputError, match=r"^data/sample/sequences/00: the sequence is missing") as refused:
        main(["plan", "results/sample_miou.json"])
    assert "Traceback" not in str(refused.value)


def test_unknown_target_is_refused_with_what_there_is(whole):
    with pytest.raises(InputError, match=r"^results/nothing\.json: the workflow cannot make .*docs/commands\.md"):
        main(["plan", "results/nothing.json"])


def test_small_disk_is_a_warning(whole, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(2000, 1000, 1000))
    assert main(["plan", "data/demo/sequences/00"]) == 0
    assert re.search(r"^Warning: the disk is too small by \d+ MB", capsys.readouterr().out, re.MULTILINE)


def test_packaged_rates_are_whole():
    from elite_pipeline.commands.rates import PACKAGED, Rate

    about = json.loads(PACKAGED.read_text())
    rates = [Rate(**rate) for rate in about["rates"]]
    assert len({rate.rule for rate in rates}) == 20
    assert all(rate.start >= 0 and rate.seconds >= 0 and rate.start + rate.seconds > 0 for rate in rates)
    assert about["machine"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["date"])


@pytest.mark.parametrize(
    ("seconds", "said", "clocked"),
    [(7, "7 s", "0:07"), (750, "12 min", "12:30"), (12240, "3.4 h", "3:24:00"), (216000, "2.5 days", "60:00:00")],
)
def test_durations(seconds, said, clocked):
    assert (duration(seconds), clock(seconds)) == (said, clocked)
