"""Experiments side by side.  results/<experiment>-seed<k>_miou.json -> results/<comparison>_comparison.json, .md, .png"""


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


def compared_experiments(wildcards):
    """Param: the experiments spelt out. In the order of the configuration, since that is the order of the tables."""
    spelt_out = {}
    for label, name in comparison(wildcards.comparison)["experiments"].items():
        chosen = of(name)
        # The truth has no labeller, and without a teacher no image is labelled.
        tuned = chosen["teacher"] in config["teachers"]
        labels = dataset(chosen["dataset"])["label_images"]
        labeller = labels["labeller"] if tuned else None
        spelt_out[label] = {"experiment": name, **chosen, "labeller": labeller}
    return f"experiments={json.dumps(spelt_out)}"


def compared_by(key):
    """Param: another key of the comparison."""
    return lambda wildcards: (
        f"{key}={json.dumps(comparison(wildcards.comparison)[key])}"
    )


rule compare_experiments:
    """Experiments side by side over several seeds: means, spreads, paired differences, per class."""
    input:
        results=compared_results,
        teachers=compared_teachers,
        code=stage("compare_experiments", "comparison", "comparison_table"),
    output:
        result="results/{comparison}_comparison.json",
        table=report(
            "results/{comparison}_comparison.md",
            caption="../report/comparison.rst",
            category="Comparisons",
            labels={"comparison": "{comparison}", "what": "tables"},
        ),
    log:
        "logs/compare_experiments/{comparison}.log",
    benchmark:
        "benchmarks/compare_experiments/{comparison}.tsv"
    wildcard_constraints:
        comparison="[a-z][a-z0-9_]*",
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        'comparison="{comparison}"',
        compared_experiments,
        compared_by("seeds"),
        compared_by("differences"),
    shell:
        "python -m elite_pipeline.stages.compare_experiments --results {input.results:q}"
        " --teachers {input.teachers:q} --out {output.result:q} {params:q} 2>&1 | tee {log:q}"


rule plot_comparison:
    """Experiments with their seeds, curves over labelled scans where they are such, and differences per class."""
    input:
        result="results/{comparison}_comparison.json",
        code=stage(
            "plot_comparison",
            "comparison",
            "comparison_figures",
            "comparison_curves",
            "comparison_marks",
            "figures",
        ),
    output:
        experiments=report(
            "results/{comparison}_comparison.png",
            caption="../report/comparison.rst",
            category="Comparisons",
            labels={"comparison": "{comparison}", "what": "experiments"},
        ),
        classes=report(
            "results/{comparison}_comparison_classes.png",
            caption="../report/comparison.rst",
            category="Comparisons",
            labels={"comparison": "{comparison}", "what": "classes"},
        ),
    log:
        "logs/plot_comparison/{comparison}.log",
    benchmark:
        "benchmarks/plot_comparison/{comparison}.tsv"
    wildcard_constraints:
        comparison="[a-z][a-z0-9_]*",
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    shell:
        "python -m elite_pipeline.stages.plot_comparison --result {input.result:q} --out {output.experiments:q}"
        " --classes {output.classes:q} 2>&1 | tee {log:q}"
