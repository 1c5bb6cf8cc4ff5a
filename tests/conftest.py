"""Fixtures that several tests share: small drives and stores on disk, settings, results, and the real sample frames."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import made_up_nuscenes
import numpy as np
import pytest
from PIL import Image
from warm_python import WarmPython

ROOT = Path(__file__).parent.parent

CALIBRATION = """\
P0: 100 0 40 0 0 100 20 0 0 0 1 0
P1: 100 0 40 -50 0 100 20 0 0 0 1 0
P2: 100 0 40 10 0 100 20 -1 0 0 1 0.01
P3: 100 0 40 -30 0 100 20 2 0 0 1 0.005
Tr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""


CAMERAS = {"image_2": "P2"}


def pytest_configure(config):
    """Set what torch reads when it is imported: no GPU except for `pytest -m gpu`, and how many threads it starts."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # results that must repeat to the bit are a CPU's
    # Two workers with two threads each, which wait by spinning, would take the two cores from each other.
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def warm_python(pytestconfig):
    """Return the path of a `python` that starts at once (`warm_python.py`); of Python itself in tests of a GPU."""
    if pytestconfig.option.markexpr == "gpu":
        yield sys.executable
        return
    with TemporaryDirectory(prefix="warm_python_") as folder:
        server = WarmPython(Path(folder))
        yield str(server.path)
        server.close()


@pytest.fixture(scope="session")
def write_drive():
    """A function (folder) that writes a sequence: 3 scans of 500 points around the sensor, and images of 80 x 40."""

    def write(folder):
        rng = np.random.default_rng(0)
        for name in ("velodyne", "labels", "image_2"):
            (folder / name).mkdir(parents=True)
        (folder / "calib.txt").write_text(CALIBRATION)
        for k in range(3):
            points = rng.uniform((-20, -20, -2, 0), (20, 20, 2, 1), size=(500, 4)).astype(np.float32)
            points.tofile(folder / "velodyne" / f"{k:06d}.bin")
            raw = rng.choice([0, 10, 40, 48, 50, 70, 252], size=500).astype(np.uint32) | (7 << 16)
            raw.tofile(folder / "labels" / f"{k:06d}.label")
            image = rng.integers(0, 255, size=(40, 80, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / "image_2" / f"{k:06d}.png")
        return folder

    return write


@pytest.fixture
def drive(write_drive, tmp_path):
    """The sequence of `write_drive`, in SemanticKITTI's layout."""
    return write_drive(tmp_path / "sequences" / "00")


@pytest.fixture(scope="session")
def classes():
    """SemanticKITTI's class table."""
    from elite_pipeline.datasets.classes import class_table

    return class_table("semantickitti")


@pytest.fixture(scope="session")
def nuscenes_classes():
    """nuScenes' class table."""
    from elite_pipeline.datasets.classes import class_table

    return class_table("nuscenes")


@pytest.fixture
def nuscenes(tmp_path, nuscenes_classes):
    """The folder of a made-up data set in nuScenes' layout: two scenes of three keyframes."""
    root, made = tmp_path / "nuscenes", made_up_nuscenes.tables(categories=nuscenes_classes.raw_names)
    made_up_nuscenes.write_tables(root / "v1.0-mini", made)
    made_up_nuscenes.write_files(root, made)
    return root


@pytest.fixture(scope="session")
def nuscenes_keyframe():
    """The folder with one real keyframe of nuScenes; it is not part of the repository."""
    return real_nuscenes("nuscenes_keyframe")


@pytest.fixture(scope="session")
def nuscenes_pair():
    """The folder with 40 points of a real scan of nuScenes and their labels; it is not part of the repository."""
    return real_nuscenes("nuscenes_pair")


def real_nuscenes(name):
    """Returns the folder `name` with real files of nuScenes. Skips the test where there is none."""
    known = (ROOT / "data", ROOT.parent / "shared/data")
    for place in filter(None, (os.environ.get("ELITE_NUSCENES"), *known)):
        if Path(place, name).exists():
            return Path(place, name)
    pytest.skip(
        f"no real files: link the folder {name} as data/{name}, or set ELITE_NUSCENES to the folder that has it"
    )


