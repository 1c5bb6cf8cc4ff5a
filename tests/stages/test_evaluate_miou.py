"""evaluate_miou: the documented keys, and every labelled point counted once."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from elite_pipeline.config.validation import flatten
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.coarse_classes import coarse_classes
from elite_pipeline.errors import InputError
from elite_pipeline.evaluation import metrics, tta
from elite_pipeline.recordings import index
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.stages import evaluate_miou, train_student
from elite_pipeline.store import Projection
from elite_pipeline.student.model import Predictor

CLASSES = class_table("semantickitti")
KEYS = [
    *("experiment", "dataset", "labels_seed", "split", "sequences", "coarse", "absent"),
    *("miou", "accuracy", "miou_frequent"),
    *("frequent_classes", "seen", "seen_classes", "miou_seen", "miou_unseen", "accuracy_seen", "accuracy_unseen"),
    *("known_classes", "miou_known", "iou", "confusion", "places", "colours"),
    *("points", "scans", "tta", "votes", "trained_on", "training_scans", "labelled_scans", "labelled_classes"),
    *("taught", "teacher", "oracle", "zero_shot", "pretrained", "steps", "presentations"),
    *("weights_sha256", "parameters", "config", "versions", "device", "commit", "seconds"),
]


@pytest.fixture
def model(taught, student_settings, tmp_path):
    out = tmp_path / "models" / "demo"
    files = [word for name, path in taught.items() for word in (f"--{name}", str(path))]
    run = ["--run", str(out / "run"), "--out", str(out)]
    train_student.main([*files, *run, *flatten(student_settings.model_dump(mode="json"))])
    return out


def evaluate(taught, model, out, *settings, experiment="demo"):
    about = ["--experiment", experiment, "--dataset", "toy", "--model", str(model)]
    files = ["--data", str(taught["data"]), "--frames", str(taught["frames"])]
    evaluate_miou.main([*about, *files, "--out", str(out), *settings])
    return json.loads(out.read_text())


def test_result_has_the_documented_keys_and_counts(taught, model, tmp_path):
    result = evaluate(taught, model, tmp_path / "results" / "demo_miou.json")
    assert list(result) == KEYS
    assert (result["split"], result["sequences"], result["trained_on"]) == ("val", ["00"], ["00"])
    assert (result["tta"], result["votes"]) == (False, 1)
    assert list(result["iou"]) == list(result["colours"]) == CLASSES.evaluated
    assert result["miou"] == pytest.approx(np.mean(list(result["iou"].values())))
    assert (result["miou_known"], result["known_classes"]) == (result["miou"], CLASSES.evaluated)
    assert (result["scans"], result["points"]) == (2, 1000)  # frame 2 is unlabelled
    assert np.sum(result["confusion"]) == 1000
    assert np.sum(result["confusion"], axis=0)[0] == 0  # nothing is predicted as `IGNORE`
    table = (tmp_path / "results" / "demo_miou.md").read_text()
    assert table == metrics.table(result)
    assert table.count("\n| ") == 22
    assert "augmentation" not in table


def test_states_the_training_data_of_the_student(taught, model, tmp_path):
    trained = json.loads((model / "config.json").read_text())
    counts = {"car": 12, "road": 0}
    (model / "config.json").write_text(json.dumps(trained | {"labelled_classes": counts}))
    result = evaluate(taught, model, tmp_path / "demo-seed7_miou.json", experiment="demo-seed7")
    assert result["experiment"] == "demo-seed7"
    assert (result["training_scans"], result["labelled_scans"], result["taught"]) == (3, 2, True)
    assert (result["steps"], result["labelled_classes"]) == (trained["steps"], counts)
    assert result["presentations"] == trained["presentations"] > 0
    assert (result["zero_shot"], result["pretrained"], result["teacher"]) == (False, None, None)
    assert "distilled from" not in (tmp_path / "demo-seed7_miou.md").read_text()
    assert result["known_classes"] == CLASSES.evaluated
    (model / "config.json").write_text(json.dumps(trained | {"format_version": 1, "classes": list(CLASSES.names)}))
    with pytest.raises(InputError, match=r"config\.json is of format .* version 1; .* version 2.*Train the student"):
        evaluate(taught, model, tmp_path / "older_miou.json")
    assert not (tmp_path / "older_miou.json").exists()


def test_coarse_classes_of_another_class_table(taught, model, tmp_path):
    """The same drive with nuScenes' classes: the counts are those of its own classes, joined."""
    table = coarse_classes("semantickitti_to_nuscenes")
    (_, of_own), (nuscenes, of_other) = table.members
    first = {int(k): int(np.flatnonzero(of_other == k)[0]) for k in of_own}
    training_ids = {raw: first[int(of_own[k])] for raw, k in CLASSES.training_ids.items()}
    known, path = index.read(taught["frames"]), tmp_path / "other.parquet"
    rows = index.pq.read_table(taught["frames"]).to_pylist()
    rows = [row | {"class_points": [0] * len(nuscenes)} for row in rows]
    index.write(path, rows, replace(known.source, classes=replace(nuscenes, training_ids=training_ids)))
    own = evaluate(taught, model, tmp_path / "own_miou.json")
    with pytest.raises(InputError, match=r"class table semantickitti and .* class table nuscenes, but they differ"):
        evaluate(taught | {"frames": path}, model, tmp_path / "demo_miou.json")
    result = evaluate(taught | {"frames": path}, model, tmp_path / "demo_miou.json", f'coarse="{table.name}"')
    join = np.eye(len(table.classes), dtype=int)[of_own]
    np.testing.assert_array_equal(result["confusion"], join.T @ own["confusion"] @ join)
    assert list(result["iou"]) == result["known_classes"] == table.classes.evaluated
    assert result["miou"] == metrics.mean_iou(result["confusion"])
    assert (result["coarse"], own["coarse"]) == (table.name, None)
    text = (tmp_path / "demo_miou.md").read_text()
    assert "on the coarse classes of semantickitti_to_nuscenes: no official score." in text


