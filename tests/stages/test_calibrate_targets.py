"""calibrate_targets: known temperatures are found at the right scans of small stores."""

import json

import numpy as np
import pytest
import torch

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation import teacher_confidence
from elite_pipeline.recordings import index
from elite_pipeline.soft_labels import encode
from elite_pipeline.stages import calibrate_targets

RAW = {1: 10, 9: 40, 13: 50, 15: 70}
"""Training id -> raw id: the only classes of the drives."""

SEEN, REACHED, POINTS = 400, 480, 500
"""Points of a scan that the camera sees, that aggregation reaches, and all."""


def overconfident(labels, sharpness, seed):
    """Logits (n, K) of a source that draws `labels` (n,) training ids, times `sharpness`.

    Each label is the likeliest class with the probability that softmax gives it.
    """
    rng = np.random.default_rng(seed)
    named = list(RAW)
    logits = np.full((len(labels), 20), -40.0)
    raw = rng.normal(0, 1.2, (len(labels), len(named)))
    chance = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    drawn = (chance.cumsum(1) < rng.random((len(labels), 1))).sum(1).clip(0, len(named) - 1)
    # The classes are permuted so that the drawn one is the label.
    for k, label in enumerate(labels):
        order = [named[drawn[k]] if c == label else label if c == named[drawn[k]] else c for c in named]
        logits[k, order] = raw[k]
    return logits * sharpness


@pytest.fixture
def drives(write_drive, tmp_path, classes):
    """A function (sharpness of each drive, labelled frames of each drive, known classes) that writes drives 00, 01, ...

    The cached soft labels of drive k have logits that are `sharpness[k]` times too large; the aggregated ones, 1 / 2 of
    that. Returns {"data", "frames", "projection", "targets", "aggregated"} -> paths.
    """

    def write(sharpness, labelled, **attributes):
        found = {name: [] for name in ("frames", "projection", "targets", "aggregated")}
        for k, (sharp, has) in enumerate(zip(sharpness, labelled, strict=True)):
            name = f"{k:02d}"
            folder = write_drive(tmp_path / "sequences" / name)
            frames = [f"{f:06d}" for f in range(3)]
            rng = np.random.default_rng(k)
            labels = rng.choice(list(RAW), size=(3, POINTS))
            for f, frame in enumerate(frames):
                np.array([RAW[c] for c in labels[f]], np.uint32).tofile(folder / f"labels/{frame}.label")
            paths = {kind: tmp_path / f"{name}.{kind}" for kind in found}
            rows = [
                {"frame": f, "points": POINTS, "labelled": j in has, "class_points": [0] * 20}
                for j, f in enumerate(frames)
            ]
            index.write(paths["frames"], rows, index.Source("semantickitti", name, classes, {"image_2": "P2"}))
            about = {"sequence": name, "frames": frames, "provenance": {}}
            with store.create(paths["projection"], "projection", cameras=["a"], image_sizes={}, **about) as out:
                out.rows("point", (), np.uint32).append(np.tile(np.arange(SEEN), 3))
                out.rows("visible", (), np.bool_).append(np.arange(3 * SEEN) % 10 > 0)
                out.array("offsets", SEEN * np.arange(4))
            about |= {"classes": classes.to_json(), **attributes}
            logits = overconfident(labels[:, :SEEN].ravel(), sharp, k)[:, None].repeat(2, axis=1)
            with store.create(paths["targets"], "targets", **about) as out:
                out.rows("soft_label", (2, 8), np.uint8).append(encode(torch.from_numpy(logits).float()).numpy())
            logits = overconfident(labels[:, :REACHED].ravel(), sharp / 2, k)
            with store.create(paths["aggregated"], "aggregated", **about) as out:
                out.rows("point", (), np.uint32).append(np.tile(np.arange(REACHED), 3))
                out.rows("soft_label", (8,), np.uint8).append(encode(torch.from_numpy(logits).float()).numpy())
                out.rows("views", (), np.uint8).append(np.ones(3 * REACHED))
                out.rows("own", (), np.bool_).append(np.ones(3 * REACHED))
                out.array("offsets", REACHED * np.arange(4))
                out.array("mass", np.ones(20))
            for kind, path in paths.items():
                found[kind].append(path)
        return {"data": [tmp_path], **found}

    return write


def calibrate(paths, *settings):
    out = paths["data"][0] / "teacher/calibration.json"
    words = [word for name, some in paths.items() for word in (f"--{name}", *map(str, some))]
    calibrate_targets.main([*words, "--dataset", "toy", "--teacher", "hand", "--out", str(out), *settings])
    assert not list(out.parent.glob("*.partial"))
    return json.loads(out.read_text())


ALL = [0, 1, 2]


