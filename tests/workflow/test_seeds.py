"""`<experiment>-seed7`: what the seed changes, and what runs with other seeds share. By dry runs."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workflow(workflow_with):
    """The workflow with data set `few`: half of the demo's drives are labelled, drawn with seed 4."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["datasets"]["few"] = {"of": "demo", "labelled": 0.5, "select_labels": {"by": "drive", "seed": 4}}
    config["datasets"]["few"]["test"] = ["09", "10"]
    config["datasets"]["all"] = {"of": "demo", "labelled": 1.0, "select_labels": {"by": "drive", "seed": 4}}
    config["datasets"]["all"]["test"] = ["09"]
    demo = config["experiments"]["demo"]
    config["experiments"] |= {
        "few": {**demo, "dataset": "few"},
        "few_labels": {**demo, "dataset": "few", "teacher": None},
        "few_network": {**config["experiments"]["demo_fskd"], "dataset": "few"},
        "few_begun": {**config["experiments"]["demo_udakd"], "dataset": "few"},
        "all": {**demo, "dataset": "all"},
    }
    arms = {"taught": "few", "labels": "few_labels", "all": "all"}
    drives = {"seeds": [1, 2], "experiments": arms, "differences": [["taught", "labels"]]}
    config["comparisons"] = {"drives": drives, "unseen": {**drives, "split": "test"}}
    return workflow_with(config)


def paths(jobs):
    return {path for job in jobs for path in job.inputs if not path.startswith("elite_pipeline/")}


def commands(output, stage):
    """The commands of a stage, in the output of `snakemake --printshellcmds`."""
    return re.findall(rf"^.*python -m elite_pipeline\.stages\.{stage} .*$", output, re.MULTILINE)


def of_dataset(found, name):
    return {path.removeprefix(f"cache/{name}/") for path in found if path.startswith(f"cache/{name}/")}


def test_a_seed_draws_its_own_drives_and_teachers_and_shares_the_rest(workflow, dag):
    found = paths(dag(workflow, "results/few-seed1_miou.json", "results/few-seed1_labels.png"))
    own = of_dataset(found, "few-seed1")
    stores = ("targets", "aggregated")
    sequences = [f"{k:02d}" for k in range(6)]
    assert own == {
        "selection.json",
        *(f"labelled/{s}.parquet" for s in sequences),
        *(f"pseudo_labels/{s}.zarr" for s in sequences),
        *(f"sam_tiny/{kind}/{s}.zarr" for s in sequences for kind in stores),
        "sam_tiny/adapter",
    }
    assert of_dataset(found, "few") == set()
    assert of_dataset(found, "demo") == {
        *(f"frames/{s}.parquet" for s in [*sequences, "08"]),
        *(f"projection/{s}.zarr" for s in sequences),
    }
    assert {path for path in found if path.startswith("data/")} == {
        f"data/demo/sequences/{s}" for s in [*sequences, "08"]
    }


def test_without_a_seed_paths_are_as_configured(workflow, dag):
    for name in ("few", "all"):
        found = paths(dag(workflow, f"results/{name}_miou.json"))
        assert not any("-seed" in path for path in found)
        assert "sam_tiny/adapter" in of_dataset(found, name)


@pytest.mark.parametrize("name", ["all", "demo"])
def test_a_data_set_that_draws_no_drives_is_the_same_for_all_seeds(workflow, dag, name):
    """With all labels there is nothing to draw, and only the student's seed differs."""
    jobs = dag(workflow, f"results/{name}-seed1_miou.json")
    found = paths(jobs)
    assert {path for path in found if "-seed" in path} == {
        f"models/{name}-seed1/{file}" for file in ("student.safetensors", "config.json")
    }
    assert "sam_tiny/adapter" in of_dataset(found, name)