def test_drives_of_another_class_table_are_refused(taught, model, tmp_path):
    """The error names both tables, their owners and their first difference. Different colours are allowed."""
    known, path = index.read(taught["frames"]), tmp_path / "other.parquet"
    rows = index.pq.read_table(taught["frames"]).to_pylist()
    renamed = tuple("lorry" if name == "truck" else name for name in CLASSES.names)
    index.write(path, rows, replace(known.source, classes=replace(CLASSES, name="my.yaml", names=renamed)))
    with pytest.raises(InputError) as error:
        evaluate(taught | {"frames": path}, model, tmp_path / "demo_miou.json")
    said = str(error.value)
    assert f"{model} has the class table semantickitti and {path} has the class table my.yaml" in said
    assert "training id 4 is 'truck' in the first and 'lorry' in the second" in said
    assert not (tmp_path / "demo_miou.json").exists()
    grey = replace(CLASSES, name="grey.yaml", colours=((90, 90, 90),) * 20)
    index.write(path, rows, replace(known.source, classes=grey))
    result = evaluate(taught | {"frames": path}, model, tmp_path / "demo_miou.json")
    assert result["points"] == 1000
    assert result["colours"]["car"] == "#{:02x}{:02x}{:02x}".format(*CLASSES.colours[1]), "the model's"


def test_accuracy_rare_classes_and_places_follow_from_the_confusion_matrix(taught, model, tmp_path):
    result = evaluate(taught, model, tmp_path / "demo_miou.json")
    confusion = np.array(result["confusion"])
    assert result["accuracy"] == pytest.approx(np.trace(confusion[1:, 1:]) / confusion[1:].sum())
    assert result["places"] == {"00": result["confusion"]}
    points = dict(zip(CLASSES.evaluated, confusion[1:].sum(axis=1), strict=True))
    present = sorted((name for name in points if points[name]), key=points.__getitem__)
    assert len(present) == 5
    assert set(result["frequent_classes"]) == set(present[3:])
    assert result["miou_frequent"] == pytest.approx(np.mean([result["iou"][name] for name in present[3:]]))
    page = (tmp_path / "demo_miou.md").read_text()
    assert f"Accuracy: {100 * result['accuracy']:.1f} % of the evaluated points." in page
    assert "| **mean without the rarest: " in page
    assert result["seen"] is result["seen_classes"] is result["miou_seen"] is None, "project_points was not given"
    assert "cameras see" not in page


