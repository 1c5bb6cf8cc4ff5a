"""train_student: killed without warning and started again, it ends with the same weights, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elite_pipeline import store
from elite_pipeline.config.validation import flatten
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.soft_labels import encode
from elite_pipeline.stages import train_student


def command(taught, out, settings):
    """Return the command line words of the rule."""
    files = [word for name, path in taught.items() for word in (f"--{name}", str(path))]
    return [*files, "--run", str(out / "run"), "--out", str(out), *flatten(settings.model_dump(mode="json"))]


def test_a_killed_and_restarted_run_ends_with_the_same_weights(taught, student_settings, tmp_path, warm_python):
    options = student_settings.train_student.model_copy(update={"epochs": 20, "checkpoint_every": 3})
    settings = student_settings.model_copy(update={"train_student": options})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = [sys.executable, "-m", "elite_pipeline.stages.train_student", *command(taught, killed, settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment)
    while process.poll() is None and not list(killed.glob("run/*/checkpoint.pt")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "student.safetensors").exists()
    (log,) = killed.glob("run/*/training.jsonl")
    assert 3 <= len(log.read_text().splitlines()) < 30
    subprocess.run([warm_python, *words[1:]], check=True, env=environment, capture_output=True)
    train_student.main(command(taught, whole, settings))
    assert (whole / "student.safetensors").read_bytes() == (killed / "student.safetensors").read_bytes()
    assert len((killed / "training.jsonl").read_text().splitlines()) == 30
    assert list(killed.glob("run/*")) == []


def test_writes_all_files_that_the_student_needs(taught, student_settings, tmp_path, classes):
    out = tmp_path / "models" / "demo"
    train_student.main(command(taught, out, student_settings))
    config = json.loads((out / "config.json").read_text())
    assert config["experiment"] == "demo"
    assert config["classes"] == classes.to_json()
    assert config["format_version"] == 2
    assert (config["scans"], config["labelled_scans"], config["taught"], config["trained_on"]) == (3, 2, True, ["00"])
    labels = [np.fromfile(taught["data"] / f"sequences/00/labels/00000{k}.label", np.uint32) & 0xFFFF for k in (0, 1)]
    assert config["labelled_classes"]["car"] == np.isin(labels, (10, 252)).sum()
    shown = {"car", "road", "sidewalk", "building", "vegetation"}
    assert set(config["labelled_classes"]) == shown
    assert config["training_scans"] == 3
    assert 0 < config["presentations"] <= config["steps"] * student_settings.train_student.batch
    assert config["settings"] == json.loads(json.dumps(student_settings.model_dump()))
    assert set(config["inputs"]) == {
        str(taught["frames"]),
        *(f"{taught[n]}/zarr.json" for n in ("projection", "targets")),
    }
    assert config["parameters"] == sum(p.numel() for n, p in load_file(out / "student.safetensors").items()
                                       if not any(word in n for word in ("running", "batches")))  # fmt: skip
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        "student.safetensors",
        "config.json",
        "training.jsonl",
    }


def test_needs_neither_images_nor_a_teacher(taught, student_settings, tmp_path):
    for path in (taught["data"] / "sequences/00/image_2").iterdir():
        path.unlink()
    train_student.main(command(taught, tmp_path / "taught", student_settings))
    labels_alone = {name: taught[name] for name in ("data", "frames")}
    train_student.main(command(labels_alone, tmp_path / "untaught", student_settings))
    config = json.loads((tmp_path / "untaught/config.json").read_text())
    assert (config["scans"], config["training_scans"], config["taught"]) == (2, 3, False)
    steps = [json.loads(line) for line in (tmp_path / "untaught/training.jsonl").read_text().splitlines()]
    assert all(step["distillation"] == 0 for step in steps)


def test_learns_features_if_the_settings_say_so(taught, student_settings, tmp_path):
    losses = student_settings.losses.model_copy(update={"distillation": 0.0, "features": 1.0, "balanced": True})
    settings = student_settings.model_copy(update={"losses": losses})
    train_student.main(command(taught, tmp_path / "out", settings))
    steps = [json.loads(line) for line in (tmp_path / "out/training.jsonl").read_text().splitlines()]
    assert all(0 < step["features"] < 2 for step in steps)
    assert all("distillation" not in step for step in steps)
    assert json.loads((tmp_path / "out/config.json").read_text())["taught"] is True
    # The student holds no weights that only training needs.
    assert not any("projections" in name or "heads" in name for name in load_file(tmp_path / "out/student.safetensors"))


RECIPE = {
    "losses": {"output": 0.3, "distillation": 0.0, "targets": "aggregated", "confident": 0.5, "carried": 0.5},
    "train_student": {"batch": 1, "unlabelled": 2},
}


def recipe(settings, **sections):
    """`settings` with aggregated and carried targets of two unlabelled scans beside a labelled one, and `sections`."""
    for name in RECIPE:
        changes = RECIPE[name] | sections.get(name, {})
        settings = settings.model_copy(update={name: getattr(settings, name).model_copy(update=changes)})
    return settings


def log_of(out):
    return [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]


def test_learns_from_aggregated_and_carried_targets(carried_taught, student_settings, tmp_path):
    out = tmp_path / "out"
    train_student.main(command(carried_taught, out, recipe(student_settings)))
    steps = log_of(out)
    assert len(steps) == 4, "two passes over two labelled scans, one in each step"
    assert all(step["output"] > 0 and step["carried"] > 0 and step["distillation"] == 0 for step in steps)
    config = json.loads((out / "config.json").read_text())
    assert (config["scans"], config["labelled_scans"], config["taught"]) == (3, 2, True)
    assert {f"{carried_taught[n]}/zarr.json" for n in ("aggregated", "carried")} < set(config["inputs"])


def test_an_interrupted_run_with_all_targets_ends_with_the_same_weights(
    carried_taught, student_settings, tmp_path, interrupted
):
    settings = recipe(student_settings, train_student={"epochs": 4, "checkpoint_every": 3})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    interrupted(5, train_student.main, command(carried_taught, killed, settings))
    assert not (killed / "student.safetensors").exists()
    train_student.main(command(carried_taught, killed, settings))
    train_student.main(command(carried_taught, whole, settings))
    assert (whole / "student.safetensors").read_bytes() == (killed / "student.safetensors").read_bytes()


def test_carried_labels_need_no_teacher(carried_taught, student_settings, tmp_path):
    files = {name: carried_taught[name] for name in ("data", "frames", "carried")}
    train_student.main(command(files, tmp_path / "out", recipe(student_settings)))
    assert all(step["carried"] > 0 and step["output"] == 0 for step in log_of(tmp_path / "out"))
    assert json.loads((tmp_path / "out/config.json").read_text())["taught"] is False


def test_a_silent_scan_changes_only_the_batch_normalisation(taught, student_settings, tmp_path):
    """The control: an unlabelled scan in the batch, and no teacher."""
    files = {name: taught[name] for name in ("data", "frames")}
    silent = recipe(student_settings, losses={"carried": 0.0}, train_student={"unlabelled": 1})
    train_student.main(command(files, tmp_path / "silent", silent))
    config = json.loads((tmp_path / "silent/config.json").read_text())
    assert (config["scans"], config["labelled_scans"], config["taught"]) == (3, 2, False)
    assert all(step["output"] == step["distillation"] == 0 for step in log_of(tmp_path / "silent"))
    more = recipe(student_settings, losses={"carried": 0.0}, train_student={"unlabelled": 3})
    train_student.main(command(files, tmp_path / "more", more))
    # The same labelled scan is in the first step. What differs is what it is normalised with.
    one, three = (load_file(tmp_path / name / "student.safetensors") for name in ("silent", "more"))
    assert len(log_of(tmp_path / "silent")) == len(log_of(tmp_path / "more"))
    assert any("running" in name and not np.array_equal(one[name], three[name]) for name in one)


@pytest.mark.parametrize(
    ("names", "losses", "fault"),
    [
        (("projection", "targets"), {"carried": 0.0}, "losses.targets is aggregated: give --aggregated"),
        (("projection", "targets", "aggregated"), {"targets": "frame", "carried": 0.0}, "losses.targets is frame"),
        (("aggregated",), {"carried": 0.0}, "give --aggregated with --targets"),
        (("projection", "targets", "aggregated"), {}, "losses.carried is 0.5: give --carried"),
        (("carried",), {"carried": 0.0}, r"losses.carried is 0.0: give --carried if it is above 0, and only then"),
    ],
)
def test_stores_that_do_not_fit_the_losses_are_refused(
    carried_taught, student_settings, tmp_path, names, losses, fault
):
    files = {name: carried_taught[name] for name in ("data", "frames", *names)}
    with pytest.raises(InputError, match=fault):
        train_student.main(command(files, tmp_path / "out", recipe(student_settings, losses=losses)))
    assert not (tmp_path / "out").exists()


def test_a_failed_run_leaves_no_weights(taught, student_settings, tmp_path):
    (taught["data"] / "sequences/00/velodyne/000001.bin").write_bytes(b"short")
    with pytest.raises(InputError, match=r"000001\.bin"):
        train_student.main(command(taught, tmp_path / "out", student_settings))
    assert not (tmp_path / "out/student.safetensors").exists()


def test_drives_of_another_class_table_than_the_targets_are_refused(taught, student_settings, tmp_path, classes):
    known, other = index.read(taught["frames"]), tmp_path / "other.parquet"
    raw = {**classes.training_ids, 252: classes.names.index("truck")}
    table = replace(classes, name="my.yaml", training_ids=raw)
    rows = index.pq.read_table(taught["frames"]).to_pylist()
    index.write(other, rows, replace(known.source, classes=table))
    with pytest.raises(InputError) as error:
        train_student.main(command(taught | {"frames": other}, tmp_path / "out", student_settings))
    said = str(error.value)
    assert f"{taught['targets']} has the class table semantickitti and {other} has the class table my.yaml" in said
    assert "raw id 252 is 'car' in the first and 'truck' in the second" in said
    # Without targets, several sequences of one student must agree.
    words = ["--data", str(taught["data"]), "--frames", str(taught["frames"]), str(other)]
    with pytest.raises(InputError, match=r"00\.frames has the class table semantickitti and .*other.* my\.yaml"):
        train_student.main([*words, *command({}, tmp_path / "out", student_settings)])
    assert not (tmp_path / "out").exists()


def test_lists_of_different_lengths_are_refused(taught, student_settings, tmp_path):
    words = command(taught, tmp_path / "out", student_settings)
    place = words.index("--frames") + 1
    words[place:place] = [words[place]]
    with pytest.raises(InputError, match="--projection names 1 files for 2 --frames: give one for each"):
        train_student.main(words)


def test_an_unknown_setting_is_refused_with_its_path(taught, student_settings, tmp_path):
    with pytest.raises(InputError, match=r"train_student\.momentum"):
        train_student.main([*command(taught, tmp_path / "out", student_settings), "train_student.momentum=0.9"])


@pytest.fixture
def random_taught(taught, rewrite_targets):
    """`taught` with random soft labels, so that a temperature matters."""
    rows = store.open_store(taught["targets"], "targets")["point_patch"].shape[0]
    logits = 3 * torch.randn(rows, 4, 20, generator=torch.Generator().manual_seed(0))
    rewrite_targets(taught["targets"], logits=None, soft_label=encode(logits).numpy())
    return taught


def test_soft_labels_are_divided_by_the_temperature(random_taught, student_settings, tmp_path):
    weights = {}
    for name, temperature in {"plain": None, "same": 1.0, "divided": 3.0}.items():
        words = command(random_taught, tmp_path / name, student_settings)
        if temperature is not None:
            calibration = tmp_path / f"{name}.json"
            kinds = {"targets": {"temperature": temperature}, "aggregated": None}
            calibration.write_text(json.dumps(kinds))
            words += ["--calibration", str(calibration), "losses.calibrated=true"]
        train_student.main(words)
        weights[name] = (tmp_path / name / "student.safetensors").read_bytes()
    assert weights["plain"] == weights["same"]
    assert weights["plain"] != weights["divided"]
    config = json.loads((tmp_path / "divided/config.json").read_text())
    assert str(tmp_path / "divided.json") in config["inputs"]


def test_temperatures_go_with_the_setting(random_taught, student_settings, tmp_path):
    calibration = tmp_path / "calibration.json"
    calibration.write_text('{"targets": {"temp')
    given, calibrated = ["--calibration", str(calibration)], ["losses.calibrated=true"]
    words = command(random_taught, tmp_path / "out", student_settings)
    for some in (given, calibrated):
        with pytest.raises(InputError, match=r"losses\.calibrated is (true|false): give --calibration"):
            train_student.main([*words, *some])
    with pytest.raises(InputError, match=r"calibration\.json is not a readable calibration"):
        train_student.main([*words, *given, *calibrated])
    alone = {name: path for name, path in random_taught.items() if name in ("data", "frames")}
    train_student.main([*command(alone, tmp_path / "alone", student_settings), *calibrated])
    assert json.loads((tmp_path / "alone/config.json").read_text())["taught"] is False
