"""Input functions: which files the rules take, refused with the remedy where they are missing."""


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

    All other stages depend on the index, which holds checksums, and take the sequence's place as `ancient`.
    """
    place = _present(wildcards.dataset, wildcards.sequence)
    data = dataset(wildcards.dataset)
    if data["simulate_drive"]:
        return place
    parts = load_choice(FORMATS[data["format"]]).parts
    return list(
        map(str, parts(_folder(wildcards.dataset), wildcards.sequence, data["cameras"]))
    )


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


def sequence_place(wildcards):
    """Input function: where one recorded sequence is; refused with the remedy where it is missing."""
    return _present(wildcards.dataset, wildcards.sequence)


def sequence_places(split):
    """Input function: where every sequence of a split is."""

    def places(wildcards):
        name = _dataset_of(wildcards)
        return [_present(name, sequence) for sequence in dataset(name)[split]]

    return places


def class_file(wildcards):
    """Input function: the file of the data set's class table."""
    return _class_file(dataset(wildcards.dataset)["classes"])


def image_class_file(wildcards):
    """Input function: the file of the class table of the job's image set, or of that of its teacher."""
    if hasattr(wildcards, "teacher"):
        name = config["teachers"][wildcards.teacher]["images"]
    else:
        name = wildcards.images
    return _class_file(config["image_sets"][name]["classes"])


def _class_file(name):
    return relative(table_path(name)) if name in packaged() else name


def _dataset_of(wildcards):
    if hasattr(wildcards, "experiment"):
        return of(wildcards.experiment)["dataset"]
    return wildcards.dataset


def _folder(name):
    """The folder of the files of data set `name`."""
    return Path("data", root(name))


def _present(name, sequence):
    data, folder = dataset(name), _folder(name)
    place = load_choice(FORMATS[data["format"]]).place(folder, sequence)
    if not data["simulate_drive"] and not place.exists():
        have = (
            "the sequence is not in it"
            if folder.is_dir()
            else "the data folder is missing"
        )
        raise WorkflowError(
            f"{place}: {have}. Link the folder that holds {place.relative_to(folder)}:\n"
            f"    mkdir -p data && ln -sfn /path/to/that/folder {folder}"
        )
    return str(place)


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
        if sam and ENCODERS[sam["encoder"]].url is None and not weights:
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


def compared_names(wildcards):
    """Names of the experiments of the job's comparison, in its order."""
    chosen = comparison(wildcards.comparison)["experiments"]
    return [about["experiment"] for about in chosen.values()]


def compared_results(wildcards):
    """Input function: the mIoU of every experiment of the comparison with every seed."""
    return expand(
        "results/{experiment}-seed{seed}_miou.json",
        experiment=list(dict.fromkeys(compared_names(wildcards))),
        seed=comparison(wildcards.comparison)["seeds"],
    )


def compared_teachers(wildcards):
    """Input function: how well each of their teachers knows the points that it teaches."""
    named = map(of, compared_names(wildcards))
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
