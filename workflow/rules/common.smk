"""The validated config, and what the rules take from it."""

import json
import os
import sys
from pathlib import Path
from shutil import which

sys.path.insert(0, str(workflow.basedir))

from elite_pipeline.checkpoints import where_from
from elite_pipeline.config import Config, LabelImages
from elite_pipeline.validation import flatten, validate
from elite_pipeline.errors import InputError
from snakemake.exceptions import WorkflowError

# Passive waiting: two OpenMP jobs that spin on shared cores ran seven times slower.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH='{workflow.basedir}' PYTHONUNBUFFERED=1"
    " OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0; "
)

# One GPU unless told otherwise (`--resources gpu=4`): Snakemake alone would start every GPU rule at once. Where there is
# none, the rules run on the CPU and only cores count.
workflow.global_resources.setdefault("gpu", 1 if which("nvidia-smi") else 1000)

try:
    # Dumped from the validated model: defaults filled in, numbers as numbers, the same for any spelling of the YAML.
    config = validate(Config, config, "config.yaml").model_dump(mode="json")
except InputError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    sequence="[0-9]{2}",
    dataset="[a-z][a-z0-9_]*",
    teacher="(?!oracle_)[a-z][a-z0-9_]*",
    # <experiment>-seed7 is <experiment> with another seed of its student.
    experiment="[a-z][a-z0-9_]*(-seed[0-9]+)?",


def stage(name, *modules):
    """Sources of stage `name` and of the library modules that hold its maths; tracked by checksum, not by date."""
    package = Path(workflow.basedir, "elite_pipeline")
    files = [
        sorted(package.glob(f"{module}.py")) for module in (f"stages/{name}", *modules)
    ]
    if not all(files):
        raise WorkflowError(
            f"stage {name} names source files that do not exist: {modules}"
        )
    return [relative(file) for found in files for file in found]


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


def of_teaching(pattern):
    """Input function: `per_sequence` of the training split where the experiment has a teacher, else nothing."""
    return lambda wildcards: (
        per_sequence(pattern, "train")(wildcards)
        if of(wildcards.experiment)["teacher"]
        else []
    )


def figure_of_dataset(name):
    """Input function: a figure that the experiments on one data set share."""
    return lambda wildcards: f"results/{of(wildcards.experiment)['dataset']}_{name}.png"


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
            packaged = "elite_pipeline/teacher/weights/sam_tiny.safetensors"
            weights = relative(Path(workflow.basedir, packaged))
        if weights and not Path(weights).exists():
            raise WorkflowError(
                f"{weights}: the checkpoint of {sam['encoder']} is missing. {where_from(sam['encoder'], weights)}"
            )
        return [weights] if weights else []

    return path


# Slices of the config, as sorted `dotted.key=json` strings: what a rule depends on, and what its stage is given. ------


def section(name):
    """Params: the section that is named like the stage."""
    return flatten(config[name])


def slices(kind, name_of, select):
    """Params: what `select` takes of the entry of section `kind` that `name_of` a job's wildcards gives.

    One function per dotted key, so that a dry run names the key that changed. All entries of `kind` of which `select`
    takes anything have the same keys.
    """

    def items(name):
        if name not in config[kind]:
            raise WorkflowError(
                f"config.yaml: {kind} has no {name!r}; it has {', '.join(config[kind])}."
            )
        selected = select(config[kind][name])
        return (
            dict(item.split("=", 1) for item in flatten(selected)) if selected else {}
        )

    def param(key):
        return lambda wildcards: f"{key}={items(name_of(wildcards))[key]}"

    return [param(key) for key in next(filter(None, map(items, config[kind])), {})]


def cameras(wildcards):
    """Param: image folder -> projection matrix, of the job's data set."""
    return (
        f"cameras={json.dumps(dataset(wildcards.dataset)['cameras'], sort_keys=True)}"
    )


