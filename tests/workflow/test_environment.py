"""The set-up: the conda environment matches the lock, Snakemake accepts the profiles, `--list` describes every rule."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_conda_environment_is_the_lock(tmp_path):
    uv = next(iter((ROOT / ".tools").glob("uv-*/bin/uv")), None) or shutil.which("uv")
    assert uv, "make sets up .tools/uv-*/bin/uv; run the tests by `make test`"
    export = "export --quiet --frozen --no-hashes --no-annotate --no-header --no-emit-project --no-default-groups"
    lock = subprocess.run(
        [uv, *export.split(), "--group", "cu126"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    made = subprocess.run(
        [sys.executable, ROOT / "envs/export.py"], input=lock.stdout, capture_output=True, text=True, check=True
    )
    assert (ROOT / "envs/pipeline.yaml").read_text() == made.stdout, "run `make envs`"
    pip = yaml.safe_load(made.stdout)["dependencies"][-1]["pip"]
    assert any(line.startswith("torch==") for line in pip)
    assert any(line.startswith("spconv-cu126==2.3.8") for line in pip)


def test_both_spconv_groups_are_locked():
    lock = (ROOT / "uv.lock").read_text()
    for package in ("spconv-cu126", "spconv-cu120"):
        assert f'name = "{package}"' in lock
    assert "files.pythonhosted.org" in lock
    hosts = {word.split("/")[2] for word in lock.replace('"', " ").split() if word.startswith("https://")}
    assert hosts == {"pypi.org", "files.pythonhosted.org"}, "the lock must not name a private registry"


@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_profile_is_understood(profile, tmp_path, snakemake):
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("workflow", "elite_pipeline", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    output = snakemake(tmp_path, "--workflow-profile", f"workflow/profiles/{profile}", "--dry-run")
    assert f"Using workflow specific profile workflow/profiles/{profile}" in output
    assert ("\nrule train_student:" in output) == (profile == "slurm"), "only the local profile is quiet about rules"
    assert "This was a dry-run" in output, output


def test_list_is_a_table_of_contents(snakemake):
    output = snakemake(ROOT, "--list")
    stages = {path.stem for path in (ROOT / "elite_pipeline/stages").glob("[!_]*.py")}
    assert stages <= set(output.split())
    assert "Train a student on labels (own and carried) and cached teacher targets" in output
