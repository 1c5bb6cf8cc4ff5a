"""The validated configuration, what stages depend on, and how they are started."""

import json
import os
import shlex
import sys
from pathlib import Path
from shutil import which

sys.path.insert(0, str(workflow.basedir))

from elite_pipeline.checkpoints import PACKAGED, where_from
from elite_pipeline.choices import ENCODERS, FORMATS
from elite_pipeline.choices import load as load_choice
from elite_pipeline.config import Config, LabelImages
from elite_pipeline.config.reading import COMPARISONS, completed, load
from elite_pipeline.config.validation import flatten, validate
from elite_pipeline.datasets import NAME
from elite_pipeline.datasets.classes import packaged, table_path
from elite_pipeline.errors import InputError
from elite_pipeline.marker import refuse_recordings
from elite_pipeline.provenance import listing_digest
from elite_pipeline.sources import sources
from snakemake.exceptions import WorkflowError

if sign := next((sign for sign in ":{}" if sign in str(workflow.basedir)), None):
    raise WorkflowError(
        f"{workflow.basedir}: Python and Snakemake give {sign} in a path a meaning of its own. Move the checkout to"
        " a folder without one."
    )
# The Python that runs Snakemake runs the stages, also where no environment is activated; conda brings its own.
own_python = (
    ""
    if workflow.deployment_settings.deployment_method
    else f" PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"
)
# Passive waiting: two OpenMP jobs that spin on shared cores ran seven times slower.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(workflow.basedir))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}{own_python}"
    " PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0; "
)

# One GPU unless told otherwise (`--resources gpu=4`): Snakemake alone would start every GPU rule at once. Where there is
# none, the rules run on the CPU and only cores count.
workflow.global_resources.setdefault("gpu", 1 if which("nvidia-smi") else 1000)

try:
    # Snakemake takes the last of two keys of one name; here they are refused.
    for file in workflow.configfiles:
        load(Path(file))
    # Not a second `configfile:`, which would merge a user's `streets` with the one of the comparisons.
    if (comparisons := Path(workflow.basedir, COMPARISONS)).exists():
        config = completed(config, load(comparisons))
    # Dumped from the validated model: defaults filled in, numbers as numbers, the same for any spelling of the YAML.
    config = validate(Config, config, "config.yaml").model_dump(mode="json")
    # Before any job: Snakemake itself empties the folders that a rule is about to make. Not in the jobs of a cluster,
    # which might meet a folder that is just being emptied; their stages check it again.
    if workflow.is_main_process:
        for name, entry in config["datasets"].items():
            if entry["simulate_drive"]:
                drives = Path(f"data/{entry['of'] or name}/sequences")
                named = {*entry["train"], *entry["val"], *entry["test"]}
                there = {drive.name for drive in drives.glob("*") if drive.is_dir()}
                for sequence in named | there:
                    refuse_recordings(drives / sequence, "simulate_drive")
        for name, entry in config["image_sets"].items():
            if entry["simulate_images"]:
                refuse_recordings(Path(f"data/{name}"), "simulate_images")
except InputError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    sequence=NAME,
    dataset="[a-z][a-z0-9_]*",
    # No oracle: those are made by another rule.
    teacher="|".join(config["teachers"]) or "none",
    # <experiment>-seed7 is <experiment> with another seed of its student, and of that student's pre-training.
    experiment="[a-z][a-z0-9_]*(-seed[0-9]+)?",
    pretraining="[a-z][a-z0-9_]*(-seed[0-9]+)?",


def stage(name):
    """Input function: the source files that the job's result follows from; tracked by checksum, not by date."""
    return lambda wildcards: [
        relative(file) for file in sources(name, chosen(wildcards))
    ]


def chosen(wildcards):
    """Names of the formats, encoders and students that the configuration chooses for the job."""
    names = dict(wildcards.items())
    if "experiment" in names:
        names = {**of(names["experiment"]), **names}
    if "pretraining" in names and names["pretraining"]:
        begun = config["pretrainings"][names["pretraining"].partition("-seed")[0]]
        names = {**begun, **{k: v for k, v in names.items() if v}}
    found = set()
    if names.get("dataset"):
        data = dataset(names["dataset"])
        found |= {data["format"], (data["label_images"]["sam"] or {}).get("encoder")}
    if names.get("teacher") in config["teachers"]:
        found.add(config["teachers"][names["teacher"]]["encoder"])
    if names.get("student"):
        found.add(config["students"][names["student"]]["network"]["kind"])
    return found


def relative(file):
    """`file` of the checkout, as seen from the working directory: the same when both are moved together."""
    return os.path.relpath(file)


def of(experiment):
    """Names of the dataset, teacher and student of an experiment, whatever its seed."""
    experiment = experiment.partition("-seed")[0]
    if experiment not in config["experiments"]:
        known = ", ".join(config["experiments"])
        raise WorkflowError(
            f"config.yaml has no experiment {experiment!r}; it has {known}."
        )
    return config["experiments"][experiment]


def dataset_name(wildcards):
    """Param: the data set of the job's experiment."""
    return of(wildcards.experiment)["dataset"]


def dataset(name):
    """Config of data set `name`."""
    if name not in config["datasets"]:
        raise WorkflowError(
            f"config.yaml has no data set {name!r}; it has {', '.join(config['datasets'])}."
        )
    return config["datasets"][name]


def root(name):
    """The data set whose files data set `name` shares: itself, or the one that it is `of`."""
    return dataset(name)["of"] or name
