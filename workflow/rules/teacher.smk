"""The image teacher: dense pseudo-labels, tuning of SAM, cached targets, and targets aggregated over places.

cache/<dataset>/projection -> cache/<dataset>/pseudo_labels/<sequence>.zarr, cache/<dataset>/<teacher>/adapter,
cache/<dataset>/<teacher>/targets/<sequence>.zarr, .../aggregated/<sequence>.zarr
"""


rule label_images:
    """Make dense pseudo-labels of the images from the sparse projected labels."""
    input:
        sequence=ancient(sequence_place),
        frames="cache/{dataset}/labelled/{sequence}.parquet",
        projection=of_sequence("cache/{root}/projection/{sequence}.zarr"),
        checkpoint=checkpoint_of("labeller"),
        code=stage("label_images"),
    output:
        directory("cache/{dataset}/pseudo_labels/{sequence}.zarr"),
    log:
        "logs/label_images/{dataset}/{sequence}.log",
    benchmark:
        "logs/jobs/label_images/{dataset}/{sequence}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=sequence_minutes(24),
    params:
        data,
        labeller,
        labeller_section,
        labeller_sam,
    shell:
        "python -m elite_pipeline.stages.label_images --frames {input.frames:q}"
        " --projection {input.projection:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule tune_teacher:
    """Tune a teacher on the pseudo-labels: SAM's image encoder (LoRA, AdaLoRA) and 2D heads."""
    input:
        sequences=ancient(sequence_places("train")),
        frames=per_sequence("cache/{dataset}/labelled/{sequence}.parquet", "train"),
        projection=per_sequence("cache/{root}/projection/{sequence}.zarr", "train"),
        pseudo_labels=pseudo_labels,
        checkpoint=checkpoint_of("teacher"),
        code=stage("tune_teacher"),
    output:
        directory("cache/{dataset}/{teacher}/adapter"),
    log:
        "logs/tune_teacher/{dataset}/{teacher}.log",
    benchmark:
        "logs/jobs/tune_teacher/{dataset}/{teacher}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=32000,
        runtime="24h",
    params:
        data,
        *of_teacher_to_tune(),
    shell:
        "python -m elite_pipeline.stages.tune_teacher --frames {input.frames:q}"
        " --projection {input.projection:q} --pseudo-labels {input.pseudo_labels:q} --out {output:q} {params:q}"
        " 2>&1 | tee {log:q}"


rule tune_image_teacher:
    """Train an image segmentation network on labelled images without LiDAR (FSKD's teacher)."""
    input:
        images=image_set,
        classes=image_class_file,
        checkpoint=checkpoint_of("teacher"),
        code=stage("tune_image_teacher"),
    output:
        directory("cache/image_teachers/{teacher}"),
    log:
        "logs/tune_image_teacher/{teacher}.log",
    benchmark:
        "logs/jobs/tune_image_teacher/{teacher}.tsv"
    wildcard_constraints:
        teacher="|".join(n for n, t in config["teachers"].items() if t["images"])
        or "none",
    conda:
        "../../envs/pipeline.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=32000,
        runtime="24h",
    params:
        settings=together(
            *of_teacher("cache_teacher", "images"),
            held_out,
            image_classes,
            image_format,
        ),
        images=image_folder,
        listing=image_listing,
    shell:
        "python -m elite_pipeline.stages.tune_image_teacher {params.images:q} --out {output:q} {params.settings:q}"
        " 2>&1 | tee {log:q}"


rule cache_teacher:
    """Cache a teacher's soft labels (and patch features) of one sequence: the targets that students read."""
    input:
        sequence=ancient(sequence_place),
        frames="cache/{dataset}/labelled/{sequence}.parquet",
        projection=of_sequence("cache/{root}/projection/{sequence}.zarr"),
        adapter=adapter,
        checkpoint=checkpoint_of("teacher"),
        code=stage("cache_teacher"),
    output:
        directory("cache/{dataset}/{teacher}/targets/{sequence}.zarr"),
    log:
        "logs/cache_teacher/{dataset}/{teacher}/{sequence}.log",
    benchmark:
        "logs/jobs/cache_teacher/{dataset}/{teacher}/{sequence}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=sequence_minutes(12),
    params:
        data,
        *of_teacher("tune_teacher", "peft", "upscaler", "images"),
    shell:
        "python -m elite_pipeline.stages.cache_teacher --frames {input.frames:q}"
        " --projection {input.projection:q} --adapter {input.adapter:q} --out {output:q} {params:q}"
        " 2>&1 | tee {log:q}"


rule aggregate_targets:
    """Carry a teacher's soft labels by the poses to every point of a place that was seen, also behind the vehicle."""
    input:
        sequence=ancient(sequence_place),
        # Only the labels that students use: the log compares soft labels with them.
        frames="cache/{dataset}/labelled/{sequence}.parquet",
        poses=poses_file,
        projection=of_sequence("cache/{root}/projection/{sequence}.zarr"),
        targets="cache/{dataset}/{teacher}/targets/{sequence}.zarr",
        code=stage("aggregate_targets"),
    output:
        directory("cache/{dataset}/{teacher}/aggregated/{sequence}.zarr"),
    log:
        "logs/aggregate_targets/{dataset}/{teacher}/{sequence}.log",
    benchmark:
        "logs/jobs/aggregate_targets/{dataset}/{teacher}/{sequence}.tsv"
    wildcard_constraints:
        # Oracles too: their targets are aggregated in the same way.
        teacher="|".join([*config["teachers"], *config["oracles"]]),
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=sequence_minutes(12),
    params:
        data,
        *of_places("aggregate_targets"),
    shell:
        "python -m elite_pipeline.stages.aggregate_targets --frames {input.frames:q} --poses {input.poses:q}"
        " --projection {input.projection:q} --targets {input.targets:q} --out {output:q} {params:q}"
        " 2>&1 | tee {log:q}"


rule pretrain_sam:
    """Make the packaged sam_tiny weights again (`snakemake --cores 2 pretrain_sam`; no other target needs it)."""
    input:
        code=stage("pretrain_sam"),
    log:
        "logs/pretrain_sam.log",
    benchmark:
        "logs/jobs/pretrain_sam.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="4h",
    params:
        *section("pretrain_sam"),
    shell:
        "python -m elite_pipeline.stages.pretrain_sam --run cache/pretrain_sam {params:q} 2>&1 | tee {log:q}"
