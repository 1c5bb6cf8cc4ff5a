"""The command: its help is instant, and it does what the stages do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from elite_pipeline.__main__ import main

ROOT = Path(__file__).parents[1]


def test_help_names_the_commands_and_loads_nothing_heavy():
    program = (
        "import sys; from elite_pipeline.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in ("demo", "run", "plan", "predict", "doctor"):
        assert f"    {command} " in run.stdout
    assert not {"numpy", "torch", "snakemake", "pydantic", "yaml"} & set(eval(run.stdout.splitlines()[-1]))


def test_predict_is_the_stage(untrained_model, tmp_path, capsys):
    rng = np.random.default_rng(0)
    rng.uniform(-10, 10, (100, 4)).astype(np.float32).tofile(tmp_path / "scan.bin")
    words = ["--model", str(untrained_model), str(tmp_path / "scan.bin"), "--out", str(tmp_path / "labels")]
    assert main(["predict", *words]) == 0
    assert (tmp_path / "labels/scan.label").stat().st_size == 400


def test_predict_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    told = capsys.readouterr().out
    assert told.startswith("usage: elite-pipeline predict ")
    assert "--model" in told


def test_fault_is_one_line(tmp_path):
    command = [sys.executable, "-m", "elite_pipeline", "plan", "all"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert run.returncode == 1
    assert run.stderr == f"error: {tmp_path}: there is no Snakefile here. Change to the folder of the checkout.\n"
