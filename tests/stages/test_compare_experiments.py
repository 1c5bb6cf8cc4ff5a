"""compare_experiments: from the words of the rule to the documented keys and a readable table."""

import json
from pathlib import Path

import numpy as np
import pytest

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.errors import InputError
from elite_pipeline.stages.compare_experiments import main

CLASSES = class_table("semantickitti").evaluated
DATASET = {"labelled": 0.5, "select_labels": {"by": "interval", "seed": 0}}
LABELS = {"0.5 of all: plain": None, "taught, sam": "sam"}
KEYS = [
    *("comparison", "absent", "figure", "experiments", "differences", "evaluated", "intervals", "config", "teachers"),
    *("datasets", "device", "versions", "commit", "seconds"),
]
OF_EXPERIMENT = [
    *("experiment", "student", "pretraining", "teacher", "oracle", "arm", "setting", "dataset", "labelled"),
    *("labelled_scans", "distilled"),
    *("labeller", "seeds", "miou", "mean", "sd", "accuracy", "miou_frequent", "miou_seen", "miou_unseen"),
    *("presentations", "iou", "miou_known", "known_classes", "steps", "teacher_points", "commits"),
]


@pytest.fixture
def words(tmp_path):
    """Return the words for two experiments with one seed, 50 of 80 scans labelled, mIoU 0.25 and 0.375."""
    results, experiments = [], {}
    for number, (label, teacher) in enumerate(LABELS.items()):
        name, miou = f"arm_{number}", 0.25 + 0.125 * number
        about = {"experiment": f"{name}-seed4", "dataset": "toy", "taught": teacher is not None, "miou": miou}
        about |= {"sequences": ["08"], "points": 20, "scans": 1, "tta": False, "steps": 7, "commit": None}
        confusion = np.eye(20, dtype=int)
        confusion[9] = np.roll(confusion[9], number)  # so that predicted points differ from true points
        about |= {"labels_seed": None, "split": "val", "accuracy": miou, "miou_frequent": miou, "presentations": 14}
        about |= {"frequent_classes": CLASSES[:-3], "miou_seen": None, "miou_unseen": None}
        about |= {"places": {"08": confusion.tolist()}}
        about |= {"labelled_scans": 50, "training_scans": 80, "device": "a machine"}
        about |= {"iou": dict.fromkeys(CLASSES, miou), "confusion": confusion.tolist()}
        about |= {"config": {"train_student": {"seed": 4, "epochs": 2}}}
        results.append(tmp_path / f"{name}-seed4_miou.json")
        results[-1].write_text(json.dumps(about))
        experiments[label] = {
            "experiment": name,
            "dataset": "toy",
            "teacher": teacher,
            "student": "s",
            "labeller": None,
        }
    points = {"dataset": "toy", "teacher": "sam", "all": {"mean": {"accuracy": 0.9, "miou": 0.5}}, "unlabelled": None}
    (tmp_path / "toy_sam_points.json").write_text(json.dumps(points))
    pair = list(LABELS)[::-1]
    settings = {"comparison": "c", "experiments": experiments, "seeds": [4], "differences": [pair]}
    settings |= {"teachers": {"sam": {"rank": 8}}, "datasets": {"toy": DATASET}}
    files = ["--results", *map(str, results), "--teachers", str(tmp_path / "toy_sam_points.json")]
    return [
        *files,
        "--out",
        str(tmp_path / "c_comparison.json"),
        *(f"{k}={json.dumps(v)}" for k, v in settings.items()),
    ]


def test_writes_the_documented_keys(words, tmp_path):
    main(words)
    result = json.loads((tmp_path / "c_comparison.json").read_text())
    assert list(result) == KEYS
    assert list(result["experiments"]) == list(LABELS), "in the order of the configuration, labels unchanged"
    assert all(list(e) == OF_EXPERIMENT for e in result["experiments"].values())
    plain, taught = result["experiments"].values()
    assert (plain["labelled"], plain["sd"], plain["teacher_points"]) == (0.625, None, None)
    assert (taught["distilled"], taught["teacher_points"]) == (True, {"accuracy": 0.9, "miou": 0.5})
    gain = result["differences"]["taught, sam - 0.5 of all: plain"]
    assert (gain["mean"], gain["sd"], gain["seeds"]) == (0.125, None, [0.125])
    assert gain["over_seeds"] is gain["over_places"] is None
    assert result["evaluated"] == {"split": "val", "sequences": ["08"], "scans": 1, "points": 20} | {
        "class_points": dict.fromkeys(CLASSES, 1),
        "frequent_classes": CLASSES[:-3],
    }
    assert result["config"] == {"s": {"train_student": {"epochs": 2}}}
    assert (result["teachers"], result["datasets"]) == ({"sam": {"rank": 8}}, {"toy": DATASET})
    text = (tmp_path / "c_comparison.md").read_text()
    assert "| 2 | taught, sam | 50 (62.5 %) | 50.0 (90.0) | 37.5 | 37.5 |" in text
    assert "unknown: one seed, one place" in text


def test_a_pretraining_and_a_student_without_labels(words, tmp_path):
    """One student has a pre-trained backbone. The other saw no labels and knows two classes; one of them occurs."""
    files, experiments = words[1:3], json.loads(words[8].partition("=")[2])
    about = [{"pretrained": "udakd-seed4"}, {"labelled_scans": 0, "known_classes": ["car", "road"]}]
    for path, more in zip(files, about, strict=True):
        Path(path).write_text(json.dumps(json.loads(Path(path).read_text()) | more))
    with pytest.raises(InputError, match="its pre-trained backbone is 'udakd-seed4', but the comparison needs None"):
        main(words)
    experiments["0.5 of all: plain"]["pretraining"] = "slidr"
    words[8] = f"experiments={json.dumps(experiments)}"
    with pytest.raises(InputError, match="backbone is 'udakd-seed4', but the comparison needs 'slidr-seed4'"):
        main(words)
    words[8] = words[8].replace("slidr", "udakd")
    main(words)
    plain, taught = json.loads((tmp_path / "c_comparison.json").read_text())["experiments"].values()
    assert (plain["pretraining"], taught["pretraining"]) == ("udakd", None)
    assert (taught["labelled"], taught["labelled_scans"], taught["known_classes"]) == (0, 0, ["car", "road"])
    text = (tmp_path / "c_comparison.md").read_text()
    assert "| 2 | taught, sam | none: zero-shot | 50.0 (90.0) | 37.5 |" in text
    assert "Experiments with a pre-trained backbone (of the same seed): `udakd`: #1." in text
    assert "The means over the known classes are: #2 37.5 over 2." in text


def test_a_difference_of_unknown_experiments_is_refused(words, tmp_path):
    with pytest.raises(InputError, match="differences name"):
        main([*words[:-1], 'differences=[["taught, sam", "nobody"]]'])
    assert not (tmp_path / "c_comparison.json").exists()