@pytest.fixture(scope="session")
def open_drive(classes):
    """A function (sequence folder, cameras) that opens a sequence in SemanticKITTI's layout, as a `Recording`."""
    from elite_pipeline.datasets import open_recording

    def opened(folder, cameras=CAMERAS):
        return open_recording(folder.parents[1], folder.name, "semantickitti", classes, cameras)

    return opened


@pytest.fixture(scope="session")
def write_index(classes):
    """A function (path, rows) that writes an index of sequence 00 in SemanticKITTI's layout."""
    from elite_pipeline.recordings import index

    def write(path, rows):
        index.write(path, rows, index.Source("semantickitti", "00", classes, CAMERAS))

    return write


@pytest.fixture(scope="session")
def open_taught():
    """A function that opens the one sequence of `taught` as `Recorded`s, with all its stores or only with `names`."""
    from elite_pipeline.recordings.sequence import open_recorded

    def opened(taught, *names, times=1, labels=True):
        stores = {name: [path] * times for name, path in taught.items() if name != "data" and name in (names or taught)}
        return open_recorded(taught["data"], **stores, labels=labels)

    return opened


@pytest.fixture(scope="session")
def sample():
    """The folder with four real SemanticKITTI frames; it is not part of the repository."""
    known = (ROOT / "data/sample", ROOT.parent / "shared/data/semantickitti_sample")
    for place in filter(None, (os.environ.get("ELITE_SAMPLE"), *known)):
        if (Path(place) / "sequences/00/velodyne/000000.bin").exists():
            return Path(place)
    pytest.skip("no real frames: link a folder with sequences/00 and 08 as data/sample, or set ELITE_SAMPLE")


@pytest.fixture(scope="session")
def simulated_drive(tmp_path_factory):
    """The folder of a simulated sequence: 4 frames at the demo's size, with ground truth."""
    from elite_pipeline.config import SimulateDrive
    from elite_pipeline.simulation.drive import write_drive

    folder = tmp_path_factory.mktemp("demo") / "sequences" / "00"
    settings = SimulateDrive(seed=0, frames=4, spacing=8.0, beams=64, columns=1024, image_width=512, image_height=160)
    write_drive(folder, "00", settings)
    return folder


@pytest.fixture(scope="session")
def driven(tmp_path_factory):
    """The folder of a simulated sequence whose scans can be placed: 8 frames 3 m apart, 32 x 512 rays, tiny images."""
    from elite_pipeline.config import SimulateDrive
    from elite_pipeline.simulation.drive import write_drive

    folder = tmp_path_factory.mktemp("driven") / "sequences" / "00"
    settings = SimulateDrive(seed=5, frames=8, spacing=3.0, beams=32, columns=512, image_width=32, image_height=16)
    write_drive(folder, "00", settings)
    return folder


