"""Params: the parts of the configuration that a rule depends on, as `dotted.key=json` words. Its stage gets the same."""


def section(name):
    """Params: the section with the name of the stage."""
    return flatten(config[name])


def slices(kind, name_of, select):
    """Params: the part of an entry that `select` returns. The entry is `config[kind][name_of(wildcards)]`.

    There is one function per dotted key, so that a dry run names the changed key. If the job's entry lacks the key, the
    function returns an empty word, which stages skip.
    """

    def items(name):
        if name not in config[kind]:
            raise WorkflowError(
                f"config.yaml: {kind} has no {name!r}. Add it there, or choose one of {', '.join(config[kind])}."
            )
        selected = select(config[kind][name])
        return (
            dict(item.split("=", 1) for item in flatten(selected)) if selected else {}
        )

    def param(key):
        def value(wildcards):
            found = items(name_of(wildcards))
            return f"{key}={found[key]}" if key in found else ""

        return value

    keys = sorted({key for name in config[kind] for key in items(name)})
    # The empty word is always included. Snakemake compares sets of words, so a new entry with further keys does not change
    # the params of other entries.
    return [lambda wildcards: "", *map(param, keys)]


def of_places(name):
    """Params: section `name` (aggregate_targets, carry_labels) as the job's data set has it, or else the configuration."""

    def words(entry):
        return dict(item.split("=", 1) for item in flatten({name: entry}))

    def param(key):
        def value(wildcards):
            found = words(dataset(wildcards.dataset)[name] or config[name])
            return f"{key}={found[key]}" if key in found else ""

        return value

    entries = [
        config[name],
        *(d[name] for d in config["datasets"].values() if d[name]),
    ]
    keys = sorted({key for entry in entries for key in words(entry)})
    return [lambda wildcards: "", *map(param, keys)]


def together(*params):
    """Param: all of `params` as one list, for a rule that passes only some of its params to its stage."""
    return lambda wildcards: [param(wildcards) for param in params]


def data(wildcards):
    """Param: the `--data` option with the folder of the job's data set."""
    return f"--data={_folder(_dataset_of(wildcards))}"


def pretraining_data(wildcards):
    """Param: the `--data` option with the folder of the data set of the job's pre-training."""
    return f"--data={_folder(pretraining(wildcards)['dataset'])}"


def data_set(key):
    """Param: a key of the job's data set."""
    return lambda wildcards: f"{key}={json.dumps(dataset(wildcards.dataset)[key])}"


def image_set_name(wildcards):
    """Returns the name of the job's image set, or of its teacher's image set."""
    if hasattr(wildcards, "teacher"):
        return config["teachers"][wildcards.teacher]["images"]
    return wildcards.images


def image_folder(wildcards):
    """Param: the `--images` option with the folder of the job's image set."""
    return f"--images=data/{image_set_name(wildcards)}"


def image_classes(wildcards):
    """Param: the class table of the job's image set."""
    return f"classes={json.dumps(config['image_sets'][image_set_name(wildcards)]['classes'])}"


def image_format(wildcards):
    """Param: the format of the job's image set; nothing for a folder, the stages' default."""
    name = config["image_sets"][image_set_name(wildcards)]["format"]
    return "" if name == "folder" else f"format={json.dumps(name)}"


def held_out_worlds(wildcards):
    """Param: the share of simulated worlds that are held out; nothing for a folder, whose images do not depend on it."""
    entry = config["image_sets"][wildcards.images]
    return (
        ""
        if entry["format"] == "folder"
        else f"held_out={json.dumps(entry['held_out'])}"
    )


def cameras(wildcards):
    """Param: image folder -> name of its projection matrix, of the job's data set."""
    return (
        f"cameras={json.dumps(dataset(wildcards.dataset)['cameras'], sort_keys=True)}"
    )


def sequences_of(name):
    """Returns the sequences of all splits of data set `name`, and of its variants."""
    entries = [d for known, d in config["datasets"].items() if root(known) == name]
    return sorted({s for d in entries for s in d["train"] + d["val"] + d["test"]})


def all_sequences(wildcards):
    """Param: the sequences of all splits of the job's data set, and of its variants."""
    return f"sequences={json.dumps(sequences_of(wildcards.dataset))}"


def simulated_format(wildcards):
    """Param: the format of the simulated data set; an empty word for the first format that was simulated."""
    name = dataset(wildcards.dataset)["format"]
    return "" if name == "semantickitti" else f"format={json.dumps(name)}"


