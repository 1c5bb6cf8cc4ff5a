"""A sequence with every kind of gap, processed by the first stages, and an encoder with random weights."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elite_pipeline import config
from elite_pipeline.config.validation import flatten
from elite_pipeline.recordings import index
from elite_pipeline.stages import carry_labels, index_frames, label_images, project_points

ROOT = Path(__file__).parents[2]
CALIBRATION = """\
P2: 100 0 40 10 0 100 20 -1 0 0 1 0.01
Tr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""
LAYOUT = ['format="semantickitti"', 'classes="semantickitti"']
CAMERAS = 'cameras={"image_2": "P2", "image_0": "P0"}'


@pytest.fixture(scope="session")
def projection_settings():
    """Return the settings of `project_points` in `config.yaml` as `key=json`."""
    settings = config.read(Path(__file__).parent.parent.parent / "config.yaml").project_points
    return flatten({"project_points": settings.model_dump(mode="json")})


@pytest.fixture
def recorded(drive, projection_settings, tmp_path):
    """Return `drive` with gaps, indexed and projected: {"data", "frames", "projection"} -> path.

    image_2 is colour, 80 x 40, black in frame 0 and missing in frame 1. image_0 is grey, 64 x 30, and exists only in
    frames 1 and 2. Frame 2 is unlabelled. In frame 1 all points have the same class.
    """
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(drive / "image_2/000000.png")
    (drive / "image_2/000001.png").unlink()
    (drive / "image_0").mkdir()
    for frame in ("000001", "000002"):
        grey = np.random.default_rng(5).integers(0, 255, (30, 64), dtype=np.uint8)
        Image.fromarray(grey).save(drive / "image_0" / f"{frame}.png")
    np.full(500, 40, dtype=np.uint32).tofile(drive / "labels/000001.label")
    (drive / "labels/000002.label").unlink()
    return index_and_project(drive, tmp_path, projection_settings)


def index_and_project(sequence, folder, projection_settings):
    """Run the first stages on a sequence with gaps and write to `folder`. Return {"data", ...} -> path."""
    paths = {"data": sequence.parents[1], "frames": folder / "00.parquet", "projection": folder / "projection.zarr"}
    needs = [*LAYOUT, "missing_images=true", "labels=false", "images=true"]
    index_frames.main([*options(paths, "data"), "--sequence", "00", "--out", str(paths["frames"]), CAMERAS, *needs])
    known = options(paths, "data", "frames")
    project_points.main([*known, "--out", str(paths["projection"]), *projection_settings])
    return paths


@pytest.fixture
def repeated(recorded, projection_settings, tmp_path):
    """Return a function of `times` that repeats `recorded`: 3 * `times` frames, with dense truth of image_2."""

    def repeat(times):
        source, folder = recorded["data"] / "sequences/00", tmp_path / f"{times}_times" / "sequences" / "00"
        truth = np.random.default_rng(3).choice([0, 10, 40, 50], size=(40, 80)).astype(np.uint8)
        for kind in ("velodyne", "labels", "image_0", "image_2", "truth/image_2/semantic"):
            (folder / kind).mkdir(parents=True)
        for file in source.glob("*/*.*"):
            for k in range(times):
                name = f"{int(file.stem) + 3 * k:06d}"
                shutil.copy(file, folder / file.parent.name / (name + file.suffix))
                Image.fromarray(truth).save(folder / "truth/image_2/semantic" / f"{name}.png")
        shutil.copy(source / "calib.txt", folder)
        return index_and_project(folder, tmp_path / f"{times}_times", projection_settings)

    return repeat


@pytest.fixture
def parked(tmp_path):
    """`park` with 12 scans."""
    return park(tmp_path, 12)


def park(tmp_path, frames):
    """Write a drive past parked cars: {"data", "frames", "selected"} -> path. Frames 0 and 6 keep their labels.

    Every scan sees the same 1,500 points of the world, from a vehicle that drives on: 900 of road, 300 of a car, 200 of
    a building, 100 without a label (in this order). In frame 1, ten points of the car are labelled as a walking person,
    and further 20 points are where no other scan has any. Poses are those of camera 0, as in SemanticKITTI.
    """
    folder = tmp_path / "drives" / "sequences" / "00"
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "calib.txt").write_text(CALIBRATION)
    lidar_from_camera0 = np.linalg.inv(TR)
    rng = np.random.default_rng(0)
    world = np.concatenate([rng.uniform(low, high, (n, 3)) for low, high, n in PARKED])
    raw = np.repeat([40, 10, 50, 0], [n for _, _, n in PARKED]).astype(np.uint32)
    poses = []
    for f in range(frames):
        world_from_lidar = np.eye(4)
        world_from_lidar[:3, 3] = f, 0.1 * f, 0
        poses.append((world_from_lidar @ lidar_from_camera0)[:3].ravel())
        points, labels = world, raw.copy()
        if f == 1:
            points = np.concatenate([world, rng.uniform((0, 40, 0), (5, 50, 1), (20, 3))])
            labels = np.concatenate([raw, np.full(20, 70, np.uint32)])
            labels[900:910] = 254
        scan = np.zeros((len(points), 4), np.float32)
        scan[:, :3] = points - world_from_lidar[:3, 3]
        scan.tofile(folder / f"velodyne/{f:06d}.bin")
        labels.tofile(folder / f"labels/{f:06d}.label")
    np.savetxt(folder / "poses.txt", poses)
    return index_and_select(folder, tmp_path)


