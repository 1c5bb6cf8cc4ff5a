"""The jobs behind a target: which would run, why, and after which others. Found by a dry run of Snakemake."""

import logging
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elite_pipeline.errors import InputError

PACKAGE = Path(__file__).parents[1]

JobKey = tuple[str, tuple[tuple[str, str], ...]]
"""Rule and sorted wildcards of a job: the same in every run."""


def job_key(rule: str, wildcards: dict[str, str]) -> JobKey:
    """The key of a job."""
    return rule, tuple(sorted(wildcards.items()))


@dataclass(frozen=True)
class Job:
    """A rule with values for its wildcards."""

    rule: str
    wildcards: dict[str, str]

    @property
    def key(self) -> JobKey:
        """Rule and wildcards."""
        return job_key(self.rule, self.wildcards)


@dataclass(frozen=True)
class DryJob(Job):
    """A job behind the targets."""

    why: str
    """Why it would run, in a word or two; empty where its result is there and up to date."""
    threads: int
    gpus: int
    after: list[int]
    """Positions of the jobs that must end before it starts."""
    outputs: list[str]


@dataclass(frozen=True)
class Statistics(Job):
    """Snakemake's measurement of a finished job, from its `benchmark:` file."""

    seconds: float
    outputs: list[str]


@dataclass(frozen=True)
class Dag:
    """All jobs behind the targets, and the measured jobs of this folder, whatever their target."""

    jobs: list[DryJob]
    """An order in which they can run."""
    measured: list[Statistics]
    cores: int
    gpus: int


def dry_run(targets: Sequence[str], cores: int | None = None) -> Dag:
    """The jobs behind `targets` (none: those of rule `all`) in the working directory.

    Snakemake runs in this process, so call it once. Raises `InputError` where there is no workflow here, or where
    Snakemake refuses a target, the configuration or a missing file.
    """
    if not Path("Snakefile").exists():
        raise InputError(f"{Path.cwd()}: there is no Snakefile here. Change to the folder of the checkout.")
    own = Path("elite_pipeline")
    if own.is_dir() and not own.samefile(PACKAGE):
        raise InputError(
            f"{PACKAGE} runs, but this folder has an elite_pipeline of its own. Run that one: python -m elite_pipeline"
        )
    from snakemake import exceptions
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings
    from snakemake.utils import available_cpu_count

    output = OutputSettings(
        dryrun=True,
        # Snakemake ends a dry run that is as quiet as this where its jobs are known, before it goes through them.
        quiet={Quietness.RULES, Quietness.PROGRESS},
        log_level_override=logging.ERROR,
        enable_file_logging=False,
    )
    cores = cores or available_cpu_count()
    try:
        with SnakemakeApi(output) as api:
            workflow = api.workflow(ResourceSettings(cores=cores), snakefile=Path("Snakefile"))
            dag = workflow.dag(DAGSettings(targets=frozenset(targets), force_incomplete=True))
            dag.execute_workflow(executor="dryrun")
            found = workflow._workflow
            return Dag(_jobs(found.dag), _measured(found.rules), cores, _gpus(found.global_resources))
    except Exception as error:
        # Snakemake's exceptions have no common class.
        if type(error).__module__ != exceptions.__name__:
            raise
        raise InputError(_message(str(error))) from None


def _message(text: str) -> str:
    """A message with what to do: of an unknown target, or of one of our input functions; any other text as it is."""
    if unknown := re.match(r"No rule to produce (\S+)", text):
        return (
            f"{unknown[1]}: the workflow cannot make such a file. docs/commands.md lists what it makes, and"
            " `snakemake --list` the rules."
        )
    around = re.match(r"Error:\n  WorkflowError:\n(.*?)\nWildcards:", text, re.DOTALL)
    return textwrap.dedent(around[1]) if around else text


def _jobs(dag: Any) -> list[DryJob]:
    """The jobs of Snakemake's `DAG`, each behind those that it waits for."""
    ordered = [job for level in dag.toposorted() for job in sorted(level, key=str)]
    place = {job: k for k, job in enumerate(ordered)}
    return [
        DryJob(
            rule=job.rule.name,
            wildcards=dict(job.wildcards_dict),
            why=_why(dag.reason(job)) if dag.needrun(job) else "",
            threads=int(job.threads),
            gpus=_gpus(job.resources),
            after=sorted(place[other] for other in dag.dependencies[job] if other in place),
            outputs=[str(path) for path in job.output],
        )
        for job in ordered
    ]


def _gpus(resources: Any) -> int:
    """The GPUs among Snakemake's resources of a job, or of the machine."""
    return int(resources["gpu"].value) if "gpu" in resources else 0


def _why(reason: Any) -> str:
    """Snakemake's `Reason` in a word or two."""
    changed = {str(path) for path in reason.updated_input - reason.updated_input_run}
    if reason.missing_output:
        return "new"
    if reason.incomplete_output:
        return "unfinished"
    if reason.params_changed:
        return "settings changed"
    if reason.code_changed or any(path.endswith(".py") for path in changed):
        return "code changed"
    if changed or reason.input_changed:
        return "input changed"
    if reason.updated_input_run:
        return "follows another"
    return "forced" if reason.forced else "always runs"


def _measured(rules: Any) -> list[Statistics]:
    """The statistics of all jobs of `rules` that have run in this folder."""
    import csv

    from snakemake.io import apply_wildcards

    found = []
    for rule in rules:
        folder = Path("logs/jobs", rule.name)
        files = [*folder.rglob("*.tsv"), *([folder.with_suffix(".tsv")] if folder.with_suffix(".tsv").exists() else [])]
        for file in sorted(files):
            match = rule.benchmark.match(str(file)) if rule.benchmark else None
            row = next(csv.DictReader(file.open(), delimiter="\t"), None)
            if match and row:
                names = match.groupdict()
                outputs = [apply_wildcards(str(pattern), names) for pattern in rule.output]
                found.append(Statistics(rule.name, names, float(row["s"]), outputs))
    return found
