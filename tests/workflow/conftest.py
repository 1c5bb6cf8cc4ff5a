"""Fixtures that run the snakemake command as a user does, and dry runs of a workflow whose stages only make files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]

STUB = """
if __name__ == "__main__":
    import pathlib, sys
    outs = [pathlib.Path(sys.argv[sys.argv.index("--out") + 1])]
    name = pathlib.Path(__file__).stem
    if name == "train_student":
        outs = [outs[0] / n for n in ("student.safetensors", "config.json", "training.jsonl")]
    if name in ("evaluate_miou", "evaluate_teacher", "measure_latency", "evaluate_pseudo_labels", "plot_embedding"):
        outs.append(outs[0].with_suffix(".md"))
    if name == "plot_embedding":
        outs.append(outs[0].with_suffix(".png"))
    for stage, option in (("evaluate_pseudo_labels", "--gallery"), ("plot_pseudo_labels", "--worst")):
        if name == stage:
            outs.append(pathlib.Path(sys.argv[sys.argv.index(option) + 1]))
    if name == "simulate_tables":
        outs += [outs[0].parent / kind / outs[0].name for kind in ("lidarseg", "panoptic")]
    for out in outs:
        if out.suffix in (".zarr", ".0-mini", "") and not out.name == "README":
            out.mkdir(parents=True, exist_ok=True)
            if name in ("simulate_drive", "simulate_images", "simulate_tables"):
                (out / "simulated.json").write_text("{}")
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text("x")
    sys.exit()
"""
"""Code that is put before the code of a stage and runs instead of it. The stage's imports stay and still count."""

TARGETS = {
    "demo": ["all"],
    "udakd": ["results/demo_udakd_miou.json"],
    "fskd": ["results/demo_fskd_miou.json", "results/demo_fskd_embedding.png"],
}


class Job(NamedTuple):
    """A job that the targets of a dry run depend on."""

    rule: str
    inputs: list[str]
    reason: str
    """Why it would run; empty if it would not run."""
    updated: list[str]
    """Inputs that changed since its last run. Snakemake leaves it empty if an earlier job would run."""


@pytest.fixture(scope="module")
def workflow_with(tmp_path_factory):
    """A function (configuration as a dict) that returns a folder with the workflow and this config.yaml."""

    def made(config):
        folder = tmp_path_factory.mktemp("workflow")
        for name in ("Snakefile", "workflow", "elite_pipeline"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "config").mkdir()
        shutil.copy(ROOT / "config/comparisons.yaml", folder / "config")
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return made


@pytest.fixture(scope="session")
def environment():
    """Environment variables of a shell without an activated environment. Rules must still find Snakemake's Python."""
    variables = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return {**variables, "PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture(scope="session")
def snakemake(environment, warm_python):
    """A function (folder, *arguments) that runs snakemake there and returns its output."""

    def run(folder, *arguments):
        command = [warm_python, "-m", "snakemake", "--cores", "2", *arguments]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
        return result.stdout + result.stderr

    return run


@pytest.fixture(scope="session")
def dag(environment):
    """A function (folder, *targets) that returns every `Job` that the targets depend on. See `dry_runs.py`."""
    command = [sys.executable, str(Path(__file__).with_name("dry_runs.py"))]
    # In another process, because Snakemake changes logging, the working directory and the loaded modules.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def run(folder, *targets):
            print(json.dumps({"folder": str(folder), "targets": targets}), file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
            assert isinstance(answer, list), answer["error"]
            return [Job(*job) for job in answer]

        yield run


@pytest.fixture(scope="session")
def dry_run(dag):
    """A function (folder, *targets) that returns the jobs that `snakemake --dry-run` would list there."""
    return lambda folder, *targets: [job for job in dag(folder, *targets) if job.reason]


@pytest.fixture(scope="session")
def targets():
    """Name of an experiment -> its targets, which are made in `finished`."""
    return TARGETS


@pytest.fixture(scope="session")
def finished(tmp_path_factory, snakemake):
    """A copy of the workflow in which all `TARGETS` are up to date. Its stages only make files.

    All tests share it: a test that changes a file must restore it.
    """
    folder = tmp_path_factory.mktemp("workflow")
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("workflow", "envs", "config"):
        shutil.copytree(ROOT / name, folder / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "elite_pipeline", folder / "elite_pipeline", ignore=ignored)
    for stage in (folder / "elite_pipeline/stages").glob("[!_]*.py"):
        stage.write_text(STUB + stage.read_text())
    (folder / "elite_pipeline/stages/__init__.py").write_text("")  # it has many imports, which stubs do not need
    output = snakemake(folder, *(target for made in TARGETS.values() for target in made))
    assert "100%" in output, output
    return folder
