"""`sources.py` finds the files that each stage depends on. The tests compare it with imports that Python executes."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from elite_pipeline.choices import TABLES
from elite_pipeline.sources import PLUMBING, closure

ROOT = Path(__file__).parents[2]
STAGES = sorted(file.stem for file in ROOT.glob("elite_pipeline/stages/[!_]*.py"))
CHOSEN = {
    "demo": {"semantickitti", "sam_tiny", "spvcnn"},
    "udakd": {"semantickitti", "sam_tiny", "minkunet"},
    "fskd": {"semantickitti", "sam_tiny", "minkunet", "folder"},
}
"""Experiment -> the formats, encoder and student that config.yaml selects for it."""


def is_plumbing(file):
    """Returns whether `file` (elite_pipeline/...) is not followed. In stages/, only __init__.py is not."""
    first = Path(file).parts[1]
    return Path(first).stem in PLUMBING and (first != "stages" or file.endswith("__init__.py"))


# Without empty files.
MODULES = sorted(str(f.relative_to(ROOT)) for f in ROOT.glob("elite_pipeline/**/*.py") if f.stat().st_size)
FOLLOWED = [file for file in MODULES if not is_plumbing(file)]


@pytest.fixture(scope="module")
def imports():
    """File -> (the files that it imported while being watched, the tables of `choices` that it uses)."""
    command = [sys.executable, str(Path(__file__).with_name("imports.py"))]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def behind(imports, stage, chosen):
    """Returns (files, tables) of a stage from the watched imports. chosen: names that the configuration selects."""
    files, tables, waiting = set(), set(), [f"elite_pipeline/stages/{stage}.py"]
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.add(file)
        more, held = imports[file]
        tables |= set(held)
        places = [place for table in tables for name, place in TABLES[table].items() if name in chosen]
        waiting += [place.split(":")[0].replace(".", "/") + ".py" for place in places]
        waiting += [file for file in more if file in FOLLOWED]
    return files, tables


@contextmanager
def edited(finished, files, addition="\nCHANGED = 1\n"):
    """Append `addition` to `files` of the workflow while the block runs."""
    texts = {file: (finished / file).read_text() for file in files}
    try:
        for file, text in texts.items():
            (finished / file).write_text(text + addition)
        yield
    finally:
        for file, text in texts.items():
            (finished / file).write_text(text)


@pytest.mark.parametrize("stage", STAGES)
def test_the_sources_of_a_stage_are_its_watched_imports(imports, stage):
    """For all stages, including those that no target of the demo needs."""
    files, tables = closure([f"stages.{stage}"])
    assert ({str(file.relative_to(ROOT)) for file in files}, tables) == behind(imports, stage, chosen=())


@pytest.mark.parametrize("experiment", CHOSEN)
def test_jobs_depend_on_the_watched_imports_of_their_stage(finished, dag, targets, imports, experiment):
    """For every job of the DAG, and only with its own format, encoder and student."""
    jobs = [job for job in dag(finished, *targets[experiment]) if job.rule in STAGES]
    assert {"simulate_drive", "train_student", "evaluate_miou"} <= {job.rule for job in jobs}
    for job in jobs:
        code = {file for file in job.inputs if file.endswith(".py")}
        # Labelled images have no recording format.
        without_drives = job.rule in ("simulate_images", "tune_image_teacher")
        names = CHOSEN[experiment] - ({"semantickitti"} if without_drives else set())
        assert code == behind(imports, job.rule, names)[0], job.rule


@pytest.mark.parametrize("experiment", CHOSEN)
@pytest.mark.parametrize(
    "files",
    [FOLLOWED, *([f"elite_pipeline/{file}"] for file in ("store.py", "planes.py", "recordings/index.py"))],
    ids=lambda files: "all" if len(files) > 1 else files[0],
)
def test_changed_modules_rerun_exactly_the_jobs_that_use_them(finished, dag, targets, experiment, files):
    """A job reruns because its files changed, or because an earlier job reruns (then Snakemake looks no further)."""
    with edited(finished, files):
        jobs = dag(finished, *targets[experiment])
    for job in jobs:
        if not job.reason.startswith("Input files updated by another job"):
            assert job.updated == sorted({*files} & {*job.inputs}), job
            assert bool(job.reason) == bool(job.updated), job
    assert any(job.updated for job in jobs)
    assert all(job.reason == "" for job in dag(finished, *targets[experiment]))


def test_plumbing_reruns_nothing(finished, dry_run, targets):
    """Plumbing changes only messages and checks, so even a change of its code reruns nothing."""
    plumbing = [file for file in MODULES if is_plumbing(file)]
    assert {f"elite_pipeline/{name}" for name in ("progress.py", "errors.py", "config/student.py")} <= set(plumbing)
    with edited(finished, plumbing):
        for made in targets.values():
            assert dry_run(finished, *made) == []


def test_a_change_of_an_unused_network_reruns_nothing(finished, dry_run):
    with edited(finished, ["elite_pipeline/student/minkunet.py"]):
        assert dry_run(finished) == []


def test_a_change_of_a_used_network_reruns_its_training(finished, dry_run, targets):
    with edited(finished, ["elite_pipeline/student/minkunet.py"]):
        assert "train_student" in {job.rule for job in dry_run(finished, *targets["fskd"])}


def test_a_change_of_an_unused_encoder_reruns_nothing(finished, dry_run):
    with edited(finished, ["elite_pipeline/teacher/resnet.py"]):
        assert dry_run(finished) == []
