"""Snakemake as a user runs it: the command, in a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def snakemake():
    """A function (folder, *arguments) that runs Snakemake there and returns what it printed."""

    def run(folder, *arguments):
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path})
        return result.stdout + result.stderr

    return run
