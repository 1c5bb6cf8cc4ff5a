"""evaluate_teacher: exact numbers on small stores with every kind of point."""

import json

import numpy as np
import pytest
import torch

from elite_pipeline import store
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.soft_labels import encode
from elite_pipeline.stages import evaluate_teacher

CLASSES = class_table("semantickitti")
CAR, ROAD, BUILDING = 1, 9, 13
RAW = {0: 0, CAR: 10, ROAD: 40, BUILDING: 50}
FRAMES = ["000000", "000001", "000002"]

ROWS = [  # frame, label, visible, odds of the classes of stage 0, of stage 1
    (0, CAR, True, {CAR: 0.9, ROAD: 0.1}, {CAR: 0.9, ROAD: 0.1}),
    (0, ROAD, True, {CAR: 0.6, ROAD: 0.4}, {CAR: 0.1, ROAD: 0.9}),  # stage 0 wrong, the mean right
    # The mean of probabilities says car (0.45 to 0.35), the product of them building.
    (0, CAR, True, {CAR: 0.9, BUILDING: 0.1}, {CAR: 1e-4, BUILDING: 0.6, ROAD: 0.4 - 1e-4}),
    (0, ROAD, True, {0: 0.9, ROAD: 0.1}, {0: 0.9, ROAD: 0.1}),  # class 0 is never predicted
    (0, 0, True, {CAR: 1.0}, {CAR: 1.0}),  # no label
    (0, ROAD, False, {CAR: 1.0}, {CAR: 1.0}),  # hidden
    (1, ROAD, True, {ROAD: 1.0}, {BUILDING: 1.0}),
    (1, CAR, True, {ROAD: 0.6, CAR: 0.4}, {ROAD: 0.6, CAR: 0.4}),
    (2, CAR, True, {CAR: 1.0}, {CAR: 1.0}),  # a scan without labels
]


@pytest.fixture
def scored(drive, tmp_path, write_index):
    """Return words for stores of ROWS. Frame 0: labelled and used; frame 1: labelled, not used; frame 2: unlabelled."""
    paths = {name: tmp_path / f"00.{name}" for name in ("frames", "selected", "projection", "targets")}
    frame, label, visible, *odds = zip(*ROWS, strict=True)
    frame = np.array(frame)
    point = 100 + np.arange(len(ROWS), dtype=np.uint32)
    for f, name in enumerate(FRAMES):
        raw = np.full(500, RAW[BUILDING], dtype=np.uint32)
        raw[point[frame == f]] = [RAW[label[k]] for k in np.flatnonzero(frame == f)]
        raw.tofile(drive / f"labels/{name}.label")
    rows = [{"frame": name, "points": 500, "labelled": name != "000002"} for name in FRAMES]
    write_index(paths["frames"], [row | {"class_points": [0] * 20} for row in rows])
    index.with_labels_of(paths["frames"], ["000000"], paths["selected"])
    about = {"sequence": "00", "frames": FRAMES, "provenance": {}}
    with store.create(paths["projection"], "projection", cameras=["a"], image_sizes={}, **about) as out:
        out.rows("point", (), np.uint32).append(point)
        out.rows("visible", (), np.bool_).append(np.array(visible))
        out.array("offsets", np.cumsum([0, *np.bincount(frame)]))
    logits = np.full((len(ROWS), 2, 20), -20.0)
    for s, stage in enumerate(odds):
        for k, of_class in enumerate(stage):
            logits[k, s, list(of_class)] = np.log(list(of_class.values()))
    with store.create(paths["targets"], "targets", **about) as out:
        out.rows("soft_label", (2, 8), np.uint8).append(encode(torch.from_numpy(logits)))
    return {"data": drive.parents[1], **paths}


def evaluate(paths, out):
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    evaluate_teacher.main(["--dataset", "toy", "--teacher", "hand", *words, "--out", str(out)])
    return json.loads(out.read_text())


def scores(accuracy, **iou):
    return {"accuracy": pytest.approx(accuracy), "miou": pytest.approx(np.mean(list(iou.values()))), "iou": iou}


