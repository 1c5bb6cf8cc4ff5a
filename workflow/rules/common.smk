"""The validated configuration, the source files that stages depend on, and the shell that starts them."""

import json
import os
import shlex
import sys
from pathlib import Path
from shutil import which

sys.path.insert(0, str(workflow.basedir))

from elite_pipeline.checkpoints import PACKAGED, where_from
from elite_pipeline.choices import ENCODERS, FORMATS, IMAGE_FORMATS, Format
from elite_pipeline.choices import load as load_choice
from elite_pipeline.config import Config, LabelImages
from elite_pipeline.config import seeds
from elite_pipeline.config.reading import COMPARISONS, completed, load
from elite_pipeline.config.validation import flatten, validate
from elite_pipeline.datasets import NAME, open_recording
from elite_pipeline.datasets.classes import class_table, packaged, table_path
from elite_pipeline.errors import InputError
from elite_pipeline.marker import refuse_edited, refuse_recordings, refuse_tables
from elite_pipeline.provenance import listing_digest
from elite_pipeline.sources import sources
from snakemake.exceptions import WorkflowError

if sign := next((sign for sign in ":{}" if sign in str(workflow.basedir)), None):
    raise WorkflowError(
        f"{workflow.basedir}: this path contains {sign}, which has a special meaning for Python or Snakemake. Move the"
        " checkout to a path without it."
    )
# Stages run with the Python that runs Snakemake, even if no environment is activated. With conda, they run with conda's.
own_python = (
    ""
    if workflow.deployment_settings.deployment_method
    else f" PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"
)
# Snakemake itself gives a job as many OpenMP threads as its rule has.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(workflow.basedir))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}{own_python}"
    " PYTHONUNBUFFERED=1; "
)

# One GPU by default (`--resources gpu=4` for four): Snakemake would otherwise start all GPU rules at once. Without a GPU the
# rules run on the CPU, and only cores limit them.
workflow.global_resources.setdefault("gpu", 1 if which("nvidia-smi") else 1000)

try:
    # Refuses duplicate keys. Snakemake would silently use the last one.
    for file in workflow.configfiles:
        load(Path(file))
    # No second `configfile:`, because Snakemake would merge a user's `streets` with the `streets` of the comparisons.
    if (comparisons := Path(workflow.basedir, COMPARISONS)).exists():
        config = completed(config, load(comparisons))
    # Dumped from the validated model: it has all defaults and is the same for every spelling of the YAML.
    config = validate(Config, config, "config.yaml").model_dump(mode="json")
    # Before any job, because Snakemake itself empties the folder that a rule makes. The jobs of a cluster do not check
    # here, since a folder may just be emptied; their stages check again.
    if workflow.is_main_process:
        for name, entry in config["datasets"].items():
            if entry["simulate_drive"]:
                drives = Path(f"data/{entry['of'] or name}/sequences")
                named = {*entry["train"], *entry["val"], *entry["test"]}
                there = {drive.name for drive in drives.glob("*") if drive.is_dir()}
                if FORMATS[entry["format"]].tables:
                    refuse_tables(drives.parent, "simulate_drive")
                for sequence in named | there:
                    refuse_recordings(drives / sequence, "simulate_drive")
        for name, entry in config["image_sets"].items():
            if entry["simulate_images"]:
                refuse_recordings(Path(f"data/{name}"), "simulate_images")
except InputError as error:
    raise WorkflowError(str(error)) from None


# A data set without a seed, for rules whose result no seed changes.
PLAIN = "[a-z][a-z0-9_]*"


wildcard_constraints:
    sequence=NAME,
    # <dataset>-seed7 is <dataset> with seed 7 for its labelled drives and its teachers, if it draws its labelled drives.
    dataset="[a-z][a-z0-9_]*(-seed[0-9]+)?",
    # Without oracles: another rule makes their targets.
    teacher="|".join(config["teachers"]) or "none",
    # <experiment>-seed7 is <experiment> with seed 7 for its student, for that student's pre-training, and for its data set
    # if that draws its labelled drives.
    experiment="[a-z][a-z0-9_]*(-seed[0-9]+)?",
    pretraining="[a-z][a-z0-9_]*(-seed[0-9]+)?",


def stage(name):
    """Input function: the source files that determine the job's result. Tracked by checksum, not by date."""
    return lambda wildcards: [
        relative(file) for file in sources(name, chosen(wildcards))
    ]


def chosen(wildcards):
    """Returns the names of the formats, encoders and students that the configuration chooses for the job."""
    names = dict(wildcards.items())
    if "experiment" in names:
        names = {**of(names["experiment"]), **names}
    if "pretraining" in names and names["pretraining"]:
        begun = config["pretrainings"][seeds.entry(names["pretraining"])]
        names = {**begun, **{k: v for k, v in names.items() if v}}
    found = set()
    if names.get("dataset"):
        data = dataset(names["dataset"])
        found |= {data["format"], (data["label_images"]["sam"] or {}).get("encoder")}
    if names.get("teacher") in config["teachers"]:
        found.add(config["teachers"][names["teacher"]]["encoder"])
        names["images"] = config["teachers"][names["teacher"]]["images"]
    if names.get("images"):
        found.add(config["image_sets"][names["images"]]["format"])
    if names.get("student"):
        found.add(config["students"][names["student"]]["network"]["kind"])
    return found


def relative(file):
    """Returns the path of `file` relative to the working directory, so that moving the checkout changes nothing."""
    return os.path.relpath(file)


def of(experiment):
    """Returns the entry of an experiment (data set, teacher, student, pre-training), with or without -seed<k>.

    Its data set has the seed too, if that draws its labelled drives.
    """
    name = seeds.entry(experiment)
    if name not in config["experiments"]:
        known = ", ".join(config["experiments"])
        raise WorkflowError(
            f"config.yaml has no experiment {name!r}. Add it there, or choose one of {known}."
        )
    found = config["experiments"][name]
    drawn = seeds.dataset_of(experiment, found["dataset"], config["datasets"])
    return {**found, "dataset": drawn}


def dataset_name(wildcards):
    """Param: the data set of the job's experiment, without a seed."""
    return seeds.entry(of(wildcards.experiment)["dataset"])


def dataset(name):
    """Returns the entry of data set `name`, with or without -seed<k>, which is the seed of its labelled drives."""
    plain, seed = seeds.entry(name), seeds.seed_of(name)
    if plain not in config["datasets"]:
        raise WorkflowError(
            f"config.yaml has no data set {plain!r}. Add it there, or choose one of {', '.join(config['datasets'])}."
        )
    found = config["datasets"][plain]
    if seed is None:
        return found
    if not seeds.draws_drives(found):
        raise WorkflowError(
            f"{name}: data set {plain} draws no labelled drives, so it is the same for all seeds. Write {plain}, or set"
            f" datasets.{plain}.select_labels.by: drive and a share of labels (labelled:) between 0 and 1."
        )
    return {**found, "select_labels": {**found["select_labels"], "seed": seed}}


def root(name):
    """Returns the name of the data set that has the files of data set `name`: its `of`, or itself without a seed."""
    return dataset(name)["of"] or seeds.entry(name)


def sequence_minutes(hours):
    """Resource: the run time of a job on one sequence. `hours` are for SemanticKITTI's longest; 10 minutes at least."""

    def minutes(wildcards):
        format_ = FORMATS[dataset(wildcards.dataset)["format"]]
        return max(10, round(60 * hours * format_.longest / Format.longest))

    return minutes