def test_seen_points_are_those_that_project_points_finds_visible(
    recorded, untrained_model, projection_settings, tmp_path
):
    """Two cameras of different sizes; one has no image of frame 1, the other none of frame 0. Frame 2 is unlabelled."""
    result = evaluate(recorded, untrained_model, tmp_path / "demo_miou.json", *projection_settings)
    stored, predict = Projection(recorded["projection"]), Predictor.load(untrained_model, "cpu")
    sequence, confusion = Recorded(recorded["data"], recorded["frames"]), np.zeros((2, 20, 20), dtype=int)
    for f in (0, 1):
        rows, seen = stored.frame_rows(f), np.zeros(500, dtype=int)
        seen[stored.read("point", rows)[stored.read("visible", rows)]] = 1
        assert 0 < seen.sum() < 500
        np.add.at(confusion, (seen, sequence.labels(f), predict(sequence.points(f))), 1)
    unseen, seen = confusion
    assert result["confusion"] == (seen + unseen).tolist()
    both = [k for k in range(1, 20) if seen[k].sum() and unseen[k].sum()]
    assert result["seen_classes"] == [CLASSES.names[k] for k in both]
    for group, counts in (("seen", seen), ("unseen", unseen)):
        assert result[f"miou_{group}"] == pytest.approx(metrics.class_iou(counts)[both].mean())
        assert result[f"accuracy_{group}"] == pytest.approx(np.trace(counts[1:, 1:]) / counts[1:].sum())
    assert result["seen"] == pytest.approx(seen[1:].sum() / confusion[:, 1:].sum())
    page = (tmp_path / "demo_miou.md").read_text()
    assert f"Points that the cameras see in the frame ({100 * result['seen']:.1f} %): " in page
    assert f"over the {len(both)} classes that have points in both groups" in page


@pytest.mark.parametrize("missing", ["images", "calibration"])
def test_without_images_or_calibration_nothing_is_known_of_seen_points(
    recorded, untrained_model, projection_settings, tmp_path, missing, capsys
):
    sequence = recorded["data"] / "sequences/00"
    for path in sequence.glob("image_*/*" if missing == "images" else "calib.txt"):
        path.unlink()
    result = evaluate(recorded, untrained_model, tmp_path / "demo_miou.json", *projection_settings)
    keys = ("seen", "seen_classes", "miou_seen", "miou_unseen", "accuracy_seen", "accuracy_unseen")
    assert [result[key] for key in keys] == [None] * 6
    reason = "has no image of any camera" if missing == "images" else "calib.txt: is missing"
    assert reason in capsys.readouterr().out
    assert result["points"] == 1000


def test_states_the_split_and_the_seed_of_the_labels(taught, model, tmp_path):
    result = evaluate(taught, model, tmp_path / "demo-seed3_miou_test.json", 'split="test"', "labels_seed=3")
    assert (result["split"], result["labels_seed"], result["dataset"]) == ("test", 3, "toy")
    assert "of toy (test)" in (tmp_path / "demo-seed3_miou_test.md").read_text()
    with pytest.raises(InputError, match="split"):
        evaluate(taught, model, tmp_path / "train_miou.json", 'split="train"')


@pytest.mark.parametrize(("teacher", "oracle"), [("oracle_like", None), ("right", {"accuracy": 0.8, "seed": 0})])
def test_names_the_teacher_and_calls_an_oracle_a_diagnostic(taught, model, tmp_path, teacher, oracle):
    settings = f'teacher="{teacher}"', f"oracle={json.dumps(oracle)}"
    result = evaluate(taught, model, tmp_path / "demo_miou.json", *settings)
    assert (result["teacher"], result["oracle"]) == (teacher, oracle)
    page = (tmp_path / "demo_miou.md").read_text()
    assert f"distilled from {teacher}" in page
    assert ("an oracle" in page) == ("not a result of the method" in page) == (oracle is not None)
    trained = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(trained | {"taught": False}))
    evaluate(taught, model, tmp_path / "demo_miou.json", f'teacher="{teacher}"')
    assert "distilled from" not in (tmp_path / "demo_miou.md").read_text(), "all weights of distillation may be 0"