def needs_labels(wildcards):
    """Param: whether every scan must be labelled."""
    known = dataset(wildcards.dataset)
    needed = wildcards.sequence in known["train"] + known["val"]
    return f"labels={json.dumps(needed and not known['missing_labels'])}"


def needs_images(wildcards):
    """Param: whether images are needed: only for the sequences of the training split."""
    return f"images={json.dumps(wildcards.sequence in dataset(wildcards.dataset)['train'])}"


def labeller(wildcards):
    """Param: the labeller of the job's data set."""
    return (
        f"labeller={json.dumps(dataset(wildcards.dataset)['label_images']['labeller'])}"
    )


def labeller_section(wildcards):
    """Param: the settings of that labeller only."""
    labels = dataset(wildcards.dataset)["label_images"]
    name = labels["labeller"]
    # `sparse` has no settings; stages skip empty words.
    return (
        f"{name}={json.dumps(labels[name], sort_keys=True)}"
        if LabelImages.sections(name)
        else ""
    )


def labeller_sam(wildcards):
    """Param: the SAM that this labeller prompts, or null."""
    labels = dataset(wildcards.dataset)["label_images"]
    needed = "sam" in LabelImages.sections(labels["labeller"])
    return f"sam={json.dumps(labels['sam'] if needed else None, sort_keys=True)}"


def labeller_sections(wildcards):
    """Returns the sections of all labellers that need SAM, chosen or not. Refuses a missing one."""
    labels = dataset(wildcards.dataset)["label_images"]
    sections = {name: labels[name] for name in ("sam", "paper", "regions")}
    if missing := [name for name, section in sections.items() if section is None]:
        raise WorkflowError(
            f"config.yaml: datasets.{wildcards.dataset}.label_images lacks {', '.join(missing)}. The comparison of"
            f" labellers needs the sections of all of them. Add '{missing[0]}: {{...}}' there, as in datasets.demo.label_images."
        )
    return sections


def compared(name):
    """Param: section `name` of `labeller_sections`."""
    return lambda wildcards: (
        f"{name}={json.dumps(labeller_sections(wildcards)[name], sort_keys=True)}"
    )


def of_teacher(*without):
    """Params: the job's teacher, without the sections that only other stages read."""
    return slices(
        "teachers",
        lambda w: w.teacher,
        lambda t: {k: v for k, v in t.items() if k not in without},
    )


def of_teacher_to_tune():
    """Params: the job's teacher, as tune_teacher reads it. A data set with a seed gives its teachers that seed."""
    return seeded(
        lambda w: w.dataset, "tune_teacher", of_teacher("cache_teacher", "images")
    )


def selecting(key):
    """Param: one key of the data set's `select_labels`."""
    return lambda wildcards: (
        f"{key}={json.dumps(dataset(wildcards.dataset)['select_labels'][key])}"
    )


def labels_seed(wildcards):
    """Param: the seed that draws the labelled drives of the job's data set; null if it draws none."""
    data = dataset(_dataset_of(wildcards))
    seed = data["select_labels"]["seed"] if seeds.draws_drives(data) else None
    return f"labels_seed={json.dumps(seed)}"


def labelled(wildcards):
    """Param: the share, or the list, of the data set's training scans that keep their labels."""
    return (
        f"labelled={json.dumps(dataset(wildcards.dataset)['labelled'], sort_keys=True)}"
    )


def seeded(name_of, section, params):
    """Params: `params`; the seed of `section` is replaced by the seed in the job's name (demo-seed7), if there is one.

    name_of: function of the wildcards that returns the name.
    """

    def of_seed(param):
        def value(wildcards):
            word, seed = param(wildcards), seeds.seed_of(name_of(wildcards))
            is_seed = word.startswith(f"{section}.seed=")
            return f"{section}.seed={seed}" if is_seed and seed is not None else word

        return value

    return [of_seed(param) for param in params]


def of_student():
    """Params: the student of the job's experiment."""
    params = slices("students", lambda w: of(w.experiment)["student"], dict)
    return seeded(lambda w: w.experiment, "train_student", params)


def of_student_to_pretrain():
    """Params: the job's pre-training, and the parts of its student that it reads."""
    own = slices(
        "pretrainings",
        lambda w: seeds.entry(w.pretraining),
        lambda p: {k: p[k] for k in ("adaptation", "contrast", "pretrain_student")},
    )
    student = slices(
        "students",
        lambda w: pretraining(w)["student"],
        lambda s: {k: s[k] for k in ("network", "augmentation")},
    )
    return seeded(lambda w: w.pretraining, "pretrain_student", [*student, *own])


