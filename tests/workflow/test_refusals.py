"""Errors that can be found before any job runs are reported then, with the remedy."""

import shutil
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workflow(tmp_path):
    """The unchanged workflow in an empty working directory."""
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("workflow", "elite_pipeline", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_missing_data_folder_names_the_line_that_links_it(workflow, snakemake):
    output = snakemake(workflow, "results/semkitti_miou.json")
    assert "data/semkitti/sequences/08: the data folder is missing" in output
    assert "ln -sfn /path/to/that/folder data/semkitti" in output
    assert not (workflow / "cache").exists()


def test_missing_checkpoint_names_its_source_and_sha256(workflow, snakemake):
    for sequence in range(11):
        (workflow / f"data/semkitti/sequences/{sequence:02d}").mkdir(parents=True)
    output = snakemake(workflow, "results/semkitti_miou.json")
    assert "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_" in output
    assert "(sha256 " in output
    assert not (workflow / "cache").exists()


def test_comparison_of_labellers_names_the_section_that_it_lacks(workflow, snakemake):
    (workflow / "data/sample/sequences/00").mkdir(parents=True)
    config = yaml.safe_load((workflow / "config.yaml").read_text())
    config["datasets"]["sample"]["label_images"] = {"labeller": "nearest", "nearest": {"radius": 12.0}}
    (workflow / "config.yaml").write_text(yaml.safe_dump(config))
    output = snakemake(workflow, "results/sample_pseudo_labels.png")
    assert "datasets.sample.label_images lacks sam, paper, regions" in output
    assert "Add 'sam: {...}' there" in output
    assert not (workflow / "cache").exists()


def test_missing_poses_name_both_remedies(workflow, snakemake):
    """Before any job runs, and only where labels are carried by them."""
    drive = workflow / "data/sample/sequences/00"
    (drive / "velodyne").mkdir(parents=True)
    config = yaml.safe_load((workflow / "config.yaml").read_text())
    config["datasets"]["sample"] |= {"poses": "recorded", "train": ["00"], "val": ["08"]}
    (workflow / "config.yaml").write_text(yaml.safe_dump(config))
    target = "cache/sample/carried_labels/00.zarr"
    output = snakemake(workflow, target)
    assert "data/sample/sequences/00/poses.txt: the poses of sequence 00 are missing" in output
    assert "set datasets.sample.poses: estimated" in output
    assert not (workflow / "cache").exists()
    assert "are missing" not in snakemake(workflow, "--dry-run", "cache/sample/projection/00.zarr")
    (drive / "poses.txt").write_text("")
    assert "rule carry_labels" in snakemake(workflow, "--dry-run", target)


def test_unknown_key_and_wrong_type(workflow, snakemake):
    config = yaml.safe_load((workflow / "config.yaml").read_text())
    config["students"]["elite_demo"]["network"]["voxelsize"] = 0.1
    config["measure_latency"]["scans"] = "many"
    (workflow / "config.yaml").write_text(yaml.safe_dump(config))
    output = snakemake(workflow, "results/demo_miou.json")
    assert "students.elite_demo.network.voxelsize: unknown key" in output
    assert "measure_latency.scans" in output
    assert not (workflow / "data").exists()


def test_submission_without_test_sequences(workflow, snakemake):
    assert "datasets.demo.test is empty" in snakemake(workflow, "results/demo_submission.zip")
    assert not (workflow / "data").exists()


def test_scoring_test_sequences_that_do_not_exist_or_have_no_labels(workflow, snakemake):
    output = snakemake(workflow, "results/demo_miou_test.json")
    assert "datasets.demo.test is empty, so there is nothing to score. List sequences with labels there" in output
    for sequence in range(22):
        (workflow / f"data/semkitti/sequences/{sequence:02d}/velodyne").mkdir(parents=True)
    scan = workflow / "data/semkitti/sequences/12/velodyne/000000.bin"
    scan.write_bytes(bytes(16))
    output = snakemake(workflow, "results/semkitti_miou_test.json")
    assert "data/semkitti/sequences/12: this test sequence has no labels, so it cannot be scored." in output
    assert "_submission.zip has the predictions" in output
    assert not (workflow / "cache").exists()


def test_unknown_comparison(workflow, snakemake):
    output = snakemake(workflow, "results/nobody_comparison.json")
    assert "config.yaml has no comparison 'nobody'. Add it there, or choose one of ablation" in output


def test_unknown_experiment(workflow, snakemake):
    output = snakemake(workflow, "results/nobody_miou.json")
    assert "has no experiment 'nobody'. Add it there, or choose one of demo, demo_udakd, demo_fskd, sample" in output


def test_duplicate_key(workflow, snakemake):
    with (workflow / "config.yaml").open("a") as file:
        file.write("evaluate_miou: {votes: 3}\n")
    output = snakemake(workflow, "--dry-run", "results/demo_miou.json")
    assert "config.yaml: key 'evaluate_miou' is in line" in output
    assert "Traceback" not in output


def test_config_with_only_a_users_own_experiment(workflow, snakemake):
    """config.yaml keeps only what that experiment needs; the comparisons need nothing of the rest."""
    config = yaml.safe_load((workflow / "config.yaml").read_text())
    own = {
        "experiments": {"mine": {"dataset": "mine", "teacher": "mine", "student": "mine"}},
        "datasets": {"mine": config["datasets"]["demo"]},
        "teachers": {"mine": config["teachers"]["sam_tiny"]},
        "students": {"mine": config["students"]["elite_demo"]},
    }
    stages = {name: section for name, section in config.items() if name not in {*own, "image_sets", "pretrainings"}}
    (workflow / "config.yaml").write_text(yaml.safe_dump(stages | own))
    output = snakemake(workflow, "--dry-run", "results/mine_miou.json")
    assert "This was a dry-run" in output, output
    assert "data/mine/sequences/08" in output
    assert "rule compare_experiments" in snakemake(workflow, "--dry-run", "results/zero_shot_comparison.json")
