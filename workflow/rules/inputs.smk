"""Input functions: the files that rules read. A missing file is refused with the remedy, before any job runs."""


def per_sequence(pattern, split):
    """Input function: `pattern` for every sequence in a split of the job's experiment (or data set).

    {dataset} becomes the name of the data set, {root} the name of the data set that has its files.
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


def split_of(wildcards):
    """Returns the split that a job of evaluate_miou scores: `test` for ..._miou_test.json, else `val`."""
    return "test" if wildcards.test else "val"


def of_split(make):
    """Input function: `make(split)` of the split that the job scores. Refuses test sequences that cannot be scored."""

    def paths(wildcards):
        if wildcards.test:
            _refuse_unscorable_test(dataset_name(wildcards))
        return make(split_of(wildcards))(wildcards)

    return paths


def _refuse_unscorable_test(name):
    """Raises where data set `name` has no test sequence, or one of them has no labels at all."""
    data = dataset(name)
    if not data["test"]:
        raise WorkflowError(
            f"config.yaml: datasets.{name}.test is empty, so there is nothing to score. List sequences with labels"
            ' there that are neither in train nor in val, for example test: ["09", "10"].'
        )
    if data["simulate_drive"]:
        return  # simulated drives are labelled
    for sequence in data["test"]:
        place = load_choice(FORMATS[data["format"]].recording).place(
            _folder(name), sequence
        )
        recording = _recording(name, sequence)
        frames = recording.frames()
        if frames and not any(map(recording.has_labels, frames)):
            raise WorkflowError(
                f"{place}: this test sequence has no labels, so it cannot be scored. Copy its labels there, or take it out"
                f" of datasets.{name}.test. results/<experiment>_submission.zip has the predictions for a benchmark."
            )


def of_sequence(pattern):
    """Input function: `pattern` for the job's sequence. {root} is as in `per_sequence`."""
    return lambda wildcards: expand(
        pattern, **dict(wildcards.items()), root=root(wildcards.dataset)
    )


def with_poses(pattern, split):
    """Input function: as `per_sequence`, but nothing where the data set has no poses (poses: none)."""
    paths = per_sequence(pattern, split)
    return lambda wildcards: (
        [] if dataset(_dataset_of(wildcards))["poses"] == "none" else paths(wildcards)
    )


def poses_file(wildcards):
    """Input function: the estimated poses of the job's sequence; nothing where they are recorded. Refuses missing poses."""
    name, sequence = wildcards.dataset, wildcards.sequence
    data = dataset(name)
    if data["poses"] == "estimated":
        return f"cache/{root(name)}/poses/{sequence}.parquet"
    # Tables hold poses too, and read_tables refuses tables without them.
    if not data["simulate_drive"] and not FORMATS[data["format"]].tables:
        path = _recording(name, sequence).poses_path()
        if not path.exists():
            raise WorkflowError(
                f"{path}: the poses of sequence {sequence} are missing, and labels of a place are carried by them. Copy the"
                f" file, or set datasets.{root(name)}.poses: estimated (they are then estimated from the scans), or none"
                " (nothing is aggregated)."
            )
    return []


def pretraining(wildcards):
    """Returns the entry of the job's pre-training, with or without -seed<k>. Its data set is as in `of`."""
    name = seeds.entry(wildcards.pretraining)
    if name not in config["pretrainings"]:
        known = ", ".join(config["pretrainings"]) or "none"
        raise WorkflowError(
            f"config.yaml has no pre-training {name!r} in pretrainings:. Add it there, or choose one of {known}."
        )
    found = config["pretrainings"][name]
    drawn = seeds.dataset_of(
        wildcards.pretraining, found["dataset"], config["datasets"]
    )
    return {**found, "dataset": drawn}


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
    """Input function: the experiment's pre-trained backbone, of the same seed; nothing if it has none."""
    _, mark, seed = wildcards.experiment.partition(seeds.MARK)
    begun = of(wildcards.experiment)["pretraining"]
    return f"cache/pretrained/{begun}{mark}{seed}" if begun else []


