"""The official score, derived again from its definition, and the differences that make other metrics too high."""

import json
from dataclasses import replace

import numpy as np
import pytest

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.evaluation.metrics import (
    accuracy,
    class_iou,
    frequent_classes,
    frequent_miou,
    mean_iou,
    seen_scores,
    table,
    unknown_classes,
)
from elite_pipeline.evaluation.whole_scans import Counted, scores

CLASSES = 20


def confusion(truth, prediction):
    counted = Confusion(class_table("semantickitti"))
    counted.add(truth, prediction)
    return counted.counts


def official(prediction, truth):
    """Return (mean IoU, IoU per class) by the definition of semantic-kitti-api, point by point."""
    counts = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    np.add.at(counts, (prediction, truth), 1)  # rows: predictions
    counts = counts.astype(np.float64)
    counts[:, 0] = 0  # ground truth 0 is ignored, predictions of 0 are not
    hits = np.array([counts[c, c] for c in range(CLASSES)])
    false_positives = np.array(
        [sum(counts[c, other] for other in range(CLASSES) if other != c) for c in range(CLASSES)]
    )
    misses = np.array([sum(counts[other, c] for other in range(CLASSES) if other != c) for c in range(CLASSES)])
    iou = hits / (hits + false_positives + misses + 1e-15)
    return iou[1:].mean(), iou


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_official_definition(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES - 3, 5000)  # three classes absent
    prediction = np.where(rng.random(5000) < 0.6, truth, rng.integers(0, CLASSES, 5000)).astype(np.uint8)
    counts = confusion(truth, prediction)
    miou, iou = official(prediction, truth)
    assert mean_iou(counts) == pytest.approx(miou, abs=1e-12)
    np.testing.assert_allclose(class_iou(counts)[1:], iou[1:])


def test_sums_over_scans_are_one_score():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, CLASSES, (2, 1000))
    parts = confusion(truth[:300], prediction[:300]) + confusion(truth[300:], prediction[300:])
    np.testing.assert_array_equal(parts, confusion(truth, prediction))


def test_a_prediction_of_ignore_is_a_miss():
    truth = np.repeat(np.arange(1, CLASSES), 20)
    prediction = truth.copy()
    prediction[::20] = 0
    assert mean_iou(confusion(truth, truth)) == 1
    assert mean_iou(confusion(truth, prediction)) == pytest.approx(0.95)


def test_predictions_on_unlabelled_points_do_not_count():
    truth, prediction = np.array([1, 0, 0, 0]), np.array([1, 1, 2, 3])
    assert class_iou(confusion(truth, prediction))[1] == pytest.approx(1)


def test_an_absent_class_counts_as_zero():
    truth = np.arange(1, 11)
    assert mean_iou(confusion(truth, truth)) == pytest.approx(10 / 19)
    assert mean_iou(np.zeros((CLASSES, CLASSES), dtype=np.int64)) == 0


LEFT_OUT = "left out"


def test_nuscenes_leaves_out_a_class_without_truth_and_prediction():
    """Class 3 is predicted only, and counts as 0. A point predicted as 0 does not count, nor one labelled 0."""
    counts = confusion(np.array([1, 1, 1, 2, 2, 0, 0]), np.array([1, 1, 3, 2, 0, 1, 5]))
    iou = class_iou(counts, LEFT_OUT)
    assert iou[1:4].tolist() == [2 / 3, 1, 0]
    assert np.isnan(np.delete(iou, [1, 2, 3])).all()
    assert mean_iou(counts, absent=LEFT_OUT) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert mean_iou(counts, [1, 4], LEFT_OUT) == pytest.approx(2 / 3)
    assert np.isnan(mean_iou(counts, [4, 5], LEFT_OUT))
    assert mean_iou(counts) == pytest.approx((2 / 3 + 1 / 2) / 19), "SemanticKITTI: the 0 is a miss, absent ones are 0"


