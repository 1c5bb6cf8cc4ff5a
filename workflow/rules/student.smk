"""The sparse-convolution student, trained from scans, labels and cached targets alone (or from labels alone).

cache/<dataset>/<teacher>/targets -> models/<experiment>/
"""


rule train_student:
    """Train the student on the cached targets; resumes where it was stopped."""
    input:
        sequences=ancient(sequence_folders("train")),
        frames=per_sequence("cache/{dataset}/labelled/{sequence}.parquet", "train"),
        projection=of_teaching("cache/{root}/projection/{sequence}.zarr"),
        targets=of_teaching("cache/{dataset}/{teacher}/targets/{sequence}.zarr"),
        code=stage(
            "train_student",
            "training",
            "processes",
            "objective",
            "losses",
            "schedule",
            "examples",
            "recorded",
            "sampling",
            "mixing",
            "augmentation",
            "student/*",
        ),
    output:
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        curve="models/{experiment}/training.jsonl",
    log:
        "logs/train_student/{experiment}.log",
    benchmark:
        "benchmarks/train_student/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: student_threads
    resources:
        gpu=student_gpus,
        mem_mb=32000,
        runtime="48h",
    params:
        *of_student(),
    shell:
        "python -m elite_pipeline.stages.train_student --sequences {input.sequences:q} --frames {input.frames:q}"
        " --projection {input.projection:q} --targets {input.targets:q} --run models/{wildcards.experiment}/run"
        " --out models/{wildcards.experiment} {params:q} 2>&1 | tee {log:q}"
