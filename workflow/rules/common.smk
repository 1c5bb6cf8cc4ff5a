"""The validated config, and which files the rules take."""

import json
import os
import shlex
import sys
from pathlib import Path
from shutil import which

sys.path.insert(0, str(workflow.basedir))

from elite_pipeline.checkpoints import PACKAGED, where_from
from elite_pipeline.config import Config, LabelImages
from elite_pipeline.config.validation import flatten, validate
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
    # Dumped from the validated model: defaults filled in, numbers as numbers, the same for any spelling of the YAML.
    config = validate(Config, config, "config.yaml").model_dump(mode="json")
    # Before any job: Snakemake itself empties the folders that a rule is about to make.
    for name, chosen in config["datasets"].items():
        if chosen["simulate_drive"] and not chosen["of"]:
            for sequence in {*chosen["train"], *chosen["val"], *chosen["test"]}:
                refuse_recordings(
                    Path(f"data/{name}/sequences/{sequence}"), "simulate_drive"
                )
    for name, chosen in config["image_sets"].items():
        if chosen["simulate_images"]:
            refuse_recordings(Path(f"data/{name}"), "simulate_images")
except InputError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    sequence="[0-9]{2}",
    dataset="[a-z][a-z0-9_]*",
    teacher="(?!oracle_)[a-z][a-z0-9_]*",
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


def per_sequence(pattern, split):
    """Input function: `pattern` for every sequence of the experiment's (or the data set's) split.

    {dataset} is that data set's name and {root} the name of the one whose files it shares.
    """

    def paths(wildcards):
        names = (
            of(wildcards.experiment)
            if hasattr(wildcards, "experiment")
            else {"dataset": wildcards.dataset}
        )
        names = {**names, **dict(wildcards.items())}
        names["root"] = root(names["dataset"])
        names["sequence"] = dataset(names["dataset"])[split]
        return expand(pattern, **names)

    return paths


def of_sequence(pattern):
    """Input function: `pattern` for the job's sequence, {root} as in `per_sequence`."""
    return lambda wildcards: expand(
        pattern, **dict(wildcards.items()), root=root(wildcards.dataset)
    )


def pretraining(wildcards):
    """Config of the job's pre-training, whatever its seed."""
    name = wildcards.pretraining.partition("-seed")[0]
    if name not in config["pretrainings"]:
        known = ", ".join(config["pretrainings"]) or "none"
        raise WorkflowError(
            f"config.yaml has no pre-training {name!r}; it has {known}."
        )
    return config["pretrainings"][name]


def of_pretraining(pattern):
    """Input function: `pattern` for every training sequence of the pre-training's data set."""

    def paths(wildcards):
        chosen = pretraining(wildcards)
        if "{superpixels}" in pattern and chosen["contrast"]["level"] != "superpixel":
            return []
        return expand(
            pattern.replace("{superpixels}", "superpixels"),
            dataset=chosen["dataset"],
            root=root(chosen["dataset"]),
            teacher=chosen["teacher"],
            sequence=dataset(chosen["dataset"])["train"],
        )

    return paths


def pretrained(wildcards):
    """Input function: the backbone that the experiment begins with, if any, of the same seed."""
    name, dash, seed = wildcards.experiment.partition("-seed")
    begun = of(name)["pretraining"]
    return f"cache/pretrained/{begun}{dash}{seed}" if begun else []


def adapter(wildcards):
    """Input function: the folder of the job's tuned teacher; an image segmentation network's belongs to no data set."""
    if config["teachers"][wildcards.teacher]["images"]:
        return f"cache/image_teachers/{wildcards.teacher}"
    return f"cache/{wildcards.dataset}/{wildcards.teacher}/adapter"


def pseudo_labels(wildcards):
    """Input function: the pseudo-labels that the job's teacher is tuned on; none for one that is not tuned."""
    if config["teachers"][wildcards.teacher]["tune_teacher"]["steps"] == 0:
        return []
    return per_sequence("cache/{dataset}/pseudo_labels/{sequence}.zarr", "train")(
        wildcards
    )


def image_set(wildcards):
    """Input function: the labelled images of the job's teacher; refused with the remedy where they are missing."""
    name = config["teachers"][wildcards.teacher]["images"]
    folder = f"data/{name}"
    if not config["image_sets"][name]["simulate_images"] and not Path(folder).is_dir():
        raise WorkflowError(
            f"{folder}: the labelled images are missing. Link the folder that holds images/ and labels/:\n"
            f"    mkdir -p data && ln -sfn /path/to/that/folder {folder}"
        )
    return folder


def of_teaching(pattern):
    """Input function: `per_sequence` of the training split where the experiment has a teacher, else nothing."""
    return lambda wildcards: (
        per_sequence(pattern, "train")(wildcards)
        if of(wildcards.experiment)["teacher"]
        else []
    )


def figures_to_list(wildcards):
    """Input function: figures of what the experiment began with, and of its domain-adaptation module, if it has one."""
    chosen = of(wildcards.experiment)
    figures = [f"results/{root(chosen['dataset'])}_projection.png"]
    if labeller_of(chosen):
        figures.append(f"results/{chosen['dataset']}_labels.png")
    if config["students"][chosen["student"]]["network"].get("adaptation"):
        figures.append(f"results/{wildcards.experiment}_embedding.png")
    return figures


