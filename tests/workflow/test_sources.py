"""`sources.py` finds what each stage depends on: the DAG against imports that Python was watched to execute."""

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
    "fskd": {"semantickitti", "sam_tiny", "minkunet"},
}
"""Experiment -> the format, encoder and student that config.yaml chooses for it."""


def is_plumbing(file):
    """Whether `file` (elite_pipeline/...) is not followed. Of the stages, that is only what they share."""
    first = Path(file).parts[1]
    return Path(first).stem in PLUMBING and (first != "stages" or file.endswith("__init__.py"))


# Nothing follows from a file without content.
MODULES = sorted(str(f.relative_to(ROOT)) for f in ROOT.glob("elite_pipeline/**/*.py") if f.stat().st_size)
FOLLOWED = [file for file in MODULES if not is_plumbing(file)]


@pytest.fixture(scope="module")
def imports():
    """File -> (the files that it was seen to import, the tables of `choices` that it holds)."""
    command = [sys.executable, str(Path(__file__).with_name("imports.py"))]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def behind(imports, stage, chosen):
    """(files, tables) of a stage, by what was seen. chosen: names that the configuration picks from tables."""
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
    """`files` of the workflow end in `addition`, for a while."""
    texts = {file: (finished / file).read_text() for file in files}
    try:
        for file, text in texts.items():
            (finished / file).write_text(text + addition)
        yield
    finally:
        for file, text in texts.items():
            (finished / file).write_text(text)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_is_what_it_was_seen_to_import(imports, stage):
    """Of all stages, also those that no target of the demo needs."""
    files, tables = closure([f"stages.{stage}"])
    assert ({str(file.relative_to(ROOT)) for file in files}, tables) == behind(imports, stage, chosen=())


@pytest.mark.parametrize("experiment", CHOSEN)
def test_jobs_take_what_their_stage_was_seen_to_import(finished, dag, targets, imports, experiment):
    """Of every job of the DAG, with the format, encoder and student that are chosen for it and no other."""
    jobs = [job for job in dag(finished, *targets[experiment]) if job.rule in STAGES]
    assert {"simulate_drive", "train_student", "evaluate_miou"} <= {job.rule for job in jobs}
    for job in jobs:
        code = {file for file in job.inputs if file.endswith(".py")}
        # Labelled images are in no format of drives.
        without_drives = job.rule in ("simulate_images", "tune_image_teacher")
        names = CHOSEN[experiment] - ({"semantickitti"} if without_drives else set())
        assert code == behind(imports, job.rule, names)[0], job.rule


@pytest.mark.parametrize("experiment", CHOSEN)
@pytest.mark.parametrize(
    "files",
    [FOLLOWED, *([f"elite_pipeline/{file}"] for file in ("store.py", "planes.py", "recordings/index.py"))],
    ids=lambda files: "all" if len(files) > 1 else files[0],
)
def test_changed_modules_rerun_what_takes_them(finished, dag, targets, experiment, files):
    """Directly, or because an earlier job runs, in which case Snakemake does not look further; and nothing else."""
    with edited(finished, files):
        jobs = dag(finished, *targets[experiment])
    for job in jobs:
        if not job.reason.startswith("Input files updated by another job"):
            assert job.updated == sorted({*files} & {*job.inputs}), job
            assert bool(job.reason) == bool(job.updated), job
    assert any(job.updated for job in jobs)
    assert all(job.reason == "" for job in dag(finished, *targets[experiment]))


def test_plumbing_reruns_nothing(finished, dry_run, targets):
    """Not even a change of its code: it changes what is shown or refused, and no result."""
    plumbing = [file for file in MODULES if is_plumbing(file)]
    assert {f"elite_pipeline/{name}" for name in ("progress.py", "errors.py", "config/student.py")} <= set(plumbing)
    with edited(finished, plumbing):
        for made in targets.values():
            assert dry_run(finished, *made) == []


def test_network_that_is_not_chosen_reruns_nothing(finished, dry_run):
    with edited(finished, ["elite_pipeline/student/minkunet.py"]):
        assert dry_run(finished) == []


def test_network_that_is_chosen_reruns_its_training(finished, dry_run, targets):
    with edited(finished, ["elite_pipeline/student/minkunet.py"]):
        assert "train_student" in {job.rule for job in dry_run(finished, *targets["fskd"])}


def test_encoder_that_is_not_chosen_reruns_nothing(finished, dry_run):
    with edited(finished, ["elite_pipeline/teacher/resnet.py"]):
        assert dry_run(finished) == []
