"""Figures, and the summary that `make demo` prints."""


rule plot_projection:
    """Plot LiDAR points over the image, coloured by class and by depth."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "train"),
        projection=per_sequence("cache/{root}/projection/{sequence}.zarr", "train"),
        code=stage("plot_projection"),
    output:
        report(
            "results/{dataset}_projection.png",
            caption="../report/projection.rst",
            category="Data",
            labels={"data set": "{dataset}", "what": "projection"},
        ),
    log:
        "logs/plot_projection/{dataset}.log",
    benchmark:
        "logs/jobs/plot_projection/{dataset}.tsv"
    wildcard_constraints:
        dataset=PLAIN,
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        data,
    shell:
        "python -m elite_pipeline.stages.plot_projection --frames {input.frames:q}"
        " --projection {input.projection:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule plot_labels:
    """Plot sparse labels, pseudo-labels and (if available) dense ground truth side by side."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{dataset}/labelled/{sequence}.parquet", "train"),
        projection=per_sequence("cache/{root}/projection/{sequence}.zarr", "train"),
        pseudo_labels=per_sequence(
            "cache/{dataset}/pseudo_labels/{sequence}.zarr", "train"
        ),
        code=stage("plot_labels"),
    output:
        report(
            "results/{dataset}_labels.png",
            caption="../report/labels.rst",
            category="Data",
            labels={"data set": "{dataset}", "what": "pseudo-labels"},
        ),
    log:
        "logs/plot_labels/{dataset}.log",
    benchmark:
        "logs/jobs/plot_labels/{dataset}.tsv"
    wildcard_constraints:
        # plot_pseudo_labels makes results/<dataset>_pseudo_labels.png.
        dataset=f"{PLAIN}(?<!_pseudo)(-seed[0-9]+)?",
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        data,
    shell:
        "python -m elite_pipeline.stages.plot_labels --frames {input.frames:q}"
        " --projection {input.projection:q} --pseudo-labels {input.pseudo_labels:q} --out {output:q}"
        " {params:q} 2>&1 | tee {log:q}"


rule plot_pseudo_labels:
    """Plot labeller quality over the share of labelled points, and the default labeller's worst images."""
    input:
        result="results/{dataset}_pseudo_labels.json",
        gallery="cache/{dataset}/worst_pseudo_labels.npz",
        code=stage("plot_pseudo_labels"),
    output:
        curves=report(
            "results/{dataset}_pseudo_labels.png",
            caption="../report/pseudo_labels.rst",
            category="Data",
            labels={"data set": "{dataset}", "what": "labellers"},
        ),
        worst=report(
            "results/{dataset}_pseudo_labels_worst.png",
            caption="../report/pseudo_labels.rst",
            category="Data",
            labels={"data set": "{dataset}", "what": "worst pseudo-labels"},
        ),
    log:
        "logs/plot_pseudo_labels/{dataset}.log",
    benchmark:
        "logs/jobs/plot_pseudo_labels/{dataset}.tsv"
    wildcard_constraints:
        dataset=PLAIN,
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="10m",
    shell:
        "python -m elite_pipeline.stages.plot_pseudo_labels --result {input.result:q} --gallery {input.gallery:q}"
        " --out {output.curves:q} --worst {output.worst:q} 2>&1 | tee {log:q}"


rule plot_predictions:
    """Plot prediction, ground truth and errors of a scan as a bird's-eye view."""
    input:
        sequences=ancient(sequence_places("val")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "val"),
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        code=stage("plot_predictions"),
    output:
        report(
            "results/{experiment}_predictions.png",
            caption="../report/predictions.rst",
            category="Accuracy",
            labels={"experiment": "{experiment}", "what": "predictions"},
        ),
    log:
        "logs/plot_predictions/{experiment}.log",
    benchmark:
        "logs/jobs/plot_predictions/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime="10m",
    params:
        data,
    shell:
        "python -m elite_pipeline.stages.plot_predictions --model models/{wildcards.experiment}"
        " --frames {input.frames:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule plot_miou:
    """Plot IoU per class and the confusion matrix."""
    input:
        result="results/{experiment}_miou.json",
        code=stage("plot_miou"),
    output:
        report(
            "results/{experiment}_miou.png",
            caption="../report/miou.rst",
            category="Accuracy",
            labels={"experiment": "{experiment}", "what": "IoU and confusion"},
        ),
    log:
        "logs/plot_miou/{experiment}.log",
    benchmark:
        "logs/jobs/plot_miou/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    shell:
        "python -m elite_pipeline.stages.plot_miou --result {input.result:q} --out {output:q} 2>&1 | tee {log:q}"


