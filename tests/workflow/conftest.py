"""Snakemake as a user runs it: the command, in a folder."""

import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def snakemake():
    """A function (folder, *arguments) that runs Snakemake there and returns what it printed."""

    def run(folder, *arguments):
        # No environment is activated: the rules find the Python that runs Snakemake.
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        environment["PATH"] = "/usr/local/bin:/usr/bin:/bin"
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
        return result.stdout + result.stderr

    return run
