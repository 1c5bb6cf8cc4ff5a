"""Every script in benchmarks/ comes to its end with the smallest sizes: its imports and its config keys still exist."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from elite_pipeline import config
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.config.validation import flatten
from elite_pipeline.recordings import index
from elite_pipeline.stages import corrupt_truth, index_frames, project_points
from elite_pipeline.teacher import storage

ROOT = Path(__file__).parents[1]
LAYOUT = ['format="semantickitti"', 'classes="semantickitti"', 'cameras={"image_2": "P2"}', "missing_images=false"]
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
AS_A_SCRIPT = """
import runpy, sys
sys.argv, sys.path[:0] = sys.argv[1:], ["benchmarks"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def benchmark(warm_python):
    """A function (script, *words) that runs a benchmark of this checkout and returns what it printed."""

    def run(script, *words):
        command = [warm_python, "-c", AS_A_SCRIPT, ROOT / f"benchmarks/{script}.py", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def scan(tmp_path):
    """A .bin file with 400 points."""
    rng = np.random.default_rng(0)
    points = rng.uniform((-20, -20, -2, 0), (20, 20, 2, 1), size=(400, 4)).astype(np.float32)
    points.tofile(tmp_path / "scan.bin")
    return tmp_path / "scan.bin"


@pytest.fixture
def checkout(drive, tmp_path):
    """A folder with the configuration, in which the demo's training drive is `drive`."""
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    values["datasets"]["demo"].update(train=["00"])
    values["students"]["elite_demo"]["losses"].update(targets="frame")
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "config", folder / "config")
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    (folder / "data").mkdir()
    (folder / "data/demo").symlink_to(drive.parents[1])
    return folder


def test_aggregation(benchmark, tmp_path):
    benchmark("aggregation", "--frames", 4, "--columns", 64, "--out", tmp_path / "aggregation.json")
    result = json.loads((tmp_path / "aggregation.json").read_text())
    assert result["reached"] >= result["visible"] > 0


def test_aggregation_settings(benchmark, checkout, tmp_path):
    """Of three scans one is labelled; the others judge."""
    cache, data = checkout / "cache/demo", ["--data", str(checkout / "data/demo")]
    whole, projection = cache / "frames/00.parquet", cache / "projection/00.zarr"
    settings = config.read(checkout / "config.yaml", checkout / COMPARISONS)
    (checkout / "data/demo/sequences/00/poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 3)
    for folder in ("frames", "labelled", "projection", "sam_tiny/targets"):
        (cache / folder).mkdir(parents=True)
    index_frames.main([*data, "--sequence", "00", "--out", str(whole), *LAYOUT, "labels=true", "images=true"])
    index.with_labels_of(whole, ["000001"], cache / "labelled/00.parquet")
    words = [*data, "--frames", str(whole)]
    rule = flatten({"project_points": settings.project_points.model_dump(mode="json")})
    project_points.main([*words, "--out", str(projection), *rule])
    words += ["--projection", str(projection), "--out", str(cache / "sam_tiny/targets/00.zarr")]
    corrupt_truth.main([*words, "accuracy=0.8", "seed=0"])
    variants = ["--variants", "as configured", "mean: probabilities", "--out", tmp_path / "settings.json"]
    printed = benchmark("aggregation_settings", "--folder", checkout, *variants)
    assert printed.count("\n| ") == 2
    result = json.loads((tmp_path / "settings.json").read_text())
    assert result["scans"] == 2
    assert result["rows"]["as configured"]["own"]["coverage"] == 1.0


def test_convolution(benchmark, scan, tmp_path):
    """It checks that the results have the bits of spconv's."""
    assert "400 points, 64 channels" in benchmark("convolution", scan, "--out", tmp_path / "convolution.json")
    rows = json.loads((tmp_path / "convolution.json").read_text())["rows"]
    assert [row["stride"] for row in rows] == [1, 2, 4, 8]


def test_encoder(benchmark, tmp_path):
    benchmark("encoder", "--quick", "--device", "cpu", "--out", tmp_path / "encoder.json")
    result = json.loads((tmp_path / "encoder.json").read_text())
    assert result["same_square"] < 1e-4
    assert result["seconds"]["rectangle, float32"]["best"] > 0


def test_intervals(benchmark):
    assert "| LoRA, regions - labels alone |" in benchmark("intervals")


def test_latency(benchmark, scan, tmp_path):
    """All students that the script measures unless others are named."""
    benchmark("latency", "--scans", 1, "--warmup", 0, "--out", tmp_path / "latency.json", scan)
    result = json.loads((tmp_path / "latency.json").read_text())
    assert result["points"] == [400]
    assert len(result["students"]) == 3


def test_poses(monkeypatch, tmp_path, capsys):
    """In this process, because only here the rigs can be smaller."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import poses as benchmark

    monkeypatch.setattr(benchmark, "RIGS", {"16 beams": (16, 256, 2.0, 3)})
    monkeypatch.setattr(benchmark, "DRIVES", ("00",))
    monkeypatch.setattr(benchmark, "RESULT", tmp_path / "poses.json")
    monkeypatch.setattr("sys.argv", ["poses.py"])
    benchmark.main()
    assert "| 16 beams, 00 | " in capsys.readouterr().out
    written = json.loads((tmp_path / "poses.json").read_text())
    assert written["drift"]["16 beams, 00"][0] < 0.05
    assert written["errors"]["right"]["max"] < 0.1 < written["errors"]["noise of 0.5 m"]["median"]


def test_projection(benchmark):
    assert "project 120000 points" in benchmark("projection")


def test_rates(benchmark):
    """The jobs of the smaller demo, none of which runs."""
    listed = [line.split() for line in benchmark("rates", "--dry-run").splitlines()]
    assert ["simulate_drive", "4", "frame"] in listed
    assert ["tune_teacher", "80", "image"] in listed


def test_real_masks(benchmark, drive, tmp_path):
    masks = tmp_path / "sam_masks/00_000000_image_2"
    masks.mkdir(parents=True)
    for k in range(2):
        mask = np.zeros((40, 80), np.uint8)
        mask[:, 40 * k : 40 * k + 40] = 255
        Image.fromarray(mask).save(masks / f"{k}.png")
    printed = benchmark("real_masks", "--sample", tmp_path, "--out", tmp_path / "masks.json")
    assert "| 5% | through masks |" in printed
    assert json.loads((tmp_path / "masks.json").read_text())["masks"] == 2


def test_sam_tiny(benchmark, tmp_path):
    benchmark("sam_tiny", "--quick", "--drives", tmp_path / "drives", "--out", tmp_path / "sam_tiny.json")
    result = json.loads((tmp_path / "sam_tiny.json").read_text())
    assert 0 < result["sam_tiny"]["clicks_on_regions"]["best_of_3"] <= 1
    assert set(result["sam_tiny"]["iou_points"]) == set(result["random"]["iou_points"])


@pytest.mark.parametrize("script", ["encoder", "sam_tiny"])
def test_numbers_of_a_quick_run_do_not_replace_results(script, warm_python):
    command = [warm_python, "-c", AS_A_SCRIPT, ROOT / f"benchmarks/{script}.py", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--quick needs --out" in done.stderr


def test_simulation(benchmark):
    printed = benchmark("simulation", "--quick")
    assert "scan 8 x 64" in printed
    assert "ms per view" in printed


def test_starts(benchmark, tmp_path):
    """A stage with few imports."""
    assert "compare_experiments" in benchmark("starts", "compare_experiments", "--out", tmp_path / "starts.json")
    assert json.loads((tmp_path / "starts.json").read_text())["stages"]["compare_experiments"]["seconds"] > 0


def test_student(benchmark, scan):
    assert "400 points, 5 scales" in benchmark("student", scan)


def test_training(benchmark, checkout, taught, tmp_path):
    """The demo's experiment on the files of the DAG."""
    for name, place in {
        "frames": "demo/labelled/00.parquet",
        "projection": "demo/projection/00.zarr",
        "targets": "demo/sam_tiny/targets/00.zarr",
    }.items():
        (checkout / "cache" / place).parent.mkdir(parents=True)
        (checkout / "cache" / place).symlink_to(taught[name])
    benchmark("training", "demo", "--steps", 11, "--folder", checkout, "--out", tmp_path / "training.json")
    (row,) = json.loads((tmp_path / "training.json").read_text())["runs"]
    assert row["seconds"] > 0


def test_training_without_data_says_what_is_missing(benchmark, tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(ROOT / "config.yaml", tmp_path)
    assert "is missing, no training step was timed" in benchmark("training", "--folder", tmp_path)


def test_views(benchmark, checkout, classes, tmp_path):
    """A teacher with random heads; one of three scans is labelled."""
    settings = config.read(checkout / "config.yaml", checkout / COMPARISONS)
    cache = checkout / "cache"
    (cache / "demo_10/labelled").mkdir(parents=True)
    (cache / "demo/projection").mkdir(parents=True)
    data = ["--data", str(checkout / "data/demo")]
    whole, frames = cache / "00.parquet", cache / "demo_10/labelled/00.parquet"
    index_frames.main([*data, "--sequence", "00", "--out", str(whole), *LAYOUT, "labels=true", "images=true"])
    index.with_labels_of(whole, ["000001"], frames)
    words = [*data, "--frames", str(whole), "--out", str(cache / "demo/projection/00.zarr")]
    project_points.main([*words, *flatten({"project_points": settings.project_points.model_dump(mode="json")})])
    of_teacher = settings.teachers["sam_tiny"]
    teacher, _ = storage.build_teacher(of_teacher, classes)
    about = {"settings": of_teacher.model_dump(mode="json"), "kind": "stages", "classes": classes.to_json()}
    storage.save(teacher, cache / "demo_10/sam_tiny/adapter", about)
    benchmark("views", "--every", 1, "--folder", checkout, "--out", tmp_path / "views.json")
    result = json.loads((tmp_path / "views.json").read_text())
    assert result["scans"] == 2
    assert result["views"]["plain"]["probabilities"] == result["views"]["plain"]["logarithms"]
    assert 0 < result["views"]["plain + mirrored"]["probabilities"]["loss"] < 10


def test_every_script_is_tested():
    assert [name for name in SCRIPTS if f"test_{name}" not in globals()] == []
