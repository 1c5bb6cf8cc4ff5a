"""Comparisons of experiments.

results/<experiment>-seed<k>_miou.json (or ..._miou_test.json) -> results/<comparison>_comparison.json, .md, .png
"""


rule compare_experiments:
    """Compare experiments over several seeds: means, paired differences with 95 % intervals, IoU per class."""
    input:
        results=compared_results,
        teachers=compared_teachers,
        code=stage("compare_experiments"),
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
        "logs/jobs/compare_experiments/{comparison}.tsv"
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
        compared_by("figure"),
        compared_by("split"),
        compared_by("seeds"),
        compared_by("differences"),
        compared_sections("teachers", "teacher"),
        compared_sections("datasets", "dataset"),
    shell:
        "python -m elite_pipeline.stages.compare_experiments --results {input.results:q}"
        " --teachers {input.teachers:q} --out {output.result:q} {params:q} 2>&1 | tee {log:q}"


rule plot_comparison:
    """Plot a comparison: every experiment with its seeds (or curves over labelled scans), and differences per class."""
    input:
        result="results/{comparison}_comparison.json",
        code=stage("plot_comparison"),
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
        "logs/jobs/plot_comparison/{comparison}.tsv"
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