def test_temperatures_of_both_kinds_at_the_held_out_drive(drives):
    """The teacher is less sure where it was not tuned: only drive 02 counts."""
    paths = drives([0.6, 0.6, 2.4], [ALL, ALL, ALL])
    found = calibrate(paths, "tuned=true", "held_out=0.3")
    assert (found["held_out"], found["scans"], found["sequences"]) == (True, 3, ["02"])
    assert found["targets"]["temperature"] == pytest.approx(2.4, rel=0.15)
    assert found["aggregated"]["temperature"] == pytest.approx(1.2, rel=0.1)
    assert (found["targets"]["points"], found["aggregated"]["points"]) == (3 * SEEN * 9 // 10, 3 * REACHED)
    for kind in ("targets", "aggregated"):
        about = found[kind]
        assert about["ece_after"] < about["ece_before"]
        assert about["nll_after"] < about["nll_before"]
        assert [len(about["bins"][when]) for when in ("before", "after")] == [15, 15]
        assert sum(b["share"] for b in about["bins"]["after"]) == pytest.approx(1)
    assert (found["dataset"], found["teacher"], found["oracle"]) == ("toy", "hand", None)


def test_the_last_scans_of_the_only_labelled_drive(drives):
    found = calibrate(drives([2.0, 2.0], [[], ALL]), "tuned=true", "held_out=0.3")
    assert (found["held_out"], found["scans"], found["sequences"]) == (True, 1, ["01"])


def test_without_held_out_scans_the_result_says_so(drives):
    paths = drives([2.0, 2.0], [ALL, [1]])
    found = calibrate(paths, "tuned=true", "held_out=0.0")
    assert (found["held_out"], found["scans"], found["sequences"]) == (False, 4, ["00", "01"])
    assert found["targets"]["temperature"] == pytest.approx(2.0, rel=0.1)
    found = calibrate(paths, "tuned=false", "held_out=0.0")
    assert (found["held_out"], found["scans"]) == (True, 4), "a teacher of other images is tuned on no scan"


def test_a_single_labelled_scan_is_not_held_out(drives):
    found = calibrate(drives([2.0], [[1]]), "tuned=true", "held_out=0.9")
    assert (found["held_out"], found["scans"]) == (False, 1)


def test_no_labelled_scan_leaves_everything_as_it_is(drives):
    found = calibrate(drives([2.0, 2.0], [[], []]), "tuned=true", "held_out=0.5")
    assert (found["scans"], found["held_out"], found["sequences"]) == (0, False, [])
    for kind in ("targets", "aggregated"):
        assert (found[kind]["temperature"], found[kind]["points"], found[kind]["bins"]) == (1.0, 0, None)


def test_without_poses_nothing_is_aggregated(drives):
    found = calibrate(drives([2.0], [ALL]) | {"aggregated": []}, "tuned=false", "held_out=0.0")
    assert found["aggregated"] is None
    assert found["targets"]["temperature"] == pytest.approx(2.0, rel=0.1)


def test_points_of_unknown_classes_do_not_count(drives):
    paths = drives([2.0], [ALL], known_classes=["car", "road", "building"])
    found = calibrate(paths, "tuned=false", "held_out=0.0")
    assert 0 < found["aggregated"]["points"] < 0.85 * 3 * REACHED


def test_memory_does_not_grow_with_the_scans(drives, monkeypatch):
    monkeypatch.setattr(teacher_confidence, "POINTS", 60)
    paths = drives([2.0, 2.0], [ALL, ALL])
    found = calibrate(paths, "tuned=false", "held_out=0.0")
    assert (found["targets"]["points"], found["aggregated"]["points"]) == (60, 60)
    assert calibrate(paths, "tuned=false", "held_out=0.0") == found


def test_damaged_stores_and_stores_without_soft_labels_are_refused(drives, tmp_path):
    paths = drives([2.0], [ALL])
    shard = next(file for file in (paths["aggregated"][0] / "soft_label/c").rglob("*") if file.is_file())
    content = bytearray(shard.read_bytes())
    content[100] ^= 255
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"00\.aggregated.*is damaged"):
        calibrate(paths, "tuned=false", "held_out=0.0")
    features, about = tmp_path / "features", {"sequence": "00", "frames": [f"{f:06d}" for f in range(3)]}
    with store.create(features, "targets", provenance={}, **about) as out:
        out.rows("patch_feature", (1, 8), np.int8).append(np.zeros((1, 1, 8)))
        out.rows("point_patch", (), np.uint16).append(np.zeros(3 * SEEN))
        out.array("patch_offsets", np.array([0, 1, 1, 1]))
        out.array("patch_scale", np.ones((1, 8), np.float32))
    with pytest.raises(InputError, match="features holds no soft labels: add logits"):
        calibrate(paths | {"targets": [features]}, "tuned=false", "held_out=0.0")
