"""Accuracy and speed of students, and the quality of pseudo-labels.

models/<experiment> -> results/<experiment>_miou.json, results/<experiment>_latency.json
on request: results/<experiment>_miou_test.json (test sequences), ..._tta.json (test-time augmentation)
cache/<dataset>/projection -> results/<dataset>_pseudo_labels.json
"""


rule evaluate_miou:
    """Score a student: mIoU over whole validation scans, official protocol (`_test`: test scans, `_tta`: many passes)."""
    input:
        sequences=ancient(of_split(sequence_places)),
        frames=of_split(
            lambda split: per_sequence("cache/{root}/frames/{sequence}.parquet", split)
        ),
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        code=stage("evaluate_miou"),
    output:
        result="results/{experiment}_miou{test}{tta}.json",
        table=report(
            "results/{experiment}_miou{test}{tta}.md",
            caption="../report/miou.rst",
            category="Accuracy",
            labels={"experiment": "{experiment}", "what": "IoU table{test}{tta}"},
        ),
    log:
        "logs/evaluate_miou/{experiment}{test}{tta}.log",
    benchmark:
        "logs/jobs/evaluate_miou/{experiment}{test}{tta}.tsv"
    wildcard_constraints:
        test="(_test)?",
        tta="(_tta)?",
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=lambda wildcards: "24h" if wildcards.tta else "2h",
    params:
        data=data,
        experiment="{experiment}",
        dataset=dataset_name,
        labels_seed=labels_seed,
        teacher=teacher_name,
        oracle=experiments_oracle,
        split=lambda wildcards: f"split={json.dumps(split_of(wildcards))}",
        cameras=[f"project_points.{item}" for item in section("project_points")],
        # Only the augmented target depends on it: another number of votes does not rerun the official evaluation.
        votes=lambda wildcards: section("evaluate_miou") if wildcards.tta else [],
    shell:
        "python -m elite_pipeline.stages.evaluate_miou --experiment {params.experiment} --dataset {params.dataset}"
        " --model models/{wildcards.experiment} {params.data:q} --frames {input.frames:q}"
        " --out {output.result:q} {params.labels_seed:q} {params.teacher:q} {params.oracle:q}"
        " {params.split:q} {params.cameras:q} {params.votes:q} 2>&1 | tee {log:q}"


rule measure_latency:
    """Measure a student's latency per scan, phase by phase, batch size 1, against the 24 Hz budget (41.7 ms)."""
    input:
        sequences=ancient(sequence_places("val")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "val"),
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        code=stage("measure_latency"),
    output:
        result="results/{experiment}_latency.json",
        table=report(
            "results/{experiment}_latency.md",
            caption="../report/latency.rst",
            category="Speed",
            labels={"experiment": "{experiment}", "what": "latency table"},
        ),
    log:
        "logs/measure_latency/{experiment}.log",
    benchmark:
        "logs/jobs/measure_latency/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    # All cores: a second job on the machine would change the measured latency.
    threads: workflow._cores or 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="30m",
    params:
        data,
        *section("measure_latency"),
    shell:
        "python -m elite_pipeline.stages.measure_latency --model models/{wildcards.experiment}"
        " --frames {input.frames:q} --out {output.result:q} {params:q}"
        " 2>&1 | tee {log:q}"


rule evaluate_pseudo_labels:
    """Score labellers against dense ground truth (or held-out points), with all, 20, 5 and 1 % of the labelled points."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "train"),
        projection=per_sequence("cache/{root}/projection/{sequence}.zarr", "train"),
        checkpoint=checkpoint_of("labellers"),
        code=stage("evaluate_pseudo_labels"),
    output:
        result="results/{dataset}_pseudo_labels.json",
        gallery="cache/{dataset}/worst_pseudo_labels.npz",
        table=report(
            "results/{dataset}_pseudo_labels.md",
            caption="../report/pseudo_labels.rst",
            category="Data",
            labels={"data set": "{dataset}", "what": "labellers, table"},
        ),
    log:
        "logs/evaluate_pseudo_labels/{dataset}.log",
    benchmark:
        "logs/jobs/evaluate_pseudo_labels/{dataset}.tsv"
    wildcard_constraints:
        dataset=PLAIN,
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        gpu=1,
        mem_mb=16000,
        runtime="4h",
    params:
        data,
        *section("evaluate_pseudo_labels"),
        compared("sam"),
        compared("paper"),
        compared("regions"),
    shell:
        "python -m elite_pipeline.stages.evaluate_pseudo_labels --dataset {wildcards.dataset}"
        " --frames {input.frames:q} --projection {input.projection:q}"
        " --gallery {output.gallery:q} --out {output.result:q} {params:q} 2>&1 | tee {log:q}"