def test_seeds_of_the_commands(workflow, snakemake):
    """Drives, teacher and student have the seed of the name, or else those of the configuration."""
    quality = {"few-seed1": ["results/few-seed1_sam_tiny_points.json"], "few": [], "demo-seed1": []}
    for name, drives, teacher, student in (("few-seed1", 1, 1, 1), ("few", 4, 0, 0), ("demo-seed1", 0, 0, 1)):
        output = snakemake(workflow, "--dry-run", "--printshellcmds", f"results/{name}_miou.json", *quality[name])
        assert "This was a dry-run" in output, output
        selecting = commands(output, "select_labels")
        assert len(selecting) == 1
        assert all(f"seed={drives} " in line for line in selecting)
        assert [f"tune_teacher.seed={teacher}" in line for line in commands(output, "tune_teacher")] == [True]
        assert [f"train_student.seed={student}" in line for line in commands(output, "train_student")] == [True]
        (scored,) = commands(output, "evaluate_miou")
        assert f"--experiment {name} --dataset {name.removesuffix('-seed1')} " in scored
        seed = {"few-seed1": 1, "few": 4, "demo-seed1": "null"}[name]
        assert f"labels_seed={seed}" in scored
        for line in commands(output, "evaluate_teacher"):
            assert "--dataset few --teacher sam_tiny " in line
            assert "labels_seed=1" in line


def test_a_teacher_of_images_is_tuned_once_for_all_seeds(workflow, snakemake):
    targets = [f"results/few_network-seed{k}_miou.json" for k in (1, 2)]
    output = snakemake(workflow, "--dry-run", "--printshellcmds", *targets)
    assert len(commands(output, "tune_image_teacher")) == 1
    assert "tune_teacher.seed=0" in commands(output, "tune_image_teacher")[0]
    assert len(commands(output, "cache_teacher")) == 12, "its targets are part of the data set"


def test_pretraining_keeps_its_own_data_set(workflow, dag):
    """The backbone is pre-trained on all of `demo`, which draws nothing; the labels are those of the seed."""
    found = paths(dag(workflow, "results/few_begun-seed1_miou.json"))
    assert "cache/pretrained/udakd_demo-seed1" in found
    assert "cache/demo/frozen_tiny/adapter" in found
    assert of_dataset(found, "few-seed1") == {"selection.json", *(f"labelled/{k:02d}.parquet" for k in range(6))}


def test_a_comparison_needs_the_teacher_of_each_seed(workflow, dag):
    jobs = [job for job in dag(workflow, "results/drives_comparison.json") if job.rule == "compare_experiments"]
    results = {path for job in jobs for path in job.inputs if path.startswith("results/")}
    assert results == {
        *(f"results/{name}-seed{k}_miou.json" for name in ("few", "few_labels", "all") for k in (1, 2)),
        *("results/few-seed1_sam_tiny_points.json", "results/few-seed2_sam_tiny_points.json"),
        "results/all_sam_tiny_points.json",
    }


def test_test_sequences_are_scored_by_the_same_student(workflow, dag, snakemake):
    scored = {job.rule: job for job in dag(workflow, "results/few-seed1_miou_test.json")}["evaluate_miou"].inputs
    frames = {path for path in scored if path.startswith("cache/")}
    assert frames == {"cache/demo/frames/09.parquet", "cache/demo/frames/10.parquet"}
    assert "models/few-seed1/student.safetensors" in scored
    (job,) = (job for job in dag(workflow, "results/unseen_comparison.json") if job.rule == "compare_experiments")
    results = {path for path in job.inputs if path.endswith("_miou_test.json")}
    assert results == {
        f"results/{name}-seed{k}_miou_test.json" for name in ("few", "few_labels", "all") for k in (1, 2)
    }
    output = snakemake(
        workflow, "--dry-run", "--printshellcmds", "results/few_miou_test_tta.json", "results/few_miou.json"
    )
    commanded = commands(output, "evaluate_miou")
    assert ['split="test"' in line for line in sorted(commanded, key=len)] == [False, True]
    assert all("project_points.cell=2.5" in line for line in commanded)
    assert sum("votes=12" in line for line in commanded) == 1


def test_a_seed_where_it_changes_nothing_is_refused(workflow, snakemake):
    """Of a data set that draws no drives, and of files that all seeds share."""
    for target in ("cache/demo-seed1/labelled/00.parquet", "results/all-seed1_sam_tiny_points.json"):
        name = "demo" if "demo" in target else "all"
        output = snakemake(workflow, "--dry-run", target)
        assert f"{name}-seed1: data set {name} draws no labelled drives, so it is the same for all seeds." in output
    assert "MissingRuleException" in snakemake(workflow, "--dry-run", "cache/few-seed1/frames/00.parquet")
