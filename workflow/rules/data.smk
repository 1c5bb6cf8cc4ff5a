"""Simulate or check drives, estimate poses, select labels, and find the pixel of each point.

data/<dataset>/ -> cache/<dataset>/frames/<sequence>.parquet, .../poses/..., .../labelled/...,
.../projection/<sequence>.zarr, .../superpixels/...
"""


rule simulate_drive:
    """Simulate one drive in the format of its data set, with dense ground truth."""
    input:
        code=stage("simulate_drive"),
    output:
        directory("data/{dataset}/sequences/{sequence}"),
    log:
        "logs/simulate_drive/{dataset}/{sequence}.log",
    benchmark:
        "logs/jobs/simulate_drive/{dataset}/{sequence}.tsv"
    wildcard_constraints:
        dataset="|".join(
            n for n, d in config["datasets"].items() if d["simulate_drive"]
        ),
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        *slices("datasets", lambda w: w.dataset, lambda d: d["simulate_drive"]),
        simulated_format,
    shell:
        "python -m elite_pipeline.stages.simulate_drive --sequence {wildcards.sequence} --out {output:q} {params:q}"
        " 2>&1 | tee {log:q}"


rule simulate_tables:
    """Join the tables of simulated scenes into those of a data set, which nuScenes' devkit loads."""
    input:
        scenes=simulated_scenes,
        code=stage("simulate_tables"),
    output:
        tables=directory("data/{dataset}/v1.0-mini"),
        lidarseg=directory("data/{dataset}/lidarseg/v1.0-mini"),
        panoptic=directory("data/{dataset}/panoptic/v1.0-mini"),
    log:
        "logs/simulate_tables/{dataset}.log",
    benchmark:
        "logs/jobs/simulate_tables/{dataset}.tsv"
    wildcard_constraints:
        dataset="|".join(
            n
            for n, d in config["datasets"].items()
            if d["simulate_drive"] and FORMATS[d["format"]].tables
        )
        or "none",
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    shell:
        "python -m elite_pipeline.stages.simulate_tables --scenes {input.scenes:q} --out {output.tables:q} 2>&1 | tee {log:q}"


rule simulate_images:
    """Render labelled images of random places, without LiDAR, for a teacher that learns from labelled images."""
    input:
        classes=image_class_file,
        code=stage("simulate_images"),
    output:
        directory("data/{images}"),
    log:
        "logs/simulate_images/{images}.log",
    benchmark:
        "logs/jobs/simulate_images/{images}.tsv"
    wildcard_constraints:
        images="|".join(
            n for n, i in config["image_sets"].items() if i["simulate_images"]
        )
        or "none",
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime="4h",
    params:
        *slices("image_sets", lambda w: w.images, lambda i: i["simulate_images"]),
        image_classes,
        image_format,
        unknown_classes,
        held_out_worlds,
    shell:
        "python -m elite_pipeline.stages.simulate_images --out {output:q} --processes {threads} {params:q}"
        " 2>&1 | tee {log:q}"


rule read_tables:
    """Read the tables of a data set once (nuScenes: over a gigabyte) and write a file per sequence. No later job opens them."""
    input:
        table_files,
        classes=class_file,
        code=stage("read_tables"),
    output:
        directory("cache/{dataset}/tables"),
    log:
        "logs/read_tables/{dataset}.log",
    benchmark:
        "logs/jobs/read_tables/{dataset}.tsv"
    wildcard_constraints:
        dataset="|".join(
            n for n, d in config["datasets"].items() if FORMATS[d["format"]].tables
        )
        or "none",
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime="1h",
    params:
        data=data,
        settings=together(
            data_set("format"), data_set("classes"), data_set("cameras"), all_sequences
        ),
        listing=table_listing,
    shell:
        "python -m elite_pipeline.stages.read_tables {params.data:q} --out {output:q} {params.settings:q}"
        " 2>&1 | tee {log:q}"


rule index_frames:
    """Check every file of a sequence once and report all faults together."""
    input:
        recorded_files,
        tables=tables,
        classes=class_file,
        code=stage("index_frames"),
    output:
        "cache/{dataset}/frames/{sequence}.parquet",
    log:
        "logs/index_frames/{dataset}/{sequence}.log",
    benchmark:
        "logs/jobs/index_frames/{dataset}/{sequence}.tsv"
    wildcard_constraints:
        dataset=PLAIN,
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=sequence_minutes(2),
    params:
        data=data,
        settings=together(
            data_set("format"),
            data_set("classes"),
            cameras,
            data_set("missing_images"),
            data_set("poses"),
            needs_labels,
            needs_images,
        ),
        listing=recorded_listing,
    shell:
        "python -m elite_pipeline.stages.index_frames {params.data:q} --sequence {wildcards.sequence} --tables {input.tables:q}"
        " --out {output:q} {params.settings:q} 2>&1 | tee {log:q}"


