"""Recordings of users are never deleted, and stale files are never used. The cases come from attempts to do harm."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def files(folder):
    """Returns path below `folder` -> content, of every file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_config(folder, **changes):
    """Writes config.yaml to `folder`: the shipped one, with changes given as `section__name={key: value}`."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    for path, values in changes.items():
        section, name = path.split("__")
        config[section].setdefault(name, {}).update(values)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def run(tmp_path, snakemake):
    """(folder, function of *targets that runs the workflow there). The folder's name contains a space."""
    folder = tmp_path / "my drives"
    folder.mkdir()
    write_config(folder)
    return folder, lambda *targets: snakemake(
        folder, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), *targets
    )


@pytest.mark.parametrize("linked", ["data/demo", "data/demo/sequences", "data/demo/sequences/00"])
def test_recorded_drives_behind_a_link_are_not_replaced_by_simulated_ones(run, write_drive, tmp_path, linked):
    folder, snakemake = run
    recorded = tmp_path / "recorded"
    write_drive(recorded / "sequences" / "00")
    source = {"data/demo": recorded, "data/demo/sequences": recorded / "sequences"}
    (folder / linked).parent.mkdir(parents=True)
    (folder / linked).symlink_to(source.get(linked, recorded / "sequences/00"))
    before = files(recorded)
    output = snakemake("data/demo/sequences/00")
    assert f"{linked} is a link to" in output
    assert "remove simulate_drive: from their section of config.yaml" in output
    assert "Traceback" not in output
    assert files(recorded) == before


def test_recorded_nuscenes_in_the_place_of_a_simulated_one_is_kept(run):
    folder, snakemake = run
    sizes = {"frames": 1, "spacing": 4.0, "beams": 32, "columns": 48, "image_width": 32, "image_height": 18}
    drive = {"format": "nuscenes", "simulate_drive": {"seed": 0, "surround": True, **sizes}}
    splits = {"cameras": {"CAM_FRONT": "CAM_FRONT"}, "train": "mini_train", "val": "mini_val"}
    write_config(folder, datasets__mine={**drive, **splits, "label_images": {"labeller": "sparse"}})
    for place in ("v1.0-mini", "v1.0-trainval", "lidarseg/v1.0-mini"):
        (folder / "data/mine" / place).mkdir(parents=True)
        (folder / "data/mine" / place / "mine").write_text("mine")
        before = files(folder / "data")
        output = snakemake("data/mine/v1.0-mini")
        assert f"data/mine/{place} was not made by simulate_drive" in output
        assert "remove simulate_drive: from their section of config.yaml" in output
        assert files(folder / "data") == before
        shutil.rmtree(folder / "data/mine")


def test_recorded_folders_in_the_place_of_simulated_ones_are_kept(run, write_drive):
    folder, snakemake = run
    write_drive(folder / "data/demo/sequences/00")
    before = files(folder / "data")
    for target in ("data/demo/sequences/00", "results/semkitti_miou.json"):
        output = snakemake(target)
        assert "data/demo/sequences/00 was not made by simulate_drive" in output
    # A sequence that is not in the configuration can still be a target.
    (folder / "data/demo/sequences/00").rename(folder / "data/demo/sequences/77")
    output = snakemake("--force", "data/demo/sequences/77")
    assert "data/demo/sequences/77 was not made by simulate_drive" in output
    kept = files(folder / "data")
    assert {name.replace("/77/", "/00/"): content for name, content in kept.items()} == before
    shutil.rmtree(folder / "data/demo")
    (folder / "data/worlds/images").mkdir(parents=True)
    (folder / "data/worlds/images/mine.png").write_bytes(b"mine")
    assert "data/worlds was not made by simulate_images" in snakemake("data/worlds")
    assert (folder / "data/worlds/images/mine.png").read_bytes() == b"mine"


def test_simulated_drives_may_be_simulated_again(run):
    folder, snakemake = run
    small = {"seed": 0, "frames": 1, "spacing": 4.0, "beams": 8, "columns": 64, "image_width": 62, "image_height": 24}
    for seed in (0, 1):
        write_config(folder, datasets__demo={"simulate_drive": small | {"seed": seed}})
        assert "100%" in snakemake("data/demo/sequences/00")
        assert f'"seed": {seed}' in (folder / "data/demo/sequences/00/simulated.json").read_text()


@pytest.fixture
def recorded(run, write_drive, tmp_path):
    """`run` with two recordings outside the folder. `data/sample` links to the first; its projection is made."""
    folder, snakemake = run
    write_config(
        folder,
        datasets__sample={"cameras": {"image_2": "P2"}, "missing_images": False, "train": ["00"], "val": ["08"]},
    )
    for name in ("first", "second"):
        write_drive(tmp_path / name / "sequences" / "00")
    (folder / "data").mkdir()
    (folder / "data/sample").symlink_to(tmp_path / "first")
    assert "100%" in snakemake(TARGET)
    assert "Nothing to be done" in snakemake("--dry-run", TARGET)
    return folder, snakemake