def test_both_protocols_agree_where_every_class_occurs():
    counts = np.random.default_rng(2).integers(1, 1000, (CLASSES, CLASSES))
    counts[:, 0] = 0
    np.testing.assert_allclose(class_iou(counts, LEFT_OUT)[1:], class_iou(counts)[1:], rtol=1e-15)
    assert frequent_miou(counts, LEFT_OUT) == pytest.approx(frequent_miou(counts), rel=1e-15)


def test_scores_of_the_class_table_that_leaves_absent_classes_out():
    classes = replace(class_table("semantickitti"), absent=LEFT_OUT)
    counted = Counted({"a": confusion(np.array([1, 1, 0]), np.array([1, 2, 3]))}, None, 1)
    found = scores(counted, classes, ["car", "bus"])
    assert (found["absent"], found["miou"], found["miou_known"], found["miou_seen"]) == (LEFT_OUT, 0.25, 0.5, None)
    assert {name: value for name, value in found["iou"].items() if value is not None} == {"car": 0.5, "bicycle": 0}
    assert scores(counted, classes, ["road"])["miou_known"] is None
    json.dumps(found, allow_nan=False)
    with pytest.raises(InputError, match="all points are labelled 'unlabeled'"):
        scores(Counted({"a": confusion(np.array([0, 0]), np.array([3, 1]))}, None, 1), classes, ["car"])


def test_real_labels_score_as_the_official_definition_says(sample, open_drive):
    """With 5 % of the points predicted as 0 the official formula is below 1; ELiTe's own metric is 1.0000."""
    recording = open_drive(sample / "sequences/00")
    truth = recording.labels("000000", len(recording.points("000000")))
    prediction = np.where(np.random.default_rng(0).random(len(truth)) < 0.05, 0, truth)
    present = len(set(truth.tolist()) - {0})
    assert mean_iou(confusion(truth, prediction)) == pytest.approx(0.95 * present / 19, abs=0.01)


def test_mean_over_known_classes():
    """A road and a building that are predicted as cars count against cars in both means."""
    truth, prediction = np.array([1, 1, 9, 10, 10, 13]), np.array([1, 1, 9, 1, 9, 1])
    counts = confusion(truth, prediction)
    assert mean_iou(counts) == pytest.approx((2 / 4 + 1 / 2) / 19)
    assert mean_iou(counts, [1, 9, 11]) == pytest.approx((2 / 4 + 1 / 2) / 3)
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 1000, (CLASSES, CLASSES))
    assert mean_iou(counts, list(range(1, CLASSES))) == mean_iou(counts), "to the bit"


def test_accuracy_counts_a_prediction_of_ignore_as_a_miss_and_no_unlabelled_point():
    truth, prediction = np.array([1, 1, 2, 2, 0, 0]), np.array([1, 0, 2, 1, 0, 3])
    assert accuracy(confusion(truth, prediction)) == 2 / 4
    assert accuracy(np.zeros((CLASSES, CLASSES), dtype=int)) == 0


def test_the_rarest_three_of_the_classes_that_occur_are_left_out():
    """Absent classes are no rare classes. Of equally rare ones the last are left out."""
    counts = np.zeros((CLASSES, CLASSES), dtype=int)
    counts[0, 5] = 10**6  # unlabelled points are no class
    for k, points in {2: 900, 3: 7, 5: 50, 8: 7, 9: 50, 11: 7, 15: 400}.items():
        counts[k, k] = points
    assert frequent_classes(counts) == [2, 5, 9, 15]
    counts[3, 3] = 8
    counts[9, 9] = 5
    assert frequent_classes(counts) == [2, 3, 5, 15]
    counts[2, 9], counts[2, 2] = 450, 450
    assert frequent_classes(counts) == [2, 3, 5, 15], "predictions do not matter"
    assert frequent_miou(counts) == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    few = confusion(np.array([1, 2, 3]), np.array([1, 2, 3]))
    assert (frequent_classes(few), frequent_miou(few)) == ([], None)


