"""The report on an installation: this one, a bare Python's, and one that lacks things."""

import subprocess
import sys
from pathlib import Path

import pytest

from elite_pipeline import system
from elite_pipeline.__main__ import main
from elite_pipeline.commands import doctor

ROOT = Path(__file__).parents[2]


def marks(text):
    """Subject -> mark of the report's lines."""
    return {
        line[8:28].strip(): line[:8].strip()
        for line in text.splitlines()
        if line[:8].strip() in ("ok", "missing", "note")
    }


def test_this_installation_has_what_is_needed(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "missing" not in marks(told).values()
    assert "a small convolution runs on the CPU" in told
    assert told.endswith("Nothing that the pipeline needs is missing.\n")


def test_bare_python_is_told_to_set_up():
    """-S: without what is installed, as the system's Python."""
    run = subprocess.run(
        [sys.executable, "-S", "-m", "elite_pipeline", "doctor"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1, run.stderr
    found = marks(run.stdout)
    assert {found[subject] for subject in ("packages", "Snakemake", "torch", "spconv")} == {"missing"}
    assert found["system libraries"] == "ok"
    assert "numpy" in run.stdout
    assert "make demo" in run.stdout


def test_library_that_is_missing_is_a_line_to_type(monkeypatch, capsys):
    monkeypatch.setitem(system.DEBIAN_PACKAGES, "libNowhere.so.7", "libnowhere7")
    monkeypatch.setattr(doctor, "findings", lambda folder: [doctor._libraries()])
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "sudo apt-get install -y --no-install-recommends libnowhere7" in told
    assert told.endswith("Missing: system libraries.\n")


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGFPE)", "it was killed by SIGFPE"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_convolution_that_fails_is_told(monkeypatch, program, fault):
    """spconv-cu120 with numpy 2 dies with SIGFPE."""
    monkeypatch.setattr(doctor, "CONVOLUTION", program)
    found = doctor._spconv()
    assert found.mark == "missing"
    assert fault in found.text


def test_data_and_checkpoints_are_listed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/own").symlink_to(tmp_path)
    (tmp_path / "data/gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/sam_vit_b_01ec64.pth").touch()
    broken, there = doctor._links(tmp_path)
    assert (broken.mark, there.mark) == ("note", "ok")
    assert "nowhere, which is not there" in broken.text
    assert there.text == f"own -> {tmp_path}"
    assert doctor._checkpoints(tmp_path).text == "sam_tiny (packaged), sam_vit_b_01ec64.pth (vit_b)"


def test_little_space_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_DISK", 1e9)
    monkeypatch.setattr(doctor, "LEAST_MEMORY", 1e9)
    monkeypatch.setattr(doctor, "LEAST_SHARED", 1e9)
    assert [finding.mark for finding in doctor._space(tmp_path)] == ["note"] * 3