def test_exact_numbers(scored, tmp_path):
    result = evaluate(scored, tmp_path / "results" / "toy_hand_points.json")
    keys = [
        "dataset",
        "labels_seed",
        "teacher",
        "oracle",
        "note",
        "classes",
        "known_classes",
        "split",
        "sequences",
        "all",
        "labelled",
        "unlabelled",
        "targets",
        "aggregated",
        "reach_scans",
    ]
    assert list(result) == [*keys, "versions", "commit"]
    assert (result["dataset"], result["teacher"], result["oracle"]) == ("toy", "hand", None)
    assert result["labelled"] == {
        "scans": 1,
        "points": 4,
        # Stage 0 predicts car, car for a road, car, road. Stage 1 predicts car, road, building for a car, road.
        "stages": [scores(3 / 4, car=2 / 3, road=1 / 2), scores(3 / 4, car=1 / 2, road=1.0)],
        "mean": scores(1.0, car=1.0, road=1.0),
    }
    unlabelled = result["unlabelled"]
    assert (unlabelled["scans"], unlabelled["points"]) == (1, 2)
    assert unlabelled["stages"] == [scores(1 / 2, car=0.0, road=1 / 2), scores(0.0, car=0.0, road=0.0)]
    together = result["all"]
    assert (together["scans"], together["points"]) == (2, 6)
    assert together["stages"] == [scores(4 / 6, car=2 / 4, road=2 / 4), scores(3 / 6, car=1 / 3, road=2 / 4)]
    # Whole scans: only frame 1, whose labels students do not use. Two of its 500 labelled points have a soft label.
    assert (result["reach_scans"], result["aggregated"]) == ("unlabelled", None)
    reach = result["targets"]
    assert {name: (group["points"], group["coverage"]) for name, group in reach.items()} == {
        "all": (500, 2 / 500),
        "own": (2, 1.0),
        "unseen": (498, 0.0),
        "moving": (0, None),
    }
    mean = unlabelled["mean"]
    assert (reach["own"]["accuracy"], reach["own"]["miou"]) == (mean["accuracy"], mean["miou"])
    assert (reach["unseen"]["accuracy"], reach["moving"]["miou"]) == (None, None)


def test_aggregated_soft_labels_are_scored_beside_those_of_the_frame(scored, drive, tmp_path):
    """Of frame 1: the points 106 (road) and 107 (car) are its own; 108 is a moving car; the others are buildings."""
    raw = np.fromfile(drive / "labels/000001.label", np.uint32)
    raw[108] = 252
    raw.tofile(drive / "labels/000001.label")
    found = {"000000": [(100, CAR)], "000001": [(106, ROAD), (107, CAR), (108, CAR), (120, ROAD)], "000002": []}
    own, about = {106, 107}, {"sequence": "00", "frames": FRAMES, "provenance": {}}
    with store.create(tmp_path / "aggregated", "aggregated", **about) as out:
        rows = [row for frame in FRAMES for row in found[frame]]
        out.rows("point", (), np.uint32).append(np.array([point for point, _ in rows]))
        logits = torch.zeros(len(rows), 20)
        logits[range(len(rows)), [label for _, label in rows]] = 3.0
        out.rows("soft_label", (8,), np.uint8).append(encode(logits))
        out.rows("views", (), np.uint8).append(np.ones(len(rows)))
        out.rows("own", (), np.bool_).append(np.array([point in own for point, _ in rows]))
        out.array("offsets", np.cumsum([0, *(len(found[frame]) for frame in FRAMES)]))
    result = evaluate(scored | {"aggregated": tmp_path / "aggregated"}, tmp_path / "points.json")["aggregated"]
    scores_of = {name: (g["points"], g["coverage"], g["accuracy"]) for name, g in result.items()}
    assert scores_of == {
        "all": (500, 4 / 500, 3 / 4),
        "own": (2, 1.0, 1.0),
        "unseen": (498, 2 / 498, 1 / 2),
        "moving": (1, 1 / 1, 1.0),
    }
    assert result["all"]["iou"] == {"car": 1.0, "road": 0.5, "building": 0.0}
    table = (tmp_path / "points.md").read_text()
    assert "| aggregated | points that no camera sees in this frame | 0.4 | 50.0 | 50.0 |" in table
    assert "| one frame | points that no camera sees in this frame | 0.0 | - | - |" in table


