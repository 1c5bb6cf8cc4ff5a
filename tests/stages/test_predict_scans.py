"""predict_scans: label files for the user's own scans, with only the folder of a student."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from elite_pipeline.errors import InputError
from elite_pipeline.stages import index_frames
from elite_pipeline.stages.predict_scans import main
from elite_pipeline.student.model import Predictor

ROOT = Path(__file__).parents[2]


def predict(model, out, *scans):
    main([*map(str, scans), "--model", str(model), "--out", str(out), "--device", "cpu"])


def expected(model, scan):
    """Return the raw ids that the student predicts for a scan, point by point."""
    points = np.fromfile(scan, np.float32).reshape(-1, 4)
    predict = Predictor.load(model, "cpu")
    return [predict.classes.raw_ids[k] for k in predict(points)]


def read(path):
    return np.fromfile(path, np.uint32).tolist()


def test_labels_are_the_students_in_the_order_of_the_points(drive, model, tmp_path):
    out = tmp_path / "labels"
    predict(model, out, drive / "velodyne/000000.bin", drive / "velodyne/000002.bin")
    assert sorted(os.listdir(out)) == ["000000.label", "000002.label"]
    assert read(out / "000000.label") == expected(model, drive / "velodyne/000000.bin")
    assert read(out / "000002.label") == expected(model, drive / "velodyne/000002.bin")
    labels = read(out / "000000.label")
    assert len(set(labels)) >= 3, "several classes are needed to test the order"
    assert 0 not in labels


def test_sequence_folder_gets_the_layout_of_the_official_evaluation(drive, model, tmp_path, capsys):
    predict(model, tmp_path / "predictions", drive)
    written = sorted(str(p.relative_to(tmp_path / "predictions")) for p in tmp_path.glob("predictions/**/*.*"))
    assert written == [f"sequences/00/predictions/{k:06d}.label" for k in range(3)]
    assert "3 label files, 1500 points" in capsys.readouterr().out


def test_needs_only_the_folder_of_the_student(drive, model, tmp_path, warm_python):
    (tmp_path / "elsewhere").mkdir()
    model.rename(tmp_path / "elsewhere/student")
    (drive / "velodyne").rename(tmp_path / "elsewhere/scans")
    command = [warm_python, "-m", "elite_pipeline.stages.predict_scans", "--model", "student"]
    done = subprocess.run(
        [*command, "scans/000001.bin", "--out", "labels", "scans/000000.bin"],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "predict_scans: 2/2 scans" in done.stderr
    assert sorted(os.listdir(tmp_path / "elsewhere/labels")) == ["000000.label", "000001.label"]


def test_library_call_of_the_docstring(drive, model, tmp_path, monkeypatch):
    from elite_pipeline.stages import predict_scans

    text = predict_scans.__doc__ or ""
    lines = [
        line.strip() for line in text[text.index("To do the same in Python") :].splitlines() if line.startswith("    ")
    ]
    assert len(lines) == 3
    (drive / "velodyne/000001.bin").rename(tmp_path / "scan.bin")
    (tmp_path / "models").mkdir()
    model.rename(tmp_path / "models/demo")
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), {"np": np, "Predictor": Predictor})
    assert read("scan.label") == expected("models/demo", "scan.bin")


def test_empty_scan_and_far_points(model, tmp_path):
    (tmp_path / "empty.bin").write_bytes(b"")
    far = np.array([[1e6, -1e6, 1e3, 0], [1, 2, 0, 0.5], [-3e4, 0, -900, 1]], np.float32)
    far.tofile(tmp_path / "far.bin")
    predict(model, tmp_path / "out", tmp_path / "empty.bin", tmp_path / "far.bin")
    assert (tmp_path / "out/empty.label").read_bytes() == b""
    assert read(tmp_path / "out/far.label") == expected(model, tmp_path / "far.bin")


def test_earlier_labels_are_replaced(drive, model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/000000.label").write_bytes(bytes(8))
    predict(model, tmp_path / "out", drive / "velodyne/000000.bin")
    assert read(tmp_path / "out/000000.label") == expected(model, drive / "velodyne/000000.bin")


def test_damaged_scans(drive, model, tmp_path):
    scan = drive / "velodyne/000001.bin"
    whole = np.fromfile(scan, np.float32)
    scan.write_bytes(whole.tobytes()[:-2])
    with pytest.raises(InputError, match=r"000001\.bin: the size of 7998 bytes is not a multiple of 16"):
        predict(model, tmp_path / "out", drive)
    points = whole.reshape(-1, 4).copy()
    points[7, 3], points[7, 0], points[400, 2] = np.nan, np.nan, np.inf
    points.tofile(scan)
    with pytest.raises(InputError, match=r"000001\.bin: 2 of 500 points are NaN or infinite"):
        predict(model, tmp_path / "out", drive)
    assert os.listdir(tmp_path / "out/sequences/00/predictions") == ["000000.label"]


def test_no_student_and_no_device(drive, model, tmp_path):
    with pytest.raises(InputError, match=r"gone/config\.json: cannot read a trained student there"):
        predict(tmp_path / "gone", tmp_path / "out", drive)
    with pytest.raises(InputError, match=r"--device coda: .* Use --device cpu"):
        main([str(drive), "--model", str(model), "--out", str(tmp_path / "out"), "--device", "coda"])
    assert not (tmp_path / "out").exists()


def test_wrong_input_is_one_message_without_a_traceback(drive, model, tmp_path, warm_python):
    command = [warm_python, "-m", "elite_pipeline.stages.predict_scans", "--model", str(model)]
    done = subprocess.run(
        [*command, str(drive / "labels"), "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {drive / 'labels'}: no .bin file in this folder or below. Give the folder that contains the scans."
    ]


def test_recorded_sequences_get_the_folder_of_their_official_tools(drive, model, tmp_path):
    layout = ['format="semantickitti"', 'classes="semantickitti"', 'cameras={"image_2": "P2"}']
    needs = [*layout, "missing_images=false", "labels=false", "images=false"]
    frames, data = tmp_path / "00.parquet", str(drive.parents[1])
    index_frames.main(["--data", data, "--sequence", drive.name, "--out", str(frames), *needs])
    given = ["--model", str(model), "--device", "cpu", "--out", str(tmp_path / "out")]
    main([*given, "--data", data, "--frames", str(frames)])
    for scan in sorted((drive / "velodyne").iterdir()):
        label = tmp_path / f"out/sequences/{drive.name}/predictions/{scan.stem}.label"
        assert read(label) == expected(model, scan)
    for words in ([], ["--frames", str(frames)], ["--data", data, "x.bin"], ["x.bin", "--frames", "y", "--data", "z"]):
        with pytest.raises(SystemExit):
            main([*given, *words])