def test_a_zero_shot_student_is_scored_over_the_classes_of_its_teacher(taught, model, tmp_path):
    trained, known = json.loads((model / "config.json").read_text()), ["car", "road", "sidewalk"]
    about = {"known_classes": known, "labelled_scans": 0, "pretrained": "udakd-seed3"}
    (model / "config.json").write_text(json.dumps(trained | about))
    result = evaluate(taught, model, tmp_path / "demo_miou.json")
    assert (result["zero_shot"], result["pretrained"], result["known_classes"]) == (True, "udakd-seed3", known)
    assert result["miou_known"] == pytest.approx(np.mean([result["iou"][name] for name in known]))
    assert result["miou_known"] != result["miou"]
    text = (tmp_path / "demo_miou.md").read_text()
    assert f"| **mean of the 3 known** | **{100 * result['miou_known']:.1f}** |" in text
    assert "zero-shot" in text.splitlines()[0]
    assert "udakd-seed3" in text
    (model / "config.json").write_text(json.dumps(trained | about | {"taught": False}))
    assert evaluate(taught, model, tmp_path / "demo_miou.json")["zero_shot"] is False, "it had no teacher"


def test_augmented_score_uses_the_summed_votes_and_says_so(taught, model, tmp_path):
    weights, rng = load_file(model / "student.safetensors"), np.random.default_rng(0)
    for name in (name for name in weights if name.startswith("classifier")):
        # After three training steps the student may predict one class everywhere, and all votes would agree.
        weights[name] = rng.standard_normal(weights[name].shape, dtype=np.float32)
    save_file(weights, model / "student.safetensors")
    plain = evaluate(taught, model, tmp_path / "demo_miou.json")
    result = evaluate(taught, model, tmp_path / "demo_miou_tta.json", "votes=5")
    assert list(result) == KEYS
    assert (result["tta"], result["votes"]) == (True, 5)
    predict, confusion = Predictor.load(model, "cpu"), np.zeros((20, 20), dtype=int)
    for seed, frame in enumerate(("000000", "000001")):
        points = np.fromfile(taught["data"] / "sequences/00/velodyne" / f"{frame}.bin", np.float32).reshape(-1, 4)
        truth = Recorded(taught["data"], taught["frames"]).labels(seed)
        np.add.at(confusion, (truth, tta.vote(predict, points, 5, seed)), 1)
    assert result["confusion"] == confusion.tolist()
    assert result["confusion"] != plain["confusion"]
    assert result["miou"] == metrics.mean_iou(confusion)
    title = (tmp_path / "demo_miou_tta.md").read_text().splitlines()[0]
    assert title.endswith("with test-time augmentation, 5 passes: not comparable with single-pass numbers")
    again = evaluate(taught, model, tmp_path / "again_miou_tta.json", "votes=5")
    assert {key: again[key] for key in KEYS if key != "seconds"} == {k: result[k] for k in KEYS if k != "seconds"}
    one = evaluate(taught, model, tmp_path / "one_miou_tta.json", "votes=1")
    assert (one["tta"], one["votes"], one["confusion"]) == (True, 1, plain["confusion"])


@pytest.mark.parametrize("votes", ["0", "1.5", "true"])
def test_bad_votes_are_refused(taught, tmp_path, votes):
    with pytest.raises(InputError, match="votes"):
        evaluate(taught, tmp_path / "nowhere", tmp_path / "demo_miou_tta.json", f"votes={votes}")


def test_scores_the_predictions_themselves(taught, model, tmp_path):
    predict = Predictor.load(model, "cpu")
    for frame in ("000000", "000001"):
        points = np.fromfile(taught["data"] / "sequences/00/velodyne" / f"{frame}.bin", np.float32).reshape(-1, 4)
        predict.classes.to_raw(predict(points)).tofile(taught["data"] / "sequences/00/labels" / f"{frame}.label")
    result = evaluate(taught, model, tmp_path / "demo_miou.json")
    present = np.count_nonzero(np.sum(result["confusion"], axis=1))
    assert result["miou"] == pytest.approx(present / 19)


def test_nothing_labelled_is_an_error(taught, model, tmp_path, write_index):
    write_index(taught["frames"], [{"frame": "000000", "points": 500, "labelled": False, "class_points": [0] * 20}])
    with pytest.raises(InputError, match="give sequences with labels"):
        evaluate(taught, model, tmp_path / "demo_miou.json")
    assert not (tmp_path / "demo_miou.json").exists()