TARGET = "cache/sample/projection/00.zarr"


def rules(output):
    return re.findall(r"^(?:local)?rule (\w+):$", output, re.MULTILINE)


def test_a_corrected_calibration_reruns_the_projection_even_if_the_index_was_made_alone(recorded):
    folder, snakemake = recorded
    calibration = folder / "data/sample/sequences/00/calib.txt"
    calibration.write_text(calibration.read_text().replace("P2: 100 0 40", "P2: 90 0 40"))
    assert "100%" in snakemake("cache/sample/frames/00.parquet")
    assert rules(snakemake(TARGET)) == ["project_points"]


def test_a_calibration_restored_with_its_old_date_reruns_the_projection(recorded):
    folder, snakemake = recorded
    calibration = folder / "data/sample/sequences/00/calib.txt"
    calibration.write_text(calibration.read_text().replace("P2: 100 0 40", "P2: 90 0 40"))
    os.utime(calibration, (1e9, 1e9))
    assert rules(snakemake(TARGET)) == ["index_frames", "project_points"]


def test_a_link_that_now_leads_to_older_recordings_reruns_their_jobs(recorded, tmp_path):
    folder, snakemake = recorded
    second = tmp_path / "second/sequences/00"
    for scan in second.glob("velodyne/*.bin"):
        scan.write_bytes(scan.read_bytes()[:-16])
    for labels in second.glob("labels/*.label"):
        labels.write_bytes(labels.read_bytes()[:-4])
    for path in (*second.rglob("*"), second):
        os.utime(path, (1e9, 1e9))
    (folder / "data/sample").unlink()
    (folder / "data/sample").symlink_to(tmp_path / "second")
    os.utime(folder / "data/sample", (1e9, 1e9), follow_symlinks=False)
    assert rules(snakemake(TARGET)) == ["index_frames", "project_points"]
    assert "Nothing to be done" in snakemake("--dry-run", TARGET)


def test_a_recording_that_was_moved_reruns_nothing(recorded, tmp_path):
    folder, snakemake = recorded
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    (folder / "data/sample").unlink()
    (folder / "data/sample").symlink_to(tmp_path / "elsewhere")
    assert "Nothing to be done" in snakemake("--dry-run", TARGET)


@pytest.fixture
def checkout(tmp_path):
    """A function (name) that copies the workflow to a folder with this name, and configures a small simulated drive."""

    def copy(name):
        folder = tmp_path / name
        folder.mkdir()
        for part in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / part, folder)
        for part in ("workflow", "elite_pipeline", "envs", "config"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        small = {"frames": 1, "spacing": 4.0, "beams": 8, "columns": 64, "image_width": 62, "image_height": 24}
        write_config(folder, datasets__demo={"simulate_drive": {"seed": 0, **small}})
        return folder

    return copy


@pytest.mark.parametrize("name", ["a';touch PWN;'b", "$(touch PWN) and two words"])
def test_the_path_of_the_checkout_is_not_executed(checkout, snakemake, tmp_path, name):
    output = snakemake(checkout(name), "data/demo/sequences/00")
    assert "100%" in output, output
    assert (tmp_path / name / "data/demo/sequences/00/calib.txt").exists()
    assert not list(tmp_path.rglob("PWN"))


@pytest.mark.parametrize("name", ["{y}", "a:b"])
def test_a_checkout_path_with_special_characters_is_refused(checkout, snakemake, tmp_path, name):
    output = snakemake(checkout(name), "data/demo/sequences/00")
    assert "Move the checkout" in output
    assert "Traceback" not in output
    assert not (tmp_path / name / "data").exists()


@pytest.mark.parametrize("labels", ["carried", "sam_tiny"])
def test_exported_labels_that_somebody_edited_are_kept(run, labels):
    folder, snakemake = run
    place = folder / f"export/demo_10/{labels}/sequences/00"
    (place / "predictions").mkdir(parents=True)
    (place / "predictions/000000.label").write_bytes(b"mine")
    (place / "export.json").write_text('{"digest": "of the labels before they were edited"}')
    before = files(folder / "export")
    output = snakemake(f"export/demo_10/{labels}/sequences/00")
    assert f"export/demo_10/{labels}/sequences/00: label files have changed since they were exported" in output
    assert files(folder / "export") == before
    assert not (folder / "data").exists(), "no job ran"


def test_labels_of_a_sequence_without_carried_labels_are_refused(run):
    _, snakemake = run
    output = snakemake("export/demo_10/carried/sequences/08")
    assert "sequence 08 of demo_10 is no training sequence: labels are carried only in those" in output