def missing_images(wildcards):
    """Param: whether single images may be missing."""
    return f"missing_images={json.dumps(dataset(wildcards.dataset)['missing_images'])}"


def needs_labels(wildcards):
    """Param: whether every scan must be labelled."""
    known = dataset(wildcards.dataset)
    needed = wildcards.sequence in known["train"] + known["val"]
    return f"labels={json.dumps(needed and not known['missing_labels'])}"


def needs_images(wildcards):
    """Param: whether images are needed, as they are for the sequences of the training split."""
    return f"images={json.dumps(wildcards.sequence in dataset(wildcards.dataset)['train'])}"


def labeller(wildcards):
    """Param: the labeller that the job's data set has chosen."""
    return (
        f"labeller={json.dumps(dataset(wildcards.dataset)['label_images']['labeller'])}"
    )


def labeller_section(wildcards):
    """Param: the section of that labeller, and of no other."""
    labels = dataset(wildcards.dataset)["label_images"]
    name = labels["labeller"]
    # Nothing is to be said of how `sparse` spreads labels; stages skip empty words.
    return (
        f"{name}={json.dumps(labels[name], sort_keys=True)}"
        if LabelImages.sections(name)
        else ""
    )


def labeller_sam(wildcards):
    """Param: the SAM that this labeller prompts, null where it prompts none."""
    labels = dataset(wildcards.dataset)["label_images"]
    needed = "sam" in LabelImages.sections(labels["labeller"])
    return f"sam={json.dumps(labels['sam'] if needed else None, sort_keys=True)}"


def labeller_sections(wildcards):
    """The sections of all labellers that need SAM, chosen or not; refused where one is missing."""
    labels = dataset(wildcards.dataset)["label_images"]
    sections = {name: labels[name] for name in ("sam", "paper", "regions")}
    if missing := [name for name, section in sections.items() if section is None]:
        raise WorkflowError(
            f"config.yaml: datasets.{wildcards.dataset}.label_images lacks {', '.join(missing)}, which a comparison of"
            f" the labellers needs, chosen or not: add '{missing[0]}: {{...}}' there, as datasets.demo.label_images has it."
        )
    return sections


def compared(name):
    """Param: section `name` of all labellers."""
    return lambda wildcards: (
        f"{name}={json.dumps(labeller_sections(wildcards)[name], sort_keys=True)}"
    )


def of_teacher(*without):
    """Params: the job's teacher but for the sections of other stages."""
    return slices(
        "teachers",
        lambda w: w.teacher,
        lambda t: {k: v for k, v in t.items() if k not in without},
    )


def selecting(key):
    """Param: a key of the data set's `select_labels`."""
    return lambda wildcards: (
        f"{key}={json.dumps(dataset(wildcards.dataset)['select_labels'][key])}"
    )


def labelled(wildcards):
    """Param: how many, or which, of the data set's training scans keep their labels."""
    return (
        f"labelled={json.dumps(dataset(wildcards.dataset)['labelled'], sort_keys=True)}"
    )


def of_student():
    """Params: the student of the job's experiment, with the seed that the experiment's name ends in, if any."""

    def seeded(param):
        def value(wildcards):
            word, seed = param(wildcards), wildcards.experiment.partition("-seed")[2]
            is_seed = word.startswith("train_student.seed=")
            return f"train_student.seed={int(seed)}" if seed and is_seed else word

        return value

    params = slices("students", lambda w: of(w.experiment)["student"], dict)
    return [seeded(param) for param in params]


def student_threads(wildcards):
    """CPU threads of train_student; configured, because a CPU's sums depend on their number."""
    return config["students"][of(wildcards.experiment)["student"]]["train_student"][
        "threads"
    ]


def chosen_labeller(wildcards):
    """Param: the labeller that made the pseudo-labels of the experiment's data set."""
    return f'labeller="{dataset(dataset_name(wildcards))["label_images"]["labeller"]}"'