def test_seen_and_unseen_are_means_over_the_classes_of_both_groups():
    """Class 4 has only seen points, class 7 only unseen ones. A wrong prediction counts in its own group alone."""
    seen = confusion(np.array([1, 1, 2, 4, 0]), np.array([1, 2, 2, 4, 1]))
    unseen = confusion(np.array([1, 2, 2, 7]), np.array([1, 2, 0, 1]))
    names = [f"class {k}" for k in range(1, CLASSES)]
    assert seen_scores(seen + unseen, seen, names) == {
        "seen": 4 / 8,
        "seen_classes": ["class 1", "class 2"],
        "miou_seen": pytest.approx((1 / 2 + 1 / 2) / 2),
        "miou_unseen": pytest.approx((1 / 2 + 1 / 2) / 2),
        "accuracy_seen": 3 / 4,
        "accuracy_unseen": 2 / 4,
    }
    assert set(seen_scores(seen, None, names).values()) == {None}
    nothing = seen_scores(seen, np.zeros_like(seen), names)
    assert (nothing["seen"], nothing["seen_classes"], nothing["miou_seen"]) == (0, [], None)
    assert (nothing["accuracy_seen"], nothing["accuracy_unseen"]) == (None, 3 / 4)
    rng = np.random.default_rng(1)
    halves = rng.integers(1, 100, (2, CLASSES, CLASSES))
    every = seen_scores(halves.sum(0), halves[0], names)
    assert every["miou_seen"] == mean_iou(halves[0]), "with points of every class in both: the official mean"


@pytest.fixture
def result():
    counts = confusion(np.arange(1, 20), np.arange(1, 20))
    names = [f"class {c}" for c in range(1, 20)]
    return {
        "experiment": "x", "miou": 0.5, "sequences": ["08"], "dataset": "d", "split": "val", "scans": 1, "points": 19,
        "parameters": 10, "trained_on": ["00"], "labelled_scans": 3, "confusion": counts.tolist(),
        "iou": dict.fromkeys(names, 0.25), "known_classes": names,
    }  # fmt: skip


def test_table_has_every_class(result):
    text = table(result)
    assert text.count("| 25.0 |") == 19
    assert text.startswith("# x: 50.0 % mIoU\n")
    assert "on sequences 00\n(3 labelled scans).\n\n| class" in text
    assert "| **mean of 19** | **50.0** | 19 |" in text
    assert "know" not in text


def test_table_of_a_protocol_that_leaves_classes_out(result):
    result["iou"] |= {"class 7": None, "class 9": 0.0}
    text = table(result | {"absent": LEFT_OUT})
    assert "Official nuScenes-lidarseg protocol, single pass. A class with neither" in text
    assert "| class 7 | - | 1 |\n" in text
    assert "| **mean of 18** | **50.0** |" in text
    assert "Official SemanticKITTI protocol, single pass. A class without points has an IoU of 0.\n" in table(result)


def test_table_names_the_classes_that_a_student_cannot_know(result):
    """With 2 of 19 classes unknown, the table states both means and names the unknown classes."""
    known = [name for name in result["iou"] if name not in ("class 4", "class 7")]
    result |= {"known_classes": known, "miou_known": 0.559, "zero_shot": True, "labelled_scans": 0}
    assert unknown_classes(result) == ["class 4", "class 7"]
    text = table(result)
    title = "# x: 50.0 % mIoU over all 19 classes, 55.9 % over the 17 that its teacher knows, zero-shot"
    assert text.splitlines()[0] == title
    assert "(zero-shot: no labelled scans, only its teacher's targets)." in text
    assert "Its teacher does not know class 4, class 7, and the student was not trained on labels" in text
    assert text.endswith("| **mean of 19** | **50.0** | 19 |\n| **mean of the 17 known** | **55.9** | 17 |\n")


def test_table_names_the_pretrained_backbone(result):
    text = table(result | {"pretrained": "udakd-seed1", "zero_shot": False})
    assert "(3 labelled scans; initialised with the pre-trained backbone udakd-seed1)." in text
    assert "zero-shot" not in text