def test_the_table_states_the_use_of_the_labels(scored, tmp_path):
    evaluate(scored, tmp_path / "points.json")
    table = (tmp_path / "points.md").read_text()
    assert "labels are hidden from training: they are used only here, to evaluate the teacher." in table
    assert "| labelled scans | stage 1 | 75.0 | 75.0 | 2 |" in table
    assert "| all scans | mean of stages |" in table
    assert "building" not in table  # it does not occur in the truth


def test_an_empty_group_is_null(scored, tmp_path):
    every = evaluate(scored | {"selected": scored["frames"]}, tmp_path / "points.json")
    assert every["unlabelled"] is None
    assert every["labelled"] == every["all"]
    none = tmp_path / "none.parquet"
    index.with_labels_of(scored["frames"], [], none)
    assert evaluate(scored | {"selected": none}, tmp_path / "none.json")["labelled"] is None
    with pytest.raises(InputError, match=r"no visible point of .* has a label"):
        evaluate(scored | {"frames": none, "selected": none}, tmp_path / "nothing.json")


def test_an_oracle_is_named_as_one(scored, tmp_path):
    """The store names it an oracle, and so do the result and the table."""
    from elite_pipeline.evaluation.oracle import NOTE

    oracle, about = tmp_path / "oracle", {"sequence": "00", "frames": FRAMES, "provenance": {}}
    with store.create(oracle, "targets", oracle={"accuracy": 0.8, "seed": 0}, note=NOTE, **about) as out:
        out.rows("soft_label", (2, 8), np.uint8).append(encode(torch.zeros(len(ROWS), 2, 20)))
    result = evaluate(scored | {"targets": oracle}, tmp_path / "points.json")
    assert result["oracle"] == {"accuracy": 0.8, "seed": 0}
    assert NOTE in (tmp_path / "points.md").read_text()


def test_the_classes_that_a_teacher_does_not_know_are_named(scored, tmp_path):
    targets, about = tmp_path / "network", {"sequence": "00", "frames": FRAMES, "provenance": {}}
    known = [name for name in CLASSES.evaluated if name not in ("road", "trunk")]
    with store.create(targets, "targets", known_classes=known, **about) as out:
        out.rows("soft_label", (1, 8), np.uint8).append(encode(torch.eye(20)[np.full((len(ROWS), 1), CAR)]))
    result = evaluate(scored | {"targets": targets}, tmp_path / "points.json")
    assert result["known_classes"] == known
    assert result["all"]["mean"] == scores(3 / 6, car=3 / 6, road=0.0), "unknown roads count as wrong"
    assert "The teacher does not know road, trunk: their points count as wrong." in (tmp_path / "points.md").read_text()


def test_a_store_with_only_features_is_refused(scored, tmp_path):
    targets, about = tmp_path / "frozen", {"sequence": "00", "frames": FRAMES, "provenance": {}}
    with store.create(targets, "targets", **about) as out:
        out.rows("patch_feature", (1, 8), np.int8).append(np.zeros((1, 1, 8)))
        out.rows("point_patch", (), np.uint16).append(np.zeros(len(ROWS)))
        out.array("patch_offsets", np.array([0, 1, 1, 1]))
        out.array("patch_scale", np.ones((1, 8), np.float32))
    with pytest.raises(InputError, match=r"frozen holds no soft labels.*Add logits"):
        evaluate(scored | {"targets": targets}, tmp_path / "points.json")


def test_an_index_of_other_frames_is_refused(scored, tmp_path, write_index):
    other = tmp_path / "other.parquet"
    row = {"points": 500, "labelled": True, "class_points": [0] * 20}
    write_index(other, [{"frame": name, **row} for name in FRAMES[:2]])
    with pytest.raises(InputError, match=r"other\.parquet holds other frames"):
        evaluate(scored | {"selected": other}, tmp_path / "points.json")
