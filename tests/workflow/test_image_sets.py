"""The jobs of labelled images that are recorded: what they depend on, and what is refused before any job."""

import shutil
from pathlib import Path

import pytest
import yaml
from small_nuimages import write_nuimages, write_nuscenes_table

ROOT = Path(__file__).parents[2]
TARGET = "cache/image_teachers/network_demo"


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """The workflow with a teacher of nuImages, which is not there yet."""
    folder = tmp_path_factory.mktemp("workflow")
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "elite_pipeline"):
        (folder / name).symlink_to(ROOT / name)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["experiments"] = {"demo": config["experiments"]["demo"]}
    config["image_sets"]["nuimages"] = {"format": "nuimages", "classes": "nuscenes.yaml"}
    config["teachers"]["network_demo"]["images"] = "nuimages"
    write_nuscenes_table(folder / "nuscenes.yaml")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_missing_nuimages_names_the_line_that_links_it(workflow, snakemake):
    output = snakemake(workflow, TARGET)
    assert "data/nuimages: has no v1.0-train or v1.0-val or v1.0-mini" in output
    assert "ln -sfn /path/to/nuimages data/nuimages" in output
    assert not (workflow / "cache").exists()


def test_nuimages_is_tracked_by_its_folders_of_tables(workflow, dag, snakemake, tmp_path):
    write_nuimages(tmp_path / "root")
    (workflow / "data").mkdir()
    (workflow / "data/nuimages").symlink_to(tmp_path / "root")
    (job,) = (job for job in dag(workflow, TARGET) if job.rule == "tune_image_teacher")
    data = [file for file in job.inputs if not file.startswith("elite_pipeline/")]
    assert data == ["data/nuimages/v1.0-train", "data/nuimages/v1.0-val", "nuscenes.yaml"]
    assert "elite_pipeline/datasets/nuimages_tables.py" in job.inputs
    output = snakemake(workflow, "-n", "-p", TARGET)
    assert "tune_image_teacher --images=data/nuimages --out" in output
    assert 'format="nuimages"' in output
