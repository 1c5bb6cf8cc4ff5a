"""Makes several dry runs in one process, which is much faster than one command for each.

Reads JSON lines {"folder": ..., "targets": [...]} and answers each one with a JSON line: a list with [rule, input
files, reason, updated input files] of every job, where the reason is empty for jobs that would not run; or {"error":
...}. The fixture `dag` sends the lines.
"""

import ast
import json
import logging
import os
import sys
from functools import cache
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings

# With these quiet settings Snakemake ends a dry run as soon as the jobs are known, before it goes through them.
OUTPUT = OutputSettings(
    dryrun=True,
    quiet={Quietness.RULES, Quietness.PROGRESS},
    log_level_override=logging.ERROR,
    enable_file_logging=False,
)

PATH = sys.path.copy()

# Half of the time of a dry run is parsing the package (`sources.py`). Equal text gives an equal tree, never changed.
ast.parse = cache(ast.parse)


def dry_run(folder, targets):
    """Returns [rule, input files, reason, updated input files] of every job that `targets` in `folder` depend on."""
    # The Snakefile imports the package in its own folder. Its files may differ from those of the last call.
    sys.path[:] = PATH
    for name in [name for name in sys.modules if name.partition(".")[0] == "elite_pipeline"]:
        del sys.modules[name]
    folder = Path(folder)
    with SnakemakeApi(OUTPUT) as api:
        workflow = api.workflow(ResourceSettings(cores=2), snakefile=folder / "Snakefile", workdir=folder)
        workflow.dag(DAGSettings(targets=targets)).execute_workflow(executor="dryrun")
        dag = workflow._workflow.dag
        why = {job: dag.reason(job) if dag.needrun(job) else None for job in dag.jobs}
        return [
            [job.rule.name, sorted(job.input), str(reason or ""), sorted(reason.updated_input) if reason else []]
            for job, reason in why.items()
        ]


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other prints go to stderr, so that only answers are on stdout
    for line in sys.stdin:
        try:
            answer = dry_run(**json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