def adapter(wildcards):
    """Input function: the folder of the job's tuned teacher. An image segmentation network belongs to no data set."""
    if config["teachers"][wildcards.teacher]["images"]:
        return f"cache/image_teachers/{wildcards.teacher}"
    return f"cache/{wildcards.dataset}/{wildcards.teacher}/adapter"


def pseudo_labels(wildcards):
    """Input function: the pseudo-labels that the job's teacher is tuned on; nothing for a frozen teacher."""
    if config["teachers"][wildcards.teacher]["tune_teacher"]["steps"] == 0:
        return []
    return per_sequence("cache/{dataset}/pseudo_labels/{sequence}.zarr", "train")(
        wildcards
    )


def aggregated_to_export(wildcards):
    """Input function: the aggregated soft labels of the teacher whose labels are exported; nothing for `carried`."""
    if wildcards.labels not in config["teachers"]:
        return []
    return "cache/{dataset}/{labels}/aggregated/{sequence}.zarr".format(**wildcards)


def not_edited(pattern):
    """Input function: `pattern`. Refuses a folder of exported labels that somebody edited, and sequences without an index.

    Snakemake empties the folder before its job starts. The jobs of a cluster do not check here, since it may just be
    emptied.
    """

    def path(wildcards):
        if wildcards.sequence not in dataset(wildcards.dataset)["train"]:
            raise WorkflowError(
                f"sequence {wildcards.sequence} of {wildcards.dataset} is no training sequence: labels are carried only in"
                f" those. Add it to datasets.{wildcards.dataset}.train in config.yaml."
            )
        if workflow.is_main_process:
            try:
                refuse_edited(
                    Path("export", wildcards.dataset, wildcards.labels, "sequences")
                    / wildcards.sequence
                )
            except InputError as error:
                raise WorkflowError(str(error)) from None
        return pattern.format(**wildcards)

    return path


def image_set(wildcards):
    """Input function: the folders of the labelled images of the job's teacher that tell a change. Refuses missing ones."""
    name = config["teachers"][wildcards.teacher]["images"]
    entry = config["image_sets"][name]
    if entry["simulate_images"]:
        return f"data/{name}"
    parts = load_choice(IMAGE_FORMATS[entry["format"]].parts)
    try:
        return list(map(str, parts(Path("data", name))))
    except InputError as error:
        raise WorkflowError(str(error)) from None


def of_teaching(pattern):
    """Input function: `pattern` for every training sequence if the experiment has a teacher, else nothing."""
    return lambda wildcards: (
        per_sequence(pattern, "train")(wildcards)
        if of(wildcards.experiment)["teacher"]
        else []
    )


def losses_of(wildcards):
    """Returns the losses of the student of the job's experiment."""
    return config["students"][of(wildcards.experiment)["student"]]["losses"]


def of_aggregation(pattern):
    """Input function: as `of_teaching`, if the student learns from aggregated targets, else nothing."""
    return lambda wildcards: (
        of_teaching(pattern)(wildcards)
        if losses_of(wildcards)["targets"] == "aggregated"
        else []
    )


def of_carrying(pattern):
    """Input function: `pattern` for every training sequence if the student learns from carried labels, else nothing."""
    return lambda wildcards: (
        per_sequence(pattern, "train")(wildcards)
        if losses_of(wildcards)["carried"]
        else []
    )


def calibration(wildcards):
    """Input function: the temperatures of the experiment's teacher, if its student divides soft labels by them."""
    chosen = of(wildcards.experiment)
    if not chosen["teacher"] or not losses_of(wildcards)["calibrated"]:
        return []
    return f"cache/{chosen['dataset']}/{chosen['teacher']}/calibration.json"


