"""`docs/extending.md` works: every code block is applied to a copy of the checkout, and the workflow runs with it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?:^In `(?P<edited>[^`]+)`, (?P<where>after|before) `(?P<line>[^`]+)`:\n\n|^`(?P<made>[^`]+)`:\n\n)?"
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the checkout with all code blocks of the page, and the configuration with all YAML blocks."""
    checkout = tmp_path_factory.mktemp("extended")
    for name in ("elite_pipeline", "workflow", "envs", "config"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", checkout)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    blocks = list(BLOCK.finditer((ROOT / "docs/extending.md").read_text()))
    assert len(blocks) > 12
    for block in blocks:
        code = block["code"]
        if block["made"]:
            assert not (checkout / block["made"]).exists()
            (checkout / block["made"]).write_text(code)
        elif block["edited"]:
            file = checkout / block["edited"]
            text = file.read_text()
            start = re.search(rf"^{re.escape(block['line'])}", text, re.MULTILINE)
            assert start, f"{block['edited']} has no line that begins with {block['line']!r}"
            at = start.start() if block["where"] == "before" else text.index("\n", start.start()) + 1
            file.write_text(text[:at] + code + text[at:])
        elif code.startswith("# classes.yaml"):
            (checkout / "classes.yaml").write_text(code)
        elif block["language"] == "yaml":
            for section, entries in yaml.safe_load(code).items():
                config[section] |= entries
    return checkout, config


def write_ply(path, points):
    """ASCII PLY of (N, 3) points."""
    head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n" + "".join(f"property float {a}\n" for a in "xyz")
    path.write_text(head + "end_header\n" + "".join("{} {} {}\n".format(*point) for point in points))


def test_data_set_format_student_encoder_and_evaluation(extended):
    """A new format, class table, encoder, student and evaluation work together, from scans to scores."""
    checkout, config = extended
    rng, code = np.random.default_rng(0), {"PYTHONPATH": str(checkout)}
    for sequence in ("drive-a", "drive-b"):
        folder = checkout / "data/warehouse/sequences" / sequence
        for part in ("scans", "labels", "front"):
            (folder / part).mkdir(parents=True)
        (folder / "calib.txt").write_text("K_front: 60 0 64 0 0 60 32 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
        for frame in range(2):
            floor = rng.uniform((1, -9, -1.5), (15, 9, -1.4), (1500, 3))
            rack = rng.uniform((5, 2, -1.5), (6, 5, 1.5), (600, 3))
            write_ply(folder / "scans" / f"{frame}.ply", np.concatenate([floor, rack]))
            np.repeat([7, 300], [1500, 600]).astype(np.uint32).tofile(folder / "labels" / f"{frame}.label")
            Image.fromarray(rng.integers(0, 255, (64, 128), dtype=np.uint8)).save(folder / "front" / f"{frame}.png")
    make = (
        "import hashlib, pathlib, torch; from safetensors.torch import save;"
        "from elite_pipeline.teacher.patches14 import Patches14; torch.manual_seed(0);"
        "data = save(Patches14().state_dict()); folder = pathlib.Path('checkpoints'); folder.mkdir();"
        "(folder / 'patches14.safetensors').write_bytes(data); print(hashlib.sha256(data).hexdigest())"
    )
    environment = {**os.environ, **code}
    made = subprocess.run([sys.executable, "-c", make], cwd=checkout, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    config["datasets"]["warehouse"]["format"] = "ply_drives"
    config["experiments"]["warehouse"] = {"dataset": "warehouse", "teacher": "patches", "student": "voxels_alone"}
    config["teachers"]["patches"]["sha256"] = made.stdout.strip()
    (checkout / "config.yaml").write_text(yaml.safe_dump(config))
    targets = ["results/warehouse_distance.json", "results/warehouse_miou.json"]
    run = [sys.executable, "-m", "snakemake", "--cores", "2", *targets]
    result = subprocess.run(run, cwd=checkout, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rings = json.loads((checkout / targets[0]).read_text())
    assert [ring["points"] > 0 for ring in rings["rings"]] == [True, True, False, False]
    assert rings["rings"][0]["miou"] > 0.5, "a floor and a rack are easy to tell apart by height"
    assert list(json.loads((checkout / targets[1]).read_text())["iou"]) == ["floor", "rack", "person"]
    # A change of a new file reruns the rules that use it.
    file = checkout / "elite_pipeline/student/voxel_mlp.py"
    file.write_text(file.read_text() + "\nCHANGED = 1\n")
    dry = subprocess.run([*run[:-2], "-n", *targets], cwd=checkout, capture_output=True, text=True, check=False)
    rules = set(re.findall(r"^(?:local)?rule (\w+):$", dry.stdout + dry.stderr, re.MULTILINE))
    assert "train_student" in rules
    assert "tune_teacher" not in rules