@pytest.fixture
def taught(drive, tmp_path, classes, open_drive, write_index):
    """`drive` with hand-made stores: {"data", "frames", "projection", "targets"} -> path. 2 cameras, 4 stages.

    Frame 0 has labels and soft labels: 40 points in camera 0, 40 in camera 1, 20 of them in both; every fifth row is
    hidden. Frame 1 has labels and only hidden rows. Frame 2 is unlabelled and has soft labels. All codes of a point's
    soft label are the point's index modulo 251 (`traced` reads it back): class 1 is the likeliest, and all others are
    equally likely. Points with the same index modulo 4 share a patch in each camera. All five features of a patch are
    0.5 times (index modulo 4, plus 10 for camera 1, plus 20 per frame); the fourth stage lacks the last channel.
    Patches are in descending order of the index modulo 4.
    """
    from elite_pipeline import store

    (drive / "labels/000002.label").unlink()
    frames = ["000000", "000001", "000002"]
    paths = {"data": drive.parents[1]} | {n: tmp_path / f"00.{n}" for n in ("frames", "projection", "targets")}
    labelled = [f != "000002" for f in frames]
    labels = [open_drive(drive).labels(f, 500) if has else [] for f, has in zip(frames, labelled, strict=True)]
    counts = [np.bincount(ids, minlength=20).tolist() for ids in labels]
    rows = zip(frames, labelled, counts, strict=True)
    write_index(
        paths["frames"],
        [{"frame": f, "points": 500, "labelled": has, "crc32": 0, "class_points": n} for f, has, n in rows],
    )
    rows = [np.r_[0:40], np.r_[20:60], np.r_[0:10], np.r_[0:0], np.r_[100:130], np.r_[490:500]]
    point = np.concatenate(rows)
    visible = np.arange(len(point)) % 5 > 0
    visible[80:90] = False
    about = {"sequence": "00", "frames": frames, "provenance": {}}
    with store.create(paths["projection"], "projection", cameras=["a", "b"], image_sizes={}, **about) as out:
        for name, values in (("point", point.astype(np.uint32)), ("visible", visible)):
            out.rows(name, values.shape[1:], values.dtype).append(values)
        out.array("offsets", np.cumsum([0, *map(len, rows)]))
    with store.create(paths["targets"], "targets", classes=classes.to_json(), **about) as out:
        soft_label = np.empty((len(point), 4, 8), np.uint8)
        soft_label[..., :4], soft_label[..., 4:] = np.arange(1, 5), point[:, None, None] % 251
        out.rows("soft_label", (4, 8), np.uint8).append(soft_label)
        out.array("mass", np.full((4, 20), len(point) / 20))
        hit = [np.unique(points % 4)[::-1] for points in rows]
        names = np.concatenate([patch + 10 * (k % 2) + 20 * (k // 2) for k, patch in enumerate(hit)])
        shown = [(points, patch) for points, patch in zip(rows, hit, strict=True) if len(points)]
        of_row = np.concatenate([np.argmax(patch == (points % 4)[:, None], axis=1) for points, patch in shown])
        scale = np.full((4, 5), 0.5, np.float32)
        scale[3, 4] = 0
        out.rows("patch_feature", (4, 5), np.int8).append(np.broadcast_to(names[:, None, None], (len(names), 4, 5)))
        out.rows("patch_index", (), np.uint16).append(np.concatenate(hit))
        out.rows("point_patch", (), np.uint16).append(of_row)
        out.array("patch_offsets", np.cumsum([0, *map(len, hit)]))
        out.array("patch_scale", scale)
    return paths


@pytest.fixture(scope="session")
def traced():
    """A function: targets (M, S, 20) of `taught`, read from the store -> (M,) their points' indices modulo 251.

    It checks that all stages and all classes tell the same index.
    """
    from elite_pipeline.soft_labels import NEVER, STEP

    def read(teacher):
        steps = (teacher[..., 1:2] - teacher[..., 2:]) / STEP
        index = steps[:, 0, 0].round()
        assert ((steps - index[:, None, None]).abs() < 1e-3).all()
        assert (teacher[..., 0] == NEVER).all()
        return index.long()

    return read


@pytest.fixture(scope="session")
def check_compact():
    """A function (codes (..., 2T), logits (..., K), slack) that checks each bound of the compact form against `logits`.

    slack: by how much the encoded difference of two logits may differ from the one in `logits`.
    """
    import torch

    from elite_pipeline.soft_labels import STEP

    def check(codes, logits, slack=0.0):
        codes, logits = torch.as_tensor(codes).long(), torch.as_tensor(logits).double()[..., 1:]
        assert codes.shape[:-1] == logits.shape[:-1]
        count = codes.shape[-1] // 2
        ids, steps = codes[..., :count] - 1, codes[..., count:]
        assert (ids.sort(-1).values.diff(dim=-1) > 0).all(), "named once"
        assert ((ids >= 0) & (ids < logits.shape[-1])).all(), "IGNORE is never named"
        assert (steps.diff(dim=-1) >= 0).all(), "the likeliest first"
        below = logits.amax(-1, keepdim=True) - logits
        named = below.gather(-1, ids)
        assert (named[..., 0] <= slack).all(), "the first is the likeliest class"
        others = below.scatter(-1, ids, torch.inf)
        assert (others.amin(-1) >= named.amax(-1) - slack).all(), "no other class is likelier than a named one"
        remaining = max(others.shape[-1] - count, 1)
        rest = np.log(remaining) - (-others).logsumexp(-1, keepdim=True)
        exact = torch.cat([named[..., 1:], rest], dim=-1).clamp_max(255 * STEP)
        assert ((exact - steps * STEP).abs() <= STEP / 2 + slack + 1e-4).all(), "half a step"

    return check


@pytest.fixture
def interrupted(monkeypatch):
    """A function (step, train, *arguments) that runs `train` and kills it in the given step, counted from 0."""

    def run(step, train, *arguments):
        from elite_pipeline.training import loop

        original, calls = loop._step, []

        def failing(*of_step):
            calls.append(1)
            if len(calls) > step:
                raise KeyboardInterrupt
            return original(*of_step)

        with monkeypatch.context() as patched:
            patched.setattr(loop, "_step", failing)
            with pytest.raises(KeyboardInterrupt):
                train(*arguments)

    return run


@pytest.fixture
def student_settings():
    """Settings of a student that trains in a second: 8 channels, 1 m voxels, 2 epochs."""
    from elite_pipeline.config import StudentSettings

    return StudentSettings.model_validate(
        {
            "network": {
                "voxel_size": 1.0,
                "volume": [[-16.0, 16.0], [-16.0, 16.0], [-4.0, 2.0]],
                "scales": [2, 4, 8, 16],
                "width": 8,
            },
            "losses": {
                "lovasz": 1.0,
                "auxiliary": 1.0,
                "auxiliary_lovasz": 1.0,
                "distillation": 0.25,
                "temperature": 1.0,
                "reduction": "batchmean",
            },
            "augmentation": {"rotate": True, "flip": True, "scale": 0.05, "translate": 0.1, "drop": 0.2},
            "train_student": {
                "epochs": 2,
                "batch": 2,
                "optimiser": "adamw",
                "learning_rate": 0.01,
                "weight_decay": 0.01,
                "warmup": 1,
                "clip": 1.0,
                "precision": "32-true",
                "seed": 0,
                "threads": 1,
                "checkpoint_every": 1,
            },
        }
    )


@pytest.fixture
def miou_result(classes):
    """An mIoU result. Only car and road have points, and some road points are predicted as class 0 (ignore)."""
    confusion = np.zeros((20, 20), dtype=int)
    # Rows are the ground truth.
    confusion[1, 1], confusion[1, 9], confusion[9, 9], confusion[9, 0] = 50, 50, 900, 100
    iou = dict.fromkeys(classes.evaluated, 0.0) | {"car": 0.5, "road": 0.857}
    looks = dict(zip(classes.evaluated, classes.to_json()["colours"][1:], strict=True))
    values = {"miou": 0.0714, "iou": iou, "known_classes": classes.evaluated, "colours": looks}
    return {"experiment": "x", "confusion": confusion.tolist(), "scans": 3, **values}


@pytest.fixture
def latency_result():
    """A latency result of five scans."""
    names = ("read", "voxelise", "forward", "scatter_back", "total")
    samples = {name: [1.0 + k, 2.0 + k, 3.0 + k, 4.0 + k, 50.0 + k] for k, name in enumerate(names)}
    phases = {name: {"p50": 3.0 + k, "p95": 40.0, "p99": 49.0, "max": 50.0} for k, name in enumerate(names)}
    budget = {"budget_hz": 24, "budget_ms": 1000 / 24, "hz": 140.0, "precision": "32-true", "device": "a machine"}
    return {"phases": phases, "samples": samples, **budget}


@pytest.fixture
def untrained_model(tmp_path, classes):
    """The folder of a small student with random weights."""
    from elite_pipeline.config import SPVCNNSettings
    from elite_pipeline.student import model

    network = SPVCNNSettings(voxel_size=0.5, volume=((-20, 20), (-20, 20), (-3, 3)), scales=[2, 4], width=16)
    config = {"network": network.model_dump(mode="json"), "classes": classes.to_json(), "experiment": "untrained"}
    options = {"epochs": 0, "seed": 0}
    config |= {"settings": {"train_student": options}, "taught": False, "parameters": 0, "trained_on": [], "steps": 0}
    config |= {"scans": 0, "training_scans": 0, "labelled_scans": 0, "labelled_classes": {}, "device": "none"}
    config |= {"known_classes": classes.evaluated, "pretrained": None}
    (tmp_path / "log.jsonl").write_text("")
    model.save(tmp_path / "untrained", model.build(network, len(classes)), config, tmp_path / "log.jsonl")
    return tmp_path / "untrained"


@pytest.fixture
def minkunet_settings(student_settings):
    """`student_settings` with a U-Net of 8 channels and two stages, trained on labels alone."""
    from elite_pipeline.config import StudentSettings

    network = {
        "kind": "minkunet",
        "frame": "cartesian",
        "voxel_size": [1.0, 1.0, 1.0],
        "volume": [[-16.0, 16.0], [-16.0, 16.0], [-4.0, 2.0]],
        "stem": 8,
        "planes": [8, 8, 8, 8],
        "blocks": [1, 1, 1, 1],
    }
    losses = {"auxiliary": 0.0, "auxiliary_lovasz": 0.0, "distillation": 0.0, "stages": [0]}
    settings = student_settings.model_dump()
    return StudentSettings.model_validate({**settings, "network": network, "losses": settings["losses"] | losses})


@pytest.fixture
def fskd_settings(minkunet_settings):
    """`minkunet_settings` of a student that shares the classifier of `image_taught`'s teacher, and learns features."""
    from elite_pipeline.config import StudentSettings

    parts = {"embedding": 8, "adaptation": {"layers": 1, "pooling": 2}, "classifier": "shared"}
    settings = minkunet_settings.model_dump()
    losses = settings["losses"] | {"output": 1.0, "features": 1.0, "temperature": 2.0}
    return StudentSettings.model_validate({**settings, "network": settings["network"] | parts, "losses": losses})


@pytest.fixture
def pretraining_settings(minkunet_settings):
    """Settings to pre-train the backbone of `minkunet_settings`: 64 pairs, two stages of the teacher."""
    from elite_pipeline.config import StudentToPretrain

    settings = minkunet_settings.model_dump()
    return StudentToPretrain.model_validate(
        {
            "network": settings["network"],
            "augmentation": settings["augmentation"],
            "adaptation": {"layers": 1, "pooling": 2},
            "contrast": {"level": "point", "pairs": 64, "temperature": 0.07, "projection": 8, "stages": [0, 3]},
            "pretrain_student": {k: v for k, v in settings["train_student"].items() if k != "backbone_learning_rate"},
        }
    )


@pytest.fixture
def rewrite_targets():
    """A function that writes a targets store again with changed `attributes` and arrays; None removes an array."""
    from elite_pipeline import store

    def rewrite(path, attributes=(), **changes):
        old = store.open_store(path, "targets")
        arrays = {name: store.read(old, name) for name, _ in old.arrays()} | changes
        about = {"sequence": "00", "frames": old.attrs["frames"], "provenance": {}, "classes": old.attrs["classes"]}
        about |= dict(attributes)
        with store.create(path, "targets", **about) as out:
            for name, values in arrays.items():
                if values is not None:
                    out.array(name, values)

    return rewrite


@pytest.fixture
def unlabelled(taught, write_index):
    """`taught` with an index in which no scan has labels."""
    frames = ["000000", "000001", "000002"]
    blank = {"points": 500, "labelled": False, "crc32": 0, "class_points": [0] * 20}
    write_index(taught["frames"], [{"frame": frame, **blank} for frame in frames])
    return taught


@pytest.fixture
def image_taught(taught, rewrite_targets, classes):
    """`taught` with an image segmentation network as teacher.

    It has one stage, 8 channels of random patch features, and a linear classifier, whose soft labels of the points are
    cached. It knows only the classes car, road and building.
    """
    import torch

    from elite_pipeline import store
    from elite_pipeline.soft_labels import encode

    old, rng = store.open_store(taught["targets"], "targets"), np.random.default_rng(4)
    known = [name in ("car", "road", "building") for name in classes.names]
    weight = np.where(np.array(known)[:, None], rng.normal(size=(20, 8)), 0).astype(np.float32)
    bias = np.where(known, 0, -1e4).astype(np.float32)
    patches = rng.integers(-40, 40, size=(len(store.read(old, "patch_feature")), 1, 8)).astype(np.int8)
    scale = np.full((1, 8), 1 / 32, np.float32)
    projection = store.Projection(taught["projection"])
    offsets, rows = store.read(old, "patch_offsets"), np.diff(projection.offsets)
    of_row = store.read(old, "point_patch").astype(int) + np.repeat(offsets[:-1], rows)
    logits = (patches * scale)[of_row, 0] @ weight.T + bias
    rewrite_targets(
        taught["targets"],
        {"known_classes": ["car", "road", "building"]},
        patch_feature=patches,
        patch_scale=scale,
        soft_label=encode(torch.from_numpy(logits[:, None])).numpy(),
        mass=np.array(known)[None] * 40.0,
        classifier_weight=weight[None],
        classifier_bias=bias[None],
    )
    return taught


@pytest.fixture
def carried_taught(taught, classes):
    """`taught` with the stores "aggregated" and "carried".

    Aggregated soft labels: frame 0 at points 10 to 109, frame 1 none, frame 2 at points 50 to 249. The likeliest class
    of point p is p modulo 19, plus 1; the code of the second likeliest is p modulo 200. Carried labels: frame 0 (which
    has labels of its own) at points 0 to 9, frame 1 none, frame 2 at points 300 to 449. The label of point p is p
    modulo 3, plus 1, and its confidence is p modulo 250, out of 255.
    """
    from elite_pipeline import store

    paths = {name: taught["frames"].with_name(f"00.{name}") for name in ("aggregated", "carried")}
    about = {"sequence": "00", "frames": ["000000", "000001", "000002"], "provenance": {}, "classes": classes.to_json()}
    point = np.r_[10:110, 50:250].astype(np.uint32)
    with store.create(paths["aggregated"], "aggregated", **about) as out:
        codes = [(point + k) % 19 + 1 for k in range(4)] + [point % 200, *[np.full(len(point), 250)] * 3]
        rows = {"point": point, "soft_label": np.stack(codes, axis=1).astype(np.uint8)}
        rows |= {"views": np.ones(len(point), np.uint8), "own": np.zeros(len(point), bool)}
        for name, values in rows.items():
            out.rows(name, values.shape[1:], values.dtype).append(values)
        out.array("offsets", np.array([0, 100, 100, 300]))
        out.array("mass", np.arange(20.0))
    point = np.r_[0:10, 300:450].astype(np.uint32)
    with store.create(paths["carried"], "carried_labels", **about) as out:
        rows = {"point": point, "label": point % 3 + 1, "confidence": point % 250, "scans": np.ones(len(point))}
        for name, values in rows.items():
            out.rows(name, (), np.uint32 if name == "point" else np.uint8).append(values)
        out.array("offsets", np.array([0, 10, 10, 160]))
    return taught | paths