def figures_to_list(wildcards):
    """Input function: further figures of the summary: projection, and what the experiment's method can show."""
    chosen = of(wildcards.experiment)
    figures = [f"results/{root(chosen['dataset'])}_projection.png"]
    if labeller_of(chosen):
        figures.append(f"results/{chosen['dataset']}_labels.png")
    if config["students"][chosen["student"]]["losses"]["targets"] == "aggregated":
        figures.append(
            f"results/{chosen['dataset']}_{chosen['teacher']}_aggregation.png"
        )
    if config["students"][chosen["student"]]["network"].get("adaptation"):
        figures.append(f"results/{wildcards.experiment}_embedding.png")
    return figures


def recorded_files(wildcards):
    """Input function: the files and folders of a sequence that index_frames checks.

    These are the parts and not the sequence's folder, because other programs may write other files there. All other
    stages depend on the index, which holds checksums, and take the sequence's folder as `ancient`.
    """
    place = _present(wildcards.dataset, wildcards.sequence)
    data = dataset(wildcards.dataset)
    if data["simulate_drive"]:
        return place
    parts = load_choice(FORMATS[data["format"]].recording).parts
    return list(
        map(str, parts(_folder(wildcards.dataset), wildcards.sequence, data["cameras"]))
    )


def tables(wildcards):
    """Input function: what `read_tables` wrote, if the format of the job's data set has tables, else nothing."""
    has_tables = FORMATS[dataset(wildcards.dataset)["format"]].tables
    return f"cache/{wildcards.dataset}/tables" if has_tables else []


def table_files(wildcards):
    """Input function: the tables of the job's data set. Those of a simulated one are made by `simulate_tables`."""
    folder = _folder(wildcards.dataset)
    if dataset(wildcards.dataset)["simulate_drive"]:
        return f"{folder}/v1.0-mini"
    found = sorted(map(str, folder.glob("v1.0-*")))
    if not found:
        raise WorkflowError(
            f"{folder}: has no tables (v1.0-trainval, v1.0-test or v1.0-mini). Link the folder that has them:\n"
            f"    mkdir -p data && ln -sfn /path/to/nuscenes {folder}"
        )
    return found


def simulated_scenes(wildcards):
    """Input function: the folders of all simulated sequences of the job's data set and of its variants."""
    folder = _folder(wildcards.dataset)
    return [
        f"{folder}/sequences/{sequence}" for sequence in sequences_of(wildcards.dataset)
    ]


def table_listing(wildcards):
    """Param: digest of the listing of `table_files`, as in `recorded_listing`."""
    if dataset(wildcards.dataset)["simulate_drive"]:
        return ""
    return listing_digest(table_files(wildcards))


def recorded_listing(wildcards):
    """Param: digest of the listing of `recorded_files`. Dates alone do not show that a link now leads to older files."""
    if dataset(wildcards.dataset)["simulate_drive"]:
        return ""
    return listing_digest(recorded_files(wildcards))


def image_listing(wildcards):
    """Param: digest of the listing of the labelled images of the job's teacher."""
    name = config["teachers"][wildcards.teacher]["images"]
    if config["image_sets"][name]["simulate_images"]:
        return ""
    return listing_digest(image_set(wildcards))


def sequence_place(wildcards):
    """Input function: the path of the job's sequence. Refuses a missing one."""
    return _present(wildcards.dataset, wildcards.sequence)


def sequence_places(split):
    """Input function: the path of every sequence of a split. Refuses a missing one."""

    def places(wildcards):
        name = _dataset_of(wildcards)
        return [_present(name, sequence) for sequence in dataset(name)[split]]

    return places


def class_file(wildcards):
    """Input function: the file of the data set's class table."""
    return _class_file(dataset(wildcards.dataset)["classes"])


def image_class_file(wildcards):
    """Input function: the file of the class table of the job's image set, or of its teacher's image set."""
    return _class_file(config["image_sets"][image_set_name(wildcards)]["classes"])


