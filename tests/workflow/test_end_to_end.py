"""The whole real DAG: a short demo that is killed and resumed, UDAKD and FSKD, and the real sample frames."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]

MIOU_KEYS = set(
    [
        "experiment",
        "dataset",
        "split",
        "sequences",
        "miou",
        "iou",
        "confusion",
        "points",
        "scans",
        "tta",
        "trained_on",
        "training_scans",
        "labelled_scans",
        "labelled_classes",
        "taught",
        "teacher",
        "steps",
        "weights_sha256",
        "parameters",
        "config",
        "versions",
        "device",
        "commit",
        "seconds",
    ]
)
LATENCY_KEYS = set(
    [
        "budget_hz",
        "budget_ms",
        "phases",
        "hz",
        "hz_p99",
        "within_budget",
        "scans",
        "warmup",
        "points_median",
        "precision",
        "device",
        "versions",
    ]
)
TARGETS = "cache/demo/sam_tiny/targets"
COMPARED = [f"results/quick_comparison{ending}" for ending in (".json", ".md", ".png", "_classes.png")]
LABELLERS = [f"results/demo_pseudo_labels{ending}" for ending in (".json", ".png", "_worst.png")]


@pytest.fixture
def config():
    """The shipped configuration as a dict; tests shorten it."""
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def check_results(folder, experiment):
    """Check both results of an experiment: keys, bounds and figures."""
    miou = json.loads((folder / f"results/{experiment}_miou.json").read_text())
    assert set(miou) >= MIOU_KEYS
    assert 0 <= miou["miou"] <= 1
    assert len(miou["iou"]) == 19
    assert miou["tta"] is False
    latency = json.loads((folder / f"results/{experiment}_latency.json").read_text())
    assert set(latency) >= LATENCY_KEYS
    assert set(latency["phases"]) == {"read", "voxelise", "forward", "scatter_back", "total"}
    for phase in latency["phases"].values():
        assert 0 <= phase["p50"] <= phase["p95"] <= phase["p99"] <= phase["max"]
    summary = (folder / f"results/{experiment}_summary.md").read_text()
    figures = [folder / line.strip() for line in summary.splitlines() if line.strip().endswith(".png")]
    assert len(figures) == (6 if experiment == "demo" else 5), "aggregation is drawn where the student reads it"
    for figure in figures:
        assert Image.open(figure).width > 800
    return miou, latency


@pytest.mark.slow
def test_short_demo_killed_and_run_again(tmp_path, config, snakemake, warm_python):
    config["datasets"]["demo"].update(train=["00", "01"], val=["08"])
    config["datasets"]["demo"]["simulate_drive"].update(frames=3, columns=512, image_width=256, image_height=80)
    config["teachers"]["sam_tiny"]["longest_side"] = 256
    config["teachers"]["sam_tiny"]["tune_teacher"].update(steps=6, batch=2, warmup=1)
    config["students"]["elite_demo"]["train_student"].update(epochs=6, batch=2, warmup=1, checkpoint_every=2)
    config["measure_latency"].update(warmup=1, scans=3)
    config["evaluate_pseudo_labels"]["frames"] = 2
    # Also a comparison with few labels: with the teacher, without it, and with an oracle of 50 % accuracy.
    config["datasets"]["few"] = {"of": "demo", "labelled": 0.5, "label_images": {"labeller": "sparse"}}
    config["oracles"] = {"half_right": {"accuracy": 0.5, "seed": 0}}
    names = {"few": "sam_tiny", "few_labels": None, "few_oracle": "half_right"}
    config["experiments"] |= {
        name: {"dataset": "few", "teacher": teacher, "student": "elite_demo"} for name, teacher in names.items()
    }
    config["comparisons"] = {
        "quick": {
            "figure": "oracles",
            "experiments": {name.replace("_", " "): name for name in names},
            "seeds": [3],
            "differences": [["few", "few labels"]],
        }
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    given = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]

    output = snakemake(tmp_path, *given, "cache/demo/frames/08.parquet", *(f"{TARGETS}/{s}.zarr" for s in ("00", "01")))
    assert "100%" in output, output

    # Kill it as soon as the student has a checkpoint. Nothing may look finished, and training must resume from there.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *given, "results/demo_summary.md"]
    job = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("models/demo/run/*/checkpoint.pt")):
        assert job.poll() is None, job.stdout and job.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    assert not (tmp_path / "models/demo/student.safetensors").exists()
    assert not list(tmp_path.rglob("*.zarr.partial"))

    unlock = [warm_python, "-m", "snakemake", *given, "--unlock"]  # without --cores, as a user types it
    subprocess.run(unlock, cwd=tmp_path, check=True, capture_output=True)
    output = snakemake(tmp_path, *given, "--rerun-incomplete", "results/demo_summary.md", *LABELLERS)
    assert "100%" in output, output
    assert output.count("rule simulate_drive:") == 0
    assert "resum" in (tmp_path / "logs/train_student/demo.log").read_text().lower()
    miou, _ = check_results(tmp_path, "demo")
    assert miou["trained_on"] == ["00", "01"]
    assert miou["scans"] == 3
    labellers = json.loads((tmp_path / LABELLERS[0]).read_text())
    assert labellers["frames"] == 2
    assert labellers["reference"] == "dense truth"
    assert all(Image.open(tmp_path / figure).width > 800 for figure in LABELLERS[1:])
    assert "Nothing to be done" in snakemake(tmp_path, *given, "results/demo_summary.md", *LABELLERS)

    output = snakemake(tmp_path, *given, *COMPARED, "results/demo_miou_tta.json", "results/demo_predictions")
    assert "100%" in output, output
    assert not set(re.findall(r"rule (\w+):", output)) & {"simulate_drive", "index_frames", "project_points"}
    assert all(Image.open(tmp_path / figure).width > 800 for figure in COMPARED if figure.endswith(".png"))
    found = json.loads((tmp_path / COMPARED[0]).read_text())["experiments"]
    assert {label: e["labelled_scans"] for label, e in found.items()} == dict.fromkeys(found, 3)
    assert [found[label]["distilled"] for label in ("few", "few labels", "few oracle")] == [True, False, True]
    assert 0 < found["few oracle"]["teacher_points"]["accuracy"] < 0.8
    assert json.loads((tmp_path / "results/demo_miou_tta.json").read_text())["tta"] is True
    written = list(tmp_path.glob("results/demo_predictions/sequences/08/predictions/*.label"))
    assert [path.stat().st_size // 4 for path in sorted(written)] == [
        path.stat().st_size // 16 for path in sorted(tmp_path.glob("data/demo/sequences/08/velodyne/*.bin"))
    ]


def test_pretraining_and_zero_shot(tmp_path, config, snakemake):
    """UDAKD and FSKD without interruption: from drives and labelled images to both results and the embedding."""
    config["datasets"]["demo"].update(train=["00", "01"], val=["08"])
    config["datasets"]["demo"]["simulate_drive"].update(frames=2, columns=512, image_width=256, image_height=80)
    config["datasets"]["demo_10"]["labelled"] = 0.5
    config["image_sets"]["worlds"]["simulate_images"].update(
        worlds=3, views_per_world=2, image_width=256, image_height=80
    )
    config["image_sets"]["worlds"].update(unknown=["car"], held_out=0.4)
    for teacher in ("frozen_tiny", "network_demo"):
        config["teachers"][teacher]["longest_side"] = 256
    config["teachers"]["network_demo"]["tune_teacher"].update(steps=4, batch=2, warmup=1)
    config["pretrainings"]["udakd_demo"]["pretrain_student"].update(steps=4, warmup=1, checkpoint_every=2)
    config["pretrainings"]["udakd_demo"]["contrast"].update(pairs=64, level="superpixel")
    for student in ("minkunet_demo", "fskd_demo"):
        config["students"][student]["train_student"].update(steps=4, warmup=1, checkpoint_every=2)
    config["plot_embedding"]["points"] = 120
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    given = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    targets = [f"results/demo_{name}" for name in ("udakd_miou.json", "fskd_miou.json", "fskd_embedding.png")]
    output = snakemake(tmp_path, *given, *targets)
    assert "100%" in output, output
    assert "rule label_images" not in output, "neither method needs pseudo-labels"
    udakd, fskd = (json.loads((tmp_path / target).read_text()) for target in targets[:2])
    assert (udakd["pretrained"], udakd["zero_shot"], udakd["labelled_scans"]) == ("udakd_demo", False, 2)
    assert (fskd["pretrained"], fskd["zero_shot"], fskd["labelled_scans"]) == (None, True, 0)
    assert "car" not in fskd["known_classes"]
    predicted = [sum(column) for column in zip(*fskd["confusion"], strict=True)]
    assert predicted[1] == 0, "a class without labelled images is never predicted"
    assert Image.open(tmp_path / targets[2]).width > 800
    # The pre-trained backbone is used again for other settings.
    config["datasets"]["demo_10"]["labelled"] = 1.0
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    output = snakemake(tmp_path, *given, "--dry-run", targets[0])
    assert "rule train_student" in output
    assert "rule pretrain_student" not in output
    assert "rule cache_teacher" not in output


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_in_half_precision(tmp_path, config, snakemake):
    """The DAG on a GPU: labels from SAM, teacher in bfloat16, student in mixed precision, inference in float16."""
    config["datasets"]["demo"].update(train=["00", "01"], val=["08"])
    config["datasets"]["demo"]["simulate_drive"].update(frames=3)
    config["teachers"]["sam_tiny"].update(precision="bf16-mixed")
    config["teachers"]["sam_tiny"]["tune_teacher"].update(steps=20, warmup=5)
    config["students"]["elite_demo"]["train_student"].update(epochs=20, precision="16-mixed", threads=4)
    config["measure_latency"].update(precision="16-true")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    given = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    output = snakemake(tmp_path, *given, "results/demo_summary.md")
    assert "100%" in output, output
    miou, latency = check_results(tmp_path, "demo")
    assert miou["device"] == latency["device"] == torch.cuda.get_device_name()
    assert latency["precision"] == "16-true"
    assert miou["miou"] > 0.05
    losses = [json.loads(line)["loss"] for line in (tmp_path / "models/demo/training.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_real_frames(tmp_path, config, sample, snakemake):
    config["students"]["elite_sample"]["train_student"].update(epochs=2, warmup=1)
    config["teachers"]["sam_tiny_sample"]["tune_teacher"].update(steps=4, warmup=1)
    config["measure_latency"].update(warmup=0, scans=1)
    # Also the paper's student at full size: one step on one scan, in the precision of a CPU.
    config["experiments"]["sample_elite"] = {"dataset": "sample", "teacher": "sam_tiny_sample", "student": "elite"}
    once = {"steps": 1, "epochs": None, "batch": 1, "warmup": 0, "precision": "32-true", "threads": 2}
    config["students"]["elite"]["train_student"].update(once)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sample").symlink_to(sample.resolve())
    given = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    output = snakemake(tmp_path, *given, "results/sample_summary.md", "results/sample_elite_miou.json")
    assert "100%" in output, output
    elite = json.loads((tmp_path / "results/sample_elite_miou.json").read_text())
    assert (elite["parameters"], elite["taught"], elite["teacher"]) == (1_933_460, True, "sam_tiny_sample")
    (line,) = (tmp_path / "models/sample_elite/training.jsonl").read_text().splitlines()
    assert json.loads(line)["distillation"] > 0
    miou, latency = check_results(tmp_path, "sample")
    assert miou["sequences"] == ["08"]
    assert latency["points_median"] == 123_389
