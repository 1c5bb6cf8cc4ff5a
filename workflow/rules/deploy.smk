"""Files for use outside the pipeline: model card, predicted label files, submission to a benchmark, labels.

models/<experiment> -> models/<experiment>/README.md, results/<experiment>_predictions/, ..._submission.zip
cache/<dataset>/carried_labels, cache/<dataset>/<teacher>/aggregated -> export/<dataset>/<labels>/sequences/<sequence>/
"""


rule predict_scans:
    """Write label files of the validation scans, as the official evaluation reads them (own scans: call the stage)."""
    input:
        sequences=ancient(sequence_places("val")),
        frames=per_sequence("cache/{root}/frames/{sequence}.parquet", "val"),
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        code=stage("predict_scans"),
    output:
        directory("results/{experiment}_predictions"),
    log:
        "logs/predict_scans/{experiment}.log",
    benchmark:
        "logs/jobs/predict_scans/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="2h",
    params:
        data,
    shell:
        "python -m elite_pipeline.stages.predict_scans --model models/{wildcards.experiment}"
        " --frames {input.frames:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule write_submission:
    """Write predictions of the test sequences as the zip file that the benchmark of their format accepts."""
    input:
        sequences=ancient(refused_if_none(sequence_places("test"))),
        frames=refused_if_none(
            per_sequence("cache/{root}/frames/{sequence}.parquet", "test")
        ),
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        code=stage("write_submission"),
    output:
        "results/{experiment}_submission.zip",
    log:
        "logs/write_submission/{experiment}.log",
    benchmark:
        "logs/jobs/write_submission/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="12h",
    params:
        data,
    shell:
        "python -m elite_pipeline.stages.write_submission --model models/{wildcards.experiment}"
        " --frames {input.frames:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule write_card:
    """Write a student's model card: training data and teacher, measured numbers, how to use it."""
    input:
        weights="models/{experiment}/student.safetensors",
        config="models/{experiment}/config.json",
        miou="results/{experiment}_miou.json",
        latency="results/{experiment}_latency.json",
        points=teacher_quality,
        code=stage("write_card"),
    output:
        "models/{experiment}/README.md",
    log:
        "logs/write_card/{experiment}.log",
    benchmark:
        "logs/jobs/write_card/{experiment}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="10m",
    params:
        teacher_name,
        is_simulated,
    shell:
        "python -m elite_pipeline.stages.write_card --model models/{wildcards.experiment} --miou {input.miou:q}"
        " --latency {input.latency:q} --points {input.points:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"


rule export_labels:
    """Write the known labels of a sequence as .label files with confidence, for people who annotate."""
    input:
        sequence=ancient(sequence_place),
        frames=not_edited("cache/{dataset}/labelled/{sequence}.parquet"),
        carried="cache/{dataset}/carried_labels/{sequence}.zarr",
        aggregated=aggregated_to_export,
        code=stage("export_labels"),
    output:
        # `labels` is a teacher, or `carried`: the labels alone.
        directory("export/{dataset}/{labels}/sequences/{sequence}"),
    log:
        "logs/export_labels/{dataset}/{labels}/{sequence}.log",
    benchmark:
        "logs/jobs/export_labels/{dataset}/{labels}/{sequence}.tsv"
    wildcard_constraints:
        labels="|".join(["carried", *config["teachers"]]),
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="2h",
    params:
        data,
    shell:
        "python -m elite_pipeline.stages.export_labels --labels {wildcards.labels} --frames {input.frames:q}"
        " --carried {input.carried:q} --aggregated {input.aggregated:q} --out {output:q} {params:q} 2>&1 | tee {log:q}"