PARKED = [((0, 0, -2), (9, 9, -1.8), 900), ((20, 0, -1), (21, 1, 0), 300), ((30, 0, 0), (31, 1, 1), 200)]
PARKED += [((40, 0, 0), (41, 1, 1), 100)]
TR = np.array([[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])


def index_and_select(sequence, folder, labelled=("000000", "000006")):
    """Index a sequence, and write an index in which only the scans `labelled` keep labels. Return {"data", ...}."""
    paths = {"data": sequence.parents[1], "frames": folder / "all.parquet", "selected": folder / "selected.parquet"}
    needs = ["missing_images=true", "labels=false", "images=false", 'cameras={"image_2": "P2"}']
    index_frames.main([*options(paths, "data"), "--sequence", "00", "--out", str(paths["frames"]), *LAYOUT, *needs])
    index.with_labels_of(paths["frames"], labelled, paths["selected"])
    return paths


@pytest.fixture
def carried(parked, tmp_path):
    """Return `parked` with the additional key "carried"."""
    out = tmp_path / "carried.zarr"
    words = ["--data", str(parked["data"]), "--frames", str(parked["selected"]), "--out", str(out)]
    carry_labels.main([*words, *CARRY])
    return {**parked, "carried": out}


CARRY = [f"carry_labels.{word}" for word in ("distance=60.0", "frames=60", "voxel_size=0.2")]
CARRY += ["carry_labels.things.voxel_size=0.2", "carry_labels.things.frames=2"]


@pytest.fixture
def parked_longer(tmp_path):
    """`park` with 24 scans."""
    return park(tmp_path, 24)


IN_SMALL_SHARDS = """
import importlib, os, signal, sys
from elite_pipeline import sources, store

store.CHUNK_BYTES, store.SHARD_BYTES = 8000, 16000
sources.digest = lambda stage: ""  # the tested code may change during the test
stage, module, name, last, *words = sys.argv[1:]
module, calls = importlib.import_module(module), 0
function = getattr(module, name)

def counted(*arguments, **options):
    global calls
    calls += 1
    if calls == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **options)

setattr(module, name, counted)
importlib.import_module(f"elite_pipeline.stages.{stage}").main(words)
print("calls:", calls)
"""


@pytest.fixture
def check_resume(tmp_path, warm_python):
    """Return a function that checks how a stage resumes after `kill -9`, in separate processes and with small shards.

    (stage, words, counted, kill_at, resumes, calls): the stage runs with `words` and is killed at the `kill_at`-th call
    of `counted` (module:function). The second run must print `resumes` and make `calls` calls. It must not touch the
    existing shards. Its store and its printed scores must equal those of a run without interruption.
    """

    def run(stage, words, counted, last, out):
        command = [warm_python, "-c", IN_SMALL_SHARDS, stage, *counted.split(":"), str(last), *words]
        return subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, cwd=ROOT)

    def check(stage, words, counted, kill_at, resumes, calls):
        out, partial = tmp_path / "killed.zarr", tmp_path / "killed.zarr.partial"
        whole = run(stage, words, counted, 0, tmp_path / "whole.zarr")
        assert whole.returncode == 0, whole.stderr
        assert run(stage, words, counted, kill_at, out).returncode == -signal.SIGKILL
        assert not out.exists()
        shards = {p.relative_to(partial): p.stat() for p in partial.glob("*/c/**/*") if p.is_file()}
        resumed = run(stage, words, counted, 0, out)
        assert resumed.returncode == 0, resumed.stderr
        assert resumes in resumed.stdout
        assert resumed.stdout.splitlines()[-1] == f"calls: {calls}"
        assert len(shards) > 3
        for name, found in shards.items():
            now = (out / name).stat()
            assert (now.st_ino, now.st_mtime_ns) == (found.st_ino, found.st_mtime_ns), name
        files = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert files == {n: (tmp_path / "whole.zarr" / n).read_bytes() for n in files}
        assert len(files) == sum(p.is_file() for p in (tmp_path / "whole.zarr").rglob("*"))
        assert "coverage" in whole.stdout
        assert _measured(resumed.stdout) == _measured(whole.stdout)
        assert not partial.exists()

    return check


def _measured(output):
    return [line for line in output.splitlines() if "coverage" in line]


@pytest.fixture
def labelled(recorded, tmp_path):
    """Return `recorded` with the additional key "pseudo-labels"."""
    out = tmp_path / "pseudo_labels.zarr"
    label_images.main([*options(recorded), "--out", str(out), 'labeller="nearest"', "nearest.radius=4.0"])
    return {**recorded, "pseudo-labels": out}


@pytest.fixture(scope="session")
def random_sam(tmp_path_factory):
    """Return settings (`key=json`) of `sam_tiny` with random weights, since the packaged weights may be retrained."""
    import torch
    from safetensors.torch import save_file

    from elite_pipeline.sam.build import untrained_sam

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam") / "random.safetensors"
    save_file({name: value.contiguous() for name, value in untrained_sam("sam_tiny").state_dict().items()}, path)
    return ['encoder="sam_tiny"', f"checkpoint={json.dumps(str(path))}"]


def options(paths, *names):
    """Return command line words for `names` (default: all) of `paths`."""
    return [word for name in names or paths for word in (f"--{name}", str(paths[name]))]


@pytest.fixture
def model(untrained_model):
    """Return `untrained_model` with weights that predict several classes; most random networks predict only one."""
    from safetensors.numpy import load_file, save_file

    rng, path = np.random.default_rng(0), untrained_model / "student.safetensors"
    weights = load_file(path)
    for name, value in weights.items():
        if name.endswith("bias") or value.ndim > 1:
            weights[name] = rng.normal(0, 0.3, value.shape).astype(np.float32)
    save_file(weights, path)
    return untrained_model
