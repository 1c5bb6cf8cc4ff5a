"""write_submission: every scan of the test sequences, in a zip that the official validator accepts."""

import os
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from elite_pipeline.deploy import submission
from elite_pipeline.deploy.formats import PredictedScan
from elite_pipeline.deploy.semantickitti_files import FILES
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.stages import index_frames, write_submission
from elite_pipeline.student.model import Predictor

SIZES = {"11": (500, 17), "12": (3,)} | {str(number): (number,) for number in range(13, 22)}
"""Points of each scan of the sequences that the benchmark requires."""


@pytest.fixture
def benchmark_sequences(drive, tmp_path):
    """Return (folder, index) of each test sequence of SemanticKITTI: no labels, no images, scans of different sizes."""
    sequences = []
    for name, sizes in SIZES.items():
        folder = tmp_path / "data/sequences" / name
        (folder / "velodyne").mkdir(parents=True)
        for k, size in enumerate(sizes):
            scan = np.fromfile(drive / f"velodyne/{k:06d}.bin", np.float32)[: 4 * size]
            scan.tofile(folder / f"velodyne/{k:06d}.bin")
        frames = tmp_path / f"{name}.parquet"
        layout = ['format="semantickitti"', 'classes="semantickitti"', 'cameras={"image_2": "P2"}']
        needs = [*layout, "missing_images=false", "labels=false", "images=false"]
        given = ["--data", str(tmp_path / "data"), "--sequence", name]
        index_frames.main([*given, "--out", str(frames), *needs])
        sequences.append((folder, frames))
    return sequences


@pytest.fixture
def unlabelled(benchmark_sequences):
    """Return two of the test sequences."""
    return benchmark_sequences[:2]


def official_faults(path, dataset):
    """Return the faults that semantic-kitti-api's validate_submission.py finds, in its order; from its description."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry.file_size for entry in archive.infolist()}
    wanted = [f"sequences/{number}/" for number in range(11, 22)]
    directories = ["sequences/", *wanted, *(f"{name}predictions/" for name in wanted)]
    faults = [name for name in directories if name not in entries]
    for name in wanted:
        for scan in sorted((dataset / name / "velodyne").iterdir()):
            label = f"{name}predictions/{scan.stem}.label"
            if entries.get(label, 0) / 4 != scan.stat().st_size / 16:
                faults.append(label)
    return faults


def test_the_official_validator_finds_no_fault(benchmark_sequences, model, tmp_path, capsys):
    write(benchmark_sequences, model, tmp_path / "demo_submission.zip")
    assert official_faults(tmp_path / "demo_submission.zip", tmp_path / "data") == []
    assert "warning" not in capsys.readouterr().out
    write(benchmark_sequences[:-1], model, tmp_path / "short_submission.zip")
    faults = official_faults(tmp_path / "short_submission.zip", tmp_path / "data")
    assert faults == ["sequences/21/", "sequences/21/predictions/", "sequences/21/predictions/000000.label"]
    assert "19, 20, so the benchmark would reject it" in capsys.readouterr().out


def write(sequences, model, out):
    data = str(sequences[0][0].parents[1]) if sequences else "data"
    frames = [str(frames) for _, frames in sequences]
    write_submission.main(["--model", str(model), "--data", data, "--frames", *frames, "--out", str(out)])


def test_every_scan_with_the_students_labels_in_order(unlabelled, model, tmp_path, capsys):
    out = tmp_path / "results" / "demo_submission.zip"
    write(unlabelled, model, out)
    predict = Predictor.load(model)
    scans = [PredictedScan("11", "000000", 500), PredictedScan("11", "000001", 17), PredictedScan("12", "000000", 3)]
    submission.validate(out, FILES.layout(scans, predict.classes, {}))
    with zipfile.ZipFile(out) as archive:
        for folder, _ in unlabelled:
            for scan in sorted((folder / "velodyne").iterdir()):
                raw = archive.read(f"sequences/{folder.name}/predictions/{scan.stem}.label")
                wanted = [predict.classes.raw_ids[k] for k in predict(np.fromfile(scan, np.float32).reshape(-1, 4))]
                assert np.frombuffer(raw, np.uint32).tolist() == wanted
                assert len(set(wanted)) >= (2 if len(wanted) > 3 else 1), "several classes are needed to test the order"
    assert "3 scans of 2 sequences" in capsys.readouterr().out
    assert os.listdir(out.parent) == [out.name]


def test_scan_that_changed_after_it_was_indexed(unlabelled, model, tmp_path):
    scan = unlabelled[0][0] / "velodyne/000001.bin"
    scan.write_bytes(scan.read_bytes()[:-16])
    with pytest.raises(InputError, match=r"11/velodyne/000001\.bin: 16 points, but 17 in its index"):
        write(unlabelled, model, tmp_path / "results/demo_submission.zip")
    assert os.listdir(tmp_path / "results") == []


def test_scan_that_vanished(unlabelled, model, tmp_path):
    shutil.rmtree(unlabelled[1][0] / "velodyne")
    with pytest.raises(InputError, match=r"12/velodyne/000000\.bin: unreadable"):
        write(unlabelled, model, tmp_path / "demo_submission.zip")


def test_no_test_sequence(model, tmp_path):
    with pytest.raises(InputError, match="list unlabelled sequences under test: of the data set"):
        write([], model, tmp_path / "demo_submission.zip")


def test_drives_of_another_class_table_are_refused(unlabelled, model, tmp_path, classes):
    """Raw ids come from the student's class table. They must have the same meaning in the data set's table."""
    path = unlabelled[1][1]
    source, rows = index.read(path).source, index.pq.read_table(path).to_pylist()
    other = replace(classes, name="my.yaml", raw_ids=(*classes.raw_ids[:-1], 99))
    index.write(path, rows, replace(source, classes=replace(other, training_ids={**classes.training_ids, 99: 19})))
    with pytest.raises(InputError, match=r"class table semantickitti and .* class table my\.yaml.*raw id 99 is 'unlab"):
        write(unlabelled, model, tmp_path / "results/demo_submission.zip")
    for _, frames in unlabelled:
        source, rows = index.read(frames).source, index.pq.read_table(frames).to_pylist()
        index.write(frames, rows, replace(source, classes=replace(classes, name="my.yaml", raw_ids=other.raw_ids)))
    with pytest.raises(InputError) as error:
        write(unlabelled, model, tmp_path / "results/demo_submission.zip")
    said = str(error.value)
    assert f"{model} has the class table semantickitti and {unlabelled[0][1]} has the class table my.yaml" in said
    assert "'traffic-sign' is written as 81 by the first and as 99 by the second" in said
    assert not (tmp_path / "results").exists()
