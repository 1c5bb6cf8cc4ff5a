"""Train the sparse-convolution student. It reads scans, labels and cached targets (or no targets), and no images.

cache/<dataset>/<teacher>/{targets,aggregated}, cache/<dataset>/carried_labels -> cache/pretrained/<pretraining>/, models/<experiment>/
"""


rule pretrain_student:
    """Pre-train a backbone without labels, by contrast with a frozen image encoder's features (UDAKD); resumable."""
    input:
        sequences=ancient(of_pretraining("data/{root}/sequences/{sequence}")),
        frames=of_pretraining("cache/{root}/frames/{sequence}.parquet"),
        projection=of_pretraining("cache/{root}/projection/{sequence}.zarr"),
        targets=of_pretraining("cache/{dataset}/{teacher}/targets/{sequence}.zarr"),
        superpixels=of_pretraining("cache/{root}/{superpixels}/{sequence}.zarr"),
        code=stage("pretrain_student"),
    output:
        directory("cache/pretrained/{pretraining}"),
    log:
        "logs/pretrain_student/{pretraining}.log",
    benchmark:
        "logs/jobs/pretrain_student/{pretraining}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: pretraining_threads
    resources:
        gpu=pretraining_gpus,
        mem_mb=32000,
        runtime="48h",
    params:
        pretraining_data,
        *of_student_to_pretrain(),
    shell:
        "python -m elite_pipeline.stages.pretrain_student --frames {input.frames:q}"
        " --projection {input.projection:q} --targets {input.targets:q} --superpixels {input.superpixels:q}"
        " --run cache/pretrained/run/{wildcards.pretraining} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule train_student:
    """Train a student on labels (own and carried) and cached teacher targets; resumable."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{dataset}/labelled/{sequence}.parquet", "train"),
        projection=of_teaching("cache/{root}/projection/{sequence}.zarr"),
        targets=of_teaching("cache/{dataset}/{teacher}/targets/{sequence}.zarr"),
        aggregated=of_aggregation(
            "cache/{dataset}/{teacher}/aggregated/{sequence}.zarr"
        ),
        carried=of_carrying("cache/{dataset}/carried_labels/{sequence}.zarr"),
        calibration=calibration,
        pretrained=pretrained,
        code=stage("train_student"),
    output:
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        curve="models/{experiment}/training.jsonl",
    log:
        "logs/train_student/{experiment}.log",
    benchmark:
        "logs/jobs/train_student/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: student_threads
    resources:
        gpu=student_gpus,
        mem_mb=32000,
        runtime="48h",
    params:
        data,
        *of_student(),
    shell:
        "python -m elite_pipeline.stages.train_student --frames {input.frames:q}"
        " --projection {input.projection:q} --targets {input.targets:q} --aggregated {input.aggregated:q} --carried {input.carried:q}"
        " --calibration {input.calibration:q}"
        " --pretrained {input.pretrained:q} --run models/{wildcards.experiment}/run"
        " --out models/{wildcards.experiment} {params:q} 2>&1 | tee {log:q}"
