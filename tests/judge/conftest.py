"""nuscenes-devkit as the judge, in an environment of its own: it needs numpy < 2."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-judge"


@pytest.fixture(scope="session")
def devkit():
    """A function (words of `devkit.py`) that returns what the devkit says, as JSON values."""
    if not (ENVIRONMENT / "set-up").exists():
        pytest.skip("nuscenes-devkit is not installed: make .venv-judge/set-up, which needs the network once")

    def judge(*words):
        command = [ENVIRONMENT / "bin/python", Path(__file__).with_name("devkit.py"), *map(str, words)]
        environment = {**os.environ, "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(ENVIRONMENT / "matplotlib")}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return judge