def _class_file(name):
    return relative(table_path(name)) if name in packaged() else name


def _dataset_of(wildcards):
    if hasattr(wildcards, "experiment"):
        return of(wildcards.experiment)["dataset"]
    return wildcards.dataset


def _recording(name, sequence):
    """Returns the recording of a sequence of data set `name`."""
    data = dataset(name)
    table = class_table(data["classes"])
    return open_recording(
        _folder(name), sequence, data["format"], table, data["cameras"]
    )


def _folder(name):
    """Returns the folder that has the files of data set `name`."""
    return Path("data", root(name))


def _present(name, sequence):
    data, folder = dataset(name), _folder(name)
    if data["simulate_drive"]:
        return f"{folder}/sequences/{sequence}"
    place = load_choice(FORMATS[data["format"]].recording).place(folder, sequence)
    if not place.exists():
        have = (
            "the sequence is missing in the data folder"
            if folder.is_dir()
            else "the data folder is missing"
        )
        contents = (
            "v1.0-trainval" if place == folder else str(place.relative_to(folder))
        )
        raise WorkflowError(
            f"{place}: {have}. Link the folder that contains {contents}:\n"
            f"    mkdir -p data && ln -sfn /path/to/that/folder {folder}"
        )
    return str(place)


def checkpoint_of(kind):
    """Input function: the checkpoint file of the teacher, the labeller or all labellers. Refuses a missing one."""

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
    """Returns the entry of comparison `name`."""
    if name not in config["comparisons"]:
        known = ", ".join(config["comparisons"]) or "none"
        raise WorkflowError(
            f"config.yaml has no comparison {name!r}. Add it there, or choose one of {known}."
        )
    return config["comparisons"][name]


def compared_names(wildcards):
    """Returns the names of the experiments of the job's comparison, in its order."""
    chosen = comparison(wildcards.comparison)["experiments"]
    return [about["experiment"] for about in chosen.values()]


def compared_results(wildcards):
    """Input function: the mIoU result of every experiment of the comparison with every seed."""
    return expand(
        "results/{experiment}-seed{seed}_miou{test}.json",
        experiment=list(dict.fromkeys(compared_names(wildcards))),
        seed=comparison(wildcards.comparison)["seeds"],
        test="_test" if comparison(wildcards.comparison)["split"] == "test" else "",
    )


def compared_teachers(wildcards):
    """Input function: the evaluate_teacher result of every teacher in the comparison, with every seed if it has one."""
    runs = [
        of(f"{name}{seeds.MARK}{seed}")
        for name in compared_names(wildcards)
        for seed in comparison(wildcards.comparison)["seeds"]
    ]
    paths = [
        f"results/{e['dataset']}_{e['teacher']}_points.json"
        for e in runs
        if e["teacher"]
    ]
    return list(dict.fromkeys(paths))


def teacher_quality(wildcards):
    """Input function: the evaluate_teacher result of the job's teacher.

    Nothing where there is no teacher, where it caches no logits, or where the data set may lack labels.
    """
    chosen = of(wildcards.experiment)
    teacher, of_teacher = chosen["teacher"], config["teachers"].get(chosen["teacher"])
    names = of_teacher is None or "logits" in of_teacher["cache_teacher"]["targets"]
    if not teacher or not names or dataset(chosen["dataset"])["missing_labels"]:
        return []
    return f"results/{chosen['dataset']}_{teacher}_points.json"


def refused_if_none(paths):
    """Input function: `paths` of the test sequences. Refuses a data set without any, before a job runs."""

    def found(wildcards):
        if not dataset(dataset_name(wildcards))["test"]:
            raise WorkflowError(
                f"config.yaml: datasets.{dataset_name(wildcards)}.test is empty, so there is nothing to submit. List the"
                ' test sequences there, for example test: ["11", "12"].'
            )
        return paths(wildcards)

    return found
