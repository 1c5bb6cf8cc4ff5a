"""The headline numbers.  models/<experiment> -> results/<experiment>_miou.json, results/<experiment>_latency.json"""


rule evaluate_miou:
    """mIoU on the validation sequences by the official protocol, every point, no test-time augmentation."""
    input:
        sequences=ancient(sequence_folders("val")),
        frames=per_sequence("cache/{dataset}/frames/{sequence}.parquet", "val"),
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        code=stage("evaluate_miou", "metrics", "examples", "student/*"),
    output:
        result="results/{experiment}_miou.json",
        table=report(
            "results/{experiment}_miou.md",
            caption="../report/miou.rst",
            category="Accuracy",
            labels={"experiment": "{experiment}", "what": "IoU table"},
        ),
    log:
        "logs/evaluate_miou/{experiment}.log",
    benchmark:
        "benchmarks/evaluate_miou/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        gpu=1,
        mem_mb=16000,
        runtime="2h",
    params:
        experiment="{experiment}",
        dataset=dataset_name,
    shell:
        "python -m elite_pipeline.stages.evaluate_miou --experiment {params.experiment} --dataset {params.dataset}"
        " --model models/{wildcards.experiment} --sequences {input.sequences:q} --frames {input.frames:q}"
        " --out {output.result:q} 2>&1 | tee {log:q}"


rule measure_latency:
    """Latency of every phase per scan, batch 1, against the 24 Hz budget (41.7 ms)."""
    input:
        sequences=ancient(sequence_folders("val")),
        frames=per_sequence("cache/{dataset}/frames/{sequence}.parquet", "val"),
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        code=stage("measure_latency", "latency", "examples", "student/*"),
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
        "benchmarks/measure_latency/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    # All of the machine: another job beside a latency measurement would be measured too.
    threads: workflow._cores or 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="30m",
    params:
        *section("measure_latency"),
    shell:
        "python -m elite_pipeline.stages.measure_latency --model models/{wildcards.experiment}"
        " --sequences {input.sequences:q} --frames {input.frames:q} --out {output.result:q} {params:q}"
        " 2>&1 | tee {log:q}"