rule plot_latency:
    """Plot the latency distribution of every phase against the 41.7 ms budget."""
    input:
        result="results/{experiment}_latency.json",
        code=stage("plot_latency"),
    output:
        report(
            "results/{experiment}_latency.png",
            caption="../report/latency.rst",
            category="Speed",
            labels={"experiment": "{experiment}", "what": "latency"},
        ),
    log:
        "logs/plot_latency/{experiment}.log",
    benchmark:
        "logs/jobs/plot_latency/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    shell:
        "python -m elite_pipeline.stages.plot_latency --result {input.result:q} --out {output:q} 2>&1 | tee {log:q}"


rule plot_embedding:
    """Plot point features before and after the domain-adaptation module beside their pixels' features (t-SNE, CKA)."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "train"),
        projection=of_teaching("cache/{root}/projection/{sequence}.zarr"),
        targets=of_teaching("cache/{dataset}/{teacher}/targets/{sequence}.zarr"),
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        code=stage("plot_embedding"),
    output:
        result="results/{experiment}_embedding.json",
        table="results/{experiment}_embedding.md",
        figure=report(
            "results/{experiment}_embedding.png",
            caption="../report/embedding.rst",
            category="Students",
            labels={"experiment": "{experiment}", "what": "embedding"},
        ),
    log:
        "logs/plot_embedding/{experiment}.log",
    benchmark:
        "logs/jobs/plot_embedding/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="1h",
    params:
        data,
        *section("plot_embedding"),
    shell:
        "python -m elite_pipeline.stages.plot_embedding --experiment {wildcards.experiment}"
        " --model models/{wildcards.experiment} --frames {input.frames:q}"
        " --projection {input.projection:q} --targets {input.targets:q} --out {output.result:q} {params:q}"
        " 2>&1 | tee {log:q}"


rule plot_reliability:
    """Plot how often a teacher's soft labels are right over how confident they are, before and after calibration."""
    input:
        result="cache/{dataset}/{teacher}/calibration.json",
        code=stage("plot_reliability"),
    output:
        report(
            "results/{dataset}_{teacher}_reliability.png",
            caption="../report/reliability.rst",
            category="Teacher",
            labels={
                "data set": "{dataset}",
                "teacher": "{teacher}",
                "what": "reliability",
            },
        ),
    log:
        "logs/plot_reliability/{dataset}_{teacher}.log",
    benchmark:
        "logs/jobs/plot_reliability/{dataset}_{teacher}.tsv"
    wildcard_constraints:
        # As in evaluate_teacher, both may contain underscores.
        dataset=f"({'|'.join(config['datasets'])})(-seed[0-9]+)?",
        teacher="|".join([*config["teachers"], *config["oracles"]]),
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    shell:
        "python -m elite_pipeline.stages.plot_reliability --result {input.result:q} --out {output:q} 2>&1 | tee {log:q}"


rule summarise_experiment:
    """Summarise an experiment: mIoU, latency, and the paths of its figures."""
    input:
        card="models/{experiment}/README.md",
        miou="results/{experiment}_miou.md",
        latency="results/{experiment}_latency.json",
        miou_figure="results/{experiment}_miou.png",
        points=teacher_quality,
        latency_figure="results/{experiment}_latency.png",
        predictions="results/{experiment}_predictions.png",
        others=figures_to_list,
        code=stage("summarise_experiment"),
    output:
        "results/{experiment}_summary.md",
    log:
        "logs/summarise_experiment/{experiment}.log",
    benchmark:
        "logs/jobs/summarise_experiment/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        chosen_labeller,
    shell:
        "python -m elite_pipeline.stages.summarise_experiment --miou {input.miou:q} --latency {input.latency:q}"
        " --points {input.points:q} --figures {input.others:q} {input.predictions:q} {input.miou_figure:q}"
        " {input.latency_figure:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"