def pretraining_gpus(wildcards):
    """GPUs of pretrain_student: one for each of its processes."""
    return pretraining(wildcards)["pretrain_student"]["processes"]


def pretraining_threads(wildcards):
    """CPU threads of pretrain_student. Configured for the same reason as in `student_threads`."""
    options = pretraining(wildcards)["pretrain_student"]
    return options["threads"] * options["processes"]


def held_out(wildcards):
    """Param: the share of the labelled images that is kept to evaluate the job's image teacher."""
    images = config["teachers"][wildcards.teacher]["images"]
    return f"held_out={json.dumps(config['image_sets'][images]['held_out'])}"


def is_tuned(wildcards):
    """Param: whether the job's teacher was tuned on scans of the drives. Image teachers and oracles were not."""
    teacher = config["teachers"].get(wildcards.teacher)
    tuned = teacher is not None and not teacher["images"]
    return f"tuned={json.dumps(tuned)}"


def held_out_scans(wildcards):
    """Param: the share of the labelled scans that the job's teacher was not tuned on."""
    teacher = config["teachers"].get(wildcards.teacher)
    share = teacher["tune_teacher"]["held_out"] if teacher else 0.0
    return f"held_out={json.dumps(share)}"


def unknown_classes(wildcards):
    """Param: the classes that an image set leaves unlabelled."""
    return f"unknown={json.dumps(config['image_sets'][wildcards.images]['unknown'])}"


def student_threads(wildcards):
    """CPU threads of train_student. Configured, because sums on a CPU depend on the number of threads."""
    options = config["students"][of(wildcards.experiment)["student"]]["train_student"]
    return options["threads"] * options["processes"]


def student_gpus(wildcards):
    """GPUs of train_student: one for each of its processes."""
    return config["students"][of(wildcards.experiment)["student"]]["train_student"][
        "processes"
    ]


def labeller_of(experiment):
    """Returns the labeller that made the pseudo-labels of the experiment's teacher; None if it uses none."""
    teacher = config["teachers"].get(experiment["teacher"])
    if teacher is None or teacher["images"] or not teacher["tune_teacher"]["steps"]:
        return None
    return dataset(experiment["dataset"])["label_images"]["labeller"]


def chosen_labeller(wildcards):
    """Param: the labeller that made the pseudo-labels of the experiment's teacher, or null."""
    return f"labeller={json.dumps(labeller_of(of(wildcards.experiment)))}"


def compared_experiments(wildcards):
    """Param: the compared experiments in full. They keep the configured order, which is the order of the tables."""
    spelt_out = {}
    for label, about in comparison(wildcards.comparison)["experiments"].items():
        chosen = of(about["experiment"])
        spelt_out[label] = {
            **about,
            **chosen,
            "oracle": config["oracles"].get(chosen["teacher"]),
            "labeller": labeller_of(chosen),
        }
    return f"experiments={json.dumps(spelt_out)}"


def compared_by(key):
    """Param: `key` of the comparison."""
    return lambda wildcards: (
        f"{key}={json.dumps(comparison(wildcards.comparison)[key])}"
    )


def compared_sections(kind, role):
    """Param: the entries of section `kind` that the compared experiments use as `role`. Teachers include oracles."""

    def param(wildcards):
        known = {**config["oracles"], **config[kind]}
        named = compared_names(wildcards)
        chosen = {
            of(name)[role]: known[of(name)[role]] for name in named if of(name)[role]
        }
        return f"{kind}={json.dumps(chosen, sort_keys=True)}"

    return param


def teacher_name(wildcards):
    """Param: the teacher of the job's experiment, or null."""
    return f"teacher={json.dumps(of(wildcards.experiment)['teacher'])}"


def experiments_oracle(wildcards):
    """Param: the oracle that teaches the job's experiment, or null."""
    found = config["oracles"].get(of(wildcards.experiment)["teacher"])
    return f"oracle={json.dumps(found, sort_keys=True)}"


def is_simulated(wildcards):
    """Param: whether the experiment's drives are simulated."""
    simulated = dataset(dataset_name(wildcards))["simulate_drive"] is not None
    return f"simulated={json.dumps(simulated)}"


def oracle(key):
    """Param: `key` of the job's oracle."""
    return lambda wildcards: (
        f"{key}={json.dumps(config['oracles'][wildcards.oracle][key])}"
    )