def recorded_files(wildcards):
    """Input function: what index_frames checks of a sequence. The parts and not their folder, in which others may write.

    All other stages depend on the index, which holds checksums, and take the folder as `ancient`.
    """
    folder = _present(wildcards.dataset, wildcards.sequence)
    if dataset(wildcards.dataset)["simulate_drive"]:
        return folder
    parts = ("velodyne", "labels", "calib.txt", *dataset(wildcards.dataset)["cameras"])
    return [
        path for path in (f"{folder}/{part}" for part in parts) if Path(path).exists()
    ]


def recorded_listing(wildcards):
    """Param: digest of what lies in `recorded_files`: dates alone do not tell a link that was turned to older files."""
    if dataset(wildcards.dataset)["simulate_drive"]:
        return ""
    return listing_digest(recorded_files(wildcards))


def image_listing(wildcards):
    """Param: the same of the labelled images of the job's teacher."""
    name = config["teachers"][wildcards.teacher]["images"]
    if config["image_sets"][name]["simulate_images"]:
        return ""
    return listing_digest([f"data/{name}/images", f"data/{name}/labels"])


def sequence_folder(wildcards):
    """Input function: the folder of one recorded sequence; refused with the remedy where it is missing."""
    return _present(wildcards.dataset, wildcards.sequence)


def sequence_folders(split):
    """Input function: the folders of every sequence of a split."""

    def folders(wildcards):
        name = (
            of(wildcards.experiment)["dataset"]
            if hasattr(wildcards, "experiment")
            else wildcards.dataset
        )
        return [_present(name, sequence) for sequence in dataset(name)[split]]

    return folders


def _present(name, sequence):
    name, simulated = root(name), dataset(name)["simulate_drive"]
    folder = f"data/{name}/sequences/{sequence}"
    if not simulated and not Path(folder).is_dir():
        have = (
            "the sequence is not in it"
            if Path("data", name).is_dir()
            else "the data folder is missing"
        )
        raise WorkflowError(
            f"{folder}: {have}. Link the folder that holds sequences/{sequence}:\n"
            f"    mkdir -p data && ln -sfn /path/to/that/folder data/{name}"
        )
    return folder


def checkpoint_of(kind):
    """Input function: the SAM file that a teacher, the labeller or all labellers name, refused with its source where missing."""

    def path(wildcards):
        if kind == "teacher":
            sam = config["teachers"][wildcards.teacher]
        elif kind == "labellers":
            sam = labeller_sections(wildcards)["sam"]
        else:
            labels = dataset(wildcards.dataset)["label_images"]
            needed = "sam" in LabelImages.sections(labels["labeller"])
            sam = labels["sam"] if needed else {}
        weights = sam.get("checkpoint")
        if sam.get("encoder") == "sam_tiny" and not weights:
            weights = relative(PACKAGED)
        if weights and not Path(weights).exists():
            raise WorkflowError(
                f"{weights}: the checkpoint of {sam['encoder']} is missing. {where_from(sam['encoder'], weights)}"
            )
        return [weights] if weights else []

    return path


def comparison(name):
    """Config of comparison `name`."""
    if name not in config["comparisons"]:
        known = ", ".join(config["comparisons"]) or "none"
        raise WorkflowError(f"config.yaml has no comparison {name!r}; it has {known}.")
    return config["comparisons"][name]


def compared_results(wildcards):
    """Input function: the mIoU of every experiment of the comparison with every seed."""
    chosen = comparison(wildcards.comparison)
    return expand(
        "results/{experiment}-seed{seed}_miou.json",
        experiment=list(dict.fromkeys(chosen["experiments"].values())),
        seed=chosen["seeds"],
    )


def compared_teachers(wildcards):
    """Input function: how well each of their teachers knows the points that it teaches."""
    named = map(of, comparison(wildcards.comparison)["experiments"].values())
    paths = [
        f"results/{e['dataset']}_{e['teacher']}_points.json"
        for e in named
        if e["teacher"]
    ]
    return list(dict.fromkeys(paths))


def teacher_quality(wildcards):
    """Input function: how well the job's teacher knows the points that it teaches, if it names classes and all have labels."""
    chosen = of(wildcards.experiment)
    teacher, of_teacher = chosen["teacher"], config["teachers"].get(chosen["teacher"])
    names = of_teacher is None or "logits" in of_teacher["cache_teacher"]["targets"]
    if not teacher or not names or dataset(chosen["dataset"])["missing_labels"]:
        return []
    return f"results/{chosen['dataset']}_{teacher}_points.json"


def refused_if_none(paths):
    """Input function: `paths` of the test sequences; refused before any job runs where the data set names none."""

    def found(wildcards):
        if not dataset(dataset_name(wildcards))["test"]:
            raise WorkflowError(
                f"config.yaml: datasets.{dataset_name(wildcards)}.test is empty, so there is nothing to submit. Name its"
                ' unlabelled sequences there, as in test: ["11", "12"].'
            )
        return paths(wildcards)

    return found
