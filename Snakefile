"""Recorded drives -> SAM teacher -> cached targets -> sparse LiDAR student -> mIoU and latency.

Every rule NAME runs only `python -m elite_pipeline.stages.NAME`. `snakemake --list` prints one line about each rule.
"""

from snakemake.utils import min_version

min_version("9.21")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/params.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/teacher.smk"
include: "workflow/rules/student.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/deploy.smk"
include: "workflow/rules/diagnosis.smk"
include: "workflow/rules/compare.smk"


rule all:
    """Run the demo (default target): mIoU, latency and every figure."""
    default_target: True
    input:
        "results/demo_summary.md",
        "results/demo_pseudo_labels.png",
    localrule: True
