"""A small workflow, run by a real Snakemake: rules that succeed, fail, die and take long."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SNAKEFILE = """
rule first:
    output: "first/{name}.txt"
    log: "logs/first/{name}.log"
    benchmark: "logs/jobs/first/{name}.tsv"
    shell: "(echo first works on {wildcards.name}; sleep 0.2; echo {wildcards.name} > {output}) 2>&1 | tee {log}"

rule report:
    input: "first/a.txt", "first/b.txt"
    output: "report.md"
    log: "logs/report.log"
    benchmark: "logs/jobs/report.tsv"
    shell: "cat {input} > {output}"

rule broken:
    input: "first/{name}.txt"
    output: "broken/{name}.txt"
    log: "logs/broken/{name}.log"
    shell: "set -o pipefail; (seq 100; echo error: the reason; exit 3) 2>&1 | tee {log}"

rule killed:
    output: "killed.txt"
    log: "logs/killed.log"
    shell: "echo works > {log}; kill -9 $$"

rule slow:
    output: "slow.txt"
    log: "logs/slow.log"
    shell: "echo $$ > pid; sleep 100; touch {output}"
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The working directory of the small workflow, with this checkout's profile and configuration."""
    for name in ("workflow", "config", "config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A working directory of this checkout in which nothing is made yet."""
    for name in ("workflow", "config", "config.yaml", "elite_pipeline", "Snakefile", "envs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
