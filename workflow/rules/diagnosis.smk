"""Diagnostics: quality and confidence of a teacher's soft labels, and oracles (teachers with a stated accuracy).

cache/<dataset>/<teacher>/targets -> results/<dataset>_<teacher>_points.json
cache/<dataset>/carried_labels -> results/<dataset>_carried_labels.json
cache/<dataset>/<teacher>/targets, aggregated -> cache/<dataset>/<teacher>/calibration.json
ground truth of a simulated world -> cache/<dataset>/<oracle>/targets: a diagnostic, never a result of a method
"""


rule corrupt_truth:
    """Make an oracle's targets (diagnostic): simulated ground truth with errors added, down to a stated accuracy."""
    input:
        sequence=ancient(sequence_place),
        frames=of_sequence("cache/{root}/frames/{sequence}.parquet"),
        projection=of_sequence("cache/{root}/projection/{sequence}.zarr"),
        code=stage("corrupt_truth"),
    output:
        # In the same place as a teacher's targets: students read both in the same way.
        directory("cache/{dataset}/{oracle}/targets/{sequence}.zarr"),
    log:
        "logs/corrupt_truth/{dataset}/{oracle}/{sequence}.log",
    benchmark:
        "logs/jobs/corrupt_truth/{dataset}/{oracle}/{sequence}.tsv"
    wildcard_constraints:
        oracle="|".join(config["oracles"]) or "none",
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="2h",
    params:
        data,
        oracle("accuracy"),
        oracle("seed"),
    shell:
        "python -m elite_pipeline.stages.corrupt_truth --frames {input.frames:q}"
        " --projection {input.projection:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule evaluate_teacher:
    """Score a teacher (or oracle) on the training scans: its soft labels of one frame, and the aggregated ones."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "train"),
        selected=per_sequence("cache/{dataset}/labelled/{sequence}.parquet", "train"),
        projection=per_sequence("cache/{root}/projection/{sequence}.zarr", "train"),
        targets=per_sequence(
            "cache/{dataset}/{teacher}/targets/{sequence}.zarr", "train"
        ),
        aggregated=with_poses(
            "cache/{dataset}/{teacher}/aggregated/{sequence}.zarr", "train"
        ),
        code=stage("evaluate_teacher"),
    output:
        result="results/{dataset}_{teacher}_points.json",
        table=report(
            "results/{dataset}_{teacher}_points.md",
            caption="../report/points.rst",
            category="Teacher",
            labels={
                "data set": "{dataset}",
                "teacher": "{teacher}",
                "what": "quality at the points",
            },
        ),
    log:
        "logs/evaluate_teacher/{dataset}_{teacher}.log",
    benchmark:
        "logs/jobs/evaluate_teacher/{dataset}_{teacher}.tsv"
    wildcard_constraints:
        # Both may contain underscores: only the configured names show where the first one ends.
        dataset=f"({'|'.join(config['datasets'])})(-seed[0-9]+)?",
        teacher="|".join([*config["teachers"], *config["oracles"]]),
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        data=data,
        labels_seed=labels_seed,
        dataset=lambda wildcards: seeds.entry(wildcards.dataset),
    shell:
        "python -m elite_pipeline.stages.evaluate_teacher --dataset {params.dataset} --teacher {wildcards.teacher}"
        " --frames {input.frames:q} --selected {input.selected:q}"
        " --projection {input.projection:q} --targets {input.targets:q} --aggregated {input.aggregated:q}"
        " --out {output.result:q} {params.data:q} {params.labels_seed:q} 2>&1 | tee {log:q}"


rule plot_aggregation:
    """Plot one scan from above: what a camera sees in that frame, what aggregation adds, and the class of each point."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "train"),
        projection=per_sequence("cache/{root}/projection/{sequence}.zarr", "train"),
        targets=per_sequence(
            "cache/{dataset}/{teacher}/targets/{sequence}.zarr", "train"
        ),
        aggregated=per_sequence(
            "cache/{dataset}/{teacher}/aggregated/{sequence}.zarr", "train"
        ),
        code=stage("plot_aggregation"),
    output:
        report(
            "results/{dataset}_{teacher}_aggregation.png",
            caption="../report/aggregation.rst",
            category="Teacher",
            labels={
                "data set": "{dataset}",
                "teacher": "{teacher}",
                "what": "aggregation, from above",
            },
        ),
    log:
        "logs/plot_aggregation/{dataset}_{teacher}.log",
    benchmark:
        "logs/jobs/plot_aggregation/{dataset}_{teacher}.tsv"
    wildcard_constraints:
        dataset=f"({'|'.join(config['datasets'])})(-seed[0-9]+)?",
        teacher="|".join([*config["teachers"], *config["oracles"]]),
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        data,
    shell:
        "python -m elite_pipeline.stages.plot_aggregation --frames {input.frames:q}"
        " --projection {input.projection:q} --targets {input.targets:q} --aggregated {input.aggregated:q}"
        " --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule evaluate_carried_labels:
    """Score carried labels: coverage, accuracy and mIoU on the scans whose labels are hidden."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "train"),
        selected=per_sequence("cache/{dataset}/labelled/{sequence}.parquet", "train"),
        carried=per_sequence("cache/{dataset}/carried_labels/{sequence}.zarr", "train"),
        code=stage("evaluate_carried_labels"),
    output:
        result="results/{dataset}_carried_labels.json",
        table=report(
            "results/{dataset}_carried_labels.md",
            caption="../report/carried_labels.rst",
            category="Few labels",
            labels={"data set": "{dataset}", "what": "carried labels"},
        ),
    log:
        "logs/evaluate_carried_labels/{dataset}.log",
    benchmark:
        "logs/jobs/evaluate_carried_labels/{dataset}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        data,
    shell:
        "python -m elite_pipeline.stages.evaluate_carried_labels --dataset {wildcards.dataset}"
        " --frames {input.frames:q} --selected {input.selected:q} --carried {input.carried:q}"
        " --out {output.result:q} {params:q} 2>&1 | tee {log:q}"


rule calibrate_targets:
    """Find the temperatures that make a teacher's soft labels as confident as they are right, at held-out scans."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{dataset}/labelled/{sequence}.parquet", "train"),
        projection=per_sequence("cache/{root}/projection/{sequence}.zarr", "train"),
        targets=per_sequence(
            "cache/{dataset}/{teacher}/targets/{sequence}.zarr", "train"
        ),
        aggregated=with_poses(
            "cache/{dataset}/{teacher}/aggregated/{sequence}.zarr", "train"
        ),
        code=stage("calibrate_targets"),
    output:
        "cache/{dataset}/{teacher}/calibration.json",
    log:
        "logs/calibrate_targets/{dataset}/{teacher}.log",
    benchmark:
        "logs/jobs/calibrate_targets/{dataset}/{teacher}.tsv"
    wildcard_constraints:
        teacher="|".join([*config["teachers"], *config["oracles"]]),
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime="2h",
    params:
        data,
        is_tuned,
        held_out_scans,
    shell:
        "python -m elite_pipeline.stages.calibrate_targets --dataset {wildcards.dataset} --teacher {wildcards.teacher}"
        " --frames {input.frames:q} --projection {input.projection:q} --targets {input.targets:q}"
        " --aggregated {input.aggregated:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"
