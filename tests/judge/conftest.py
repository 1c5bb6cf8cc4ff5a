"""nuscenes-devkit as the judge, in an environment of its own: it needs numpy < 2."""

import json
import os
import subprocess
from pathlib import Path

import pytest

pytest.register_assert_rewrite("judge.agreement")

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-judge"


def judge(script, *words):
    """Run a script of this folder in the devkit's environment, and return the JSON values that it prints."""
    command = [ENVIRONMENT / "bin/python", Path(__file__).with_name(script), *map(str, words)]
    environment = {**os.environ, "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(ENVIRONMENT / "matplotlib")}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def installed():
    """Skip before anything is simulated or trained for the devkit."""
    if not (ENVIRONMENT / "set-up").exists():
        pytest.skip("nuscenes-devkit is not installed: make .venv-judge/set-up, which needs the network once")


@pytest.fixture(scope="session")
def devkit(installed):
    """A function (words of `devkit.py`) that returns what the devkit says of a nuScenes, as JSON values."""
    return lambda *words: judge("devkit.py", *words)


@pytest.fixture(scope="session")
def devkit_images(installed):
    """A function (words of `devkit_images.py`) that returns what the devkit says of a nuImages, as JSON values."""
    return lambda *words: judge("devkit_images.py", *words)