rule estimate_poses:
    """Estimate the poses of a drive from its scans (`poses: estimated` of the data set)."""
    input:
        sequence=ancient(sequence_place),
        frames="cache/{dataset}/frames/{sequence}.parquet",
        code=stage("estimate_poses"),
    output:
        "cache/{dataset}/poses/{sequence}.parquet",
    log:
        "logs/estimate_poses/{dataset}/{sequence}.log",
    benchmark:
        "logs/jobs/estimate_poses/{dataset}/{sequence}.tsv"
    wildcard_constraints:
        dataset=PLAIN,
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=sequence_minutes(4),
    params:
        data,
        *section("estimate_poses"),
    shell:
        "python -m elite_pipeline.stages.estimate_poses --frames {input.frames:q} --out {output:q} {params:q}"
        " 2>&1 | tee {log:q}"


rule select_labels:
    """Choose the training scans that keep their labels (`labelled:` of the data set)."""
    input:
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "train"),
        code=stage("select_labels"),
    output:
        "cache/{dataset}/selection.json",
    log:
        "logs/select_labels/{dataset}.log",
    benchmark:
        "logs/jobs/select_labels/{dataset}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        labelled,
        selecting("by"),
        selecting("seed"),
    shell:
        "python -m elite_pipeline.stages.select_labels --frames {input.frames:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule keep_labels:
    """Write the index of a training sequence in which only the chosen scans have labels."""
    input:
        frames=of_sequence("cache/{root}/frames/{sequence}.parquet"),
        selection="cache/{dataset}/selection.json",
        code=stage("keep_labels"),
    output:
        "cache/{dataset}/labelled/{sequence}.parquet",
    log:
        "logs/keep_labels/{dataset}/{sequence}.log",
    benchmark:
        "logs/jobs/keep_labels/{dataset}/{sequence}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    shell:
        "python -m elite_pipeline.stages.keep_labels --frames {input.frames:q} --selection {input.selection:q}"
        " --out {output:q} 2>&1 | tee {log:q}"


rule carry_labels:
    """Carry labels of labelled scans to the other scans of the same place, by the poses, without any teacher."""
    input:
        sequence=ancient(sequence_place),
        frames="cache/{dataset}/labelled/{sequence}.parquet",
        poses=poses_file,
        code=stage("carry_labels"),
    output:
        directory("cache/{dataset}/carried_labels/{sequence}.zarr"),
    log:
        "logs/carry_labels/{dataset}/{sequence}.log",
    benchmark:
        "logs/jobs/carry_labels/{dataset}/{sequence}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=sequence_minutes(2),
    params:
        data,
        *of_places("carry_labels"),
    shell:
        "python -m elite_pipeline.stages.carry_labels --frames {input.frames:q} --poses {input.poses:q}"
        " --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule project_points:
    """Project LiDAR points into the images: pixel, depth and visibility of each point."""
    input:
        sequence=ancient(sequence_place),
        frames="cache/{dataset}/frames/{sequence}.parquet",
        code=stage("project_points"),
    output:
        directory("cache/{dataset}/projection/{sequence}.zarr"),
    log:
        "logs/project_points/{dataset}/{sequence}.log",
    benchmark:
        "logs/jobs/project_points/{dataset}/{sequence}.tsv"
    wildcard_constraints:
        dataset=PLAIN,
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=sequence_minutes(2),
    params:
        data,
        *(f"project_points.{item}" for item in section("project_points")),
    shell:
        "python -m elite_pipeline.stages.project_points --frames {input.frames:q}"
        " --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule segment_images:
    """Compute superpixels (SLIC) and store the superpixel number of each projected point."""
    input:
        sequence=ancient(sequence_place),
        frames="cache/{dataset}/frames/{sequence}.parquet",
        projection="cache/{dataset}/projection/{sequence}.zarr",
        code=stage("segment_images"),
    output:
        directory("cache/{dataset}/superpixels/{sequence}.zarr"),
    log:
        "logs/segment_images/{dataset}/{sequence}.log",
    benchmark:
        "logs/jobs/segment_images/{dataset}/{sequence}.tsv"
    wildcard_constraints:
        dataset=PLAIN,
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=sequence_minutes(24),
    params:
        data,
        *section("segment_images"),
    shell:
        "python -m elite_pipeline.stages.segment_images --frames {input.frames:q}"
        " --projection {input.projection:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"
