"""Comparisons: means and paired differences computed by hand, choice of baselines, and every error."""

import json

import numpy as np
import pytest

from elite_pipeline.comparison.intervals import over_places, over_seeds, resampled, resamples
from elite_pipeline.comparison.runs import baselines, compare, curves, difference
from elite_pipeline.comparison.table import table, verdict
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.errors import InputError
from elite_pipeline.figures.comparison_curves import arms
from elite_pipeline.stages.compare_experiments import CompareExperiments

CLASSES = class_table("semantickitti").names


@pytest.fixture
def settings():
    about = {"dataset": "streets_10", "student": "small", "labeller": None}
    experiments = {
        "plain": {**about, "experiment": "plain", "teacher": None},
        "taught | well": {**about, "experiment": "taught", "teacher": "sam", "student": "big", "labeller": "regions"},
    }
    pairs = [["taught | well", "plain"]]
    values = {"comparison": "x", "experiments": experiments, "seeds": [3, 1], "differences": pairs}
    return CompareExperiments.model_validate(values)


def confusions(right):
    """Confusion matrices of two places: 300 points of cars and 900 of road, `right` of the road's rightly predicted."""
    places = {"08": np.zeros((20, 20), dtype=int), "09": np.zeros((20, 20), dtype=int)}
    places["08"][1, 1], places["08"][0, 9] = 300, 50
    places["09"][9, 9], places["09"][9, 1] = right, 900 - right
    return places


def write_miou(folder, experiment, seed, miou):
    """Writes an mIoU result: 10 of 100 scans labelled; IoU of road is `miou`, of car 0.1 more; no other classes."""
    places = confusions(850 if experiment == "taught" else 800)
    path = folder / f"{experiment}-seed{seed}_miou.json"
    result = {
        "experiment": f"{experiment}-seed{seed}",
        "dataset": "streets_10",
        **{"labels_seed": None, "split": "val", "sequences": ["08", "09"]},
        "miou": miou,
        "iou": dict.fromkeys(CLASSES[1:], 0.0) | {"car": miou + 0.1, "road": miou},
        **{"accuracy": miou + 0.5, "miou_frequent": miou + 0.2, "frequent_classes": ["road"], "presentations": 600},
        **{"miou_seen": miou + 0.05, "miou_unseen": miou - 0.05},
        "confusion": sum(places.values()).tolist(),
        "places": {place: counts.tolist() for place, counts in places.items()},
        **{"points": 1250, "scans": 6, "tta": False, "steps": 1200, "labelled_scans": 10, "training_scans": 100},
        "taught": experiment == "taught",
        "config": {"network": {"width": 8}, "train_student": {"seed": seed, "steps": 1200}},
        **{"commit": "abc", "device": "a machine"},
    }
    path.write_text(json.dumps(result))
    return path


@pytest.fixture
def files(tmp_path):
    """(results, teachers) of `settings`. mIoU with seeds 3 and 1: plain 0.30 and 0.34, taught 0.45 and 0.39."""
    miou = {("plain", 3): 0.30, ("plain", 1): 0.34, ("taught", 3): 0.45, ("taught", 1): 0.39}
    score = {"unlabelled": {"accuracy": 0.75, "miou": 0.375}, "all": {"accuracy": 0.5, "miou": 0.25}}
    teacher = {"dataset": "streets_10", "teacher": "sam"} | {name: {"mean": mean} for name, mean in score.items()}
    (tmp_path / "streets_10_sam_points.json").write_text(json.dumps(teacher))
    return [write_miou(tmp_path, *run, value) for run, value in miou.items()], [tmp_path / "streets_10_sam_points.json"]


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def experiment(**values):
    base = {
        "teacher": None,
        "oracle": None,
        "distilled": False,
        "labelled": 0.1,
        "labelled_scans": 10,
        "dataset": "d",
        "student": "s",
    }
    return base | values


def test_numbers(settings, files):
    results, teachers = files
    found = compare(settings, results[::-1], teachers)  # the order of the files does not matter
    plain, taught = found["experiments"].values()
    assert (plain["seeds"], plain["miou"]) == ([3, 1], [0.30, 0.34])
    assert plain["mean"] == pytest.approx(0.32)
    assert plain["sd"] == pytest.approx(0.04 / 2**0.5)  # n - 1, not n
    assert (plain["labelled"], plain["labelled_scans"], plain["distilled"], plain["steps"]) == (0.1, 10, False, 1200)
    assert (taught["teacher"], taught["labeller"], taught["distilled"]) == ("sam", "regions", True)
    assert taught["teacher_points"] == {"accuracy": 0.75, "miou": 0.375}
    assert plain["teacher_points"] is None
    assert taught["iou"]["car"] == pytest.approx((0.45 + 0.39) / 2 + 0.1)
    gain = found["differences"]["taught | well - plain"]
    assert gain["seeds"] == pytest.approx([0.15, 0.05])  # seed 3 with seed 3, seed 1 with seed 1
    assert gain["mean"] == pytest.approx(0.10)
    assert gain["sd"] == pytest.approx(0.10 / 2**0.5)
    assert gain["over_seeds"] == pytest.approx(over_seeds([0.15, 0.05]))
    for score in ("accuracy", "miou_frequent"):
        assert gain[score]["seeds"] == pytest.approx([0.15, 0.05])
    assert gain["accuracy"]["over_seeds"] == pytest.approx(gain["over_seeds"])
    draws = resamples(2)
    a, b = (resampled([confusions(right)] * 2, draws, [9]) for right in (850, 800))
    for score, differences in (("miou", gain), *((name, gain[name]) for name in ("accuracy", "miou_frequent"))):
        assert differences["over_places"] == pytest.approx(over_places(a[score], b[score])), score
    assert gain["over_places"][1] > 0.001
    assert found["intervals"] == {"level": 0.95, "resamples": 2000, "places": 2}
    assert plain["accuracy"] == pytest.approx([0.8, 0.84])
    assert plain["miou_unseen"] == pytest.approx([0.25, 0.29])
    assert plain["presentations"] == [600, 600]
    assert gain["iou"]["road"] == pytest.approx(0.10)
    assert (found["evaluated"]["split"], found["evaluated"]["sequences"]) == ("val", ["08", "09"])
    assert found["evaluated"]["class_points"]["road"] == 900
    assert list(found["config"]) == ["small", "big"]
    assert "seed" not in found["config"]["big"]["train_student"]


UP, DOWN, ACROSS = [0.01, 0.02], [-0.02, -0.01], [-0.01, 0.02]


@pytest.mark.parametrize(
    ("seeds", "places", "words"),
    [
        (UP, UP, "gain over seeds and places"),
        (DOWN, DOWN, "loss over seeds and places"),
        (ACROSS, ACROSS, "unsure over seeds and places"),
        (UP, ACROSS, "gain over seeds, unsure over places"),
        (ACROSS, DOWN, "unsure over seeds, loss over places"),
        (None, UP, "gain over places; one seed"),
        (UP, None, "gain over seeds; one place"),
        (None, None, "unknown: one seed, one place"),
    ],
)
def test_the_verdict_names_both_intervals(seeds, places, words):
    assert verdict({"over_seeds": seeds, "over_places": places}) == words


def test_a_difference_of_older_experiments_has_no_accuracy():
    found = difference(*({"miou": values, "iou": {"car": values[0]}} for values in ([0.4, 0.42], [0.3, 0.31])))
    assert found["seeds"] == pytest.approx([0.1, 0.11])
    assert found["accuracy"] is found["miou_frequent"] is found["over_places"] is None
    assert found["over_seeds"] == pytest.approx(over_seeds([0.1, 0.11]))


def test_baseline_has_as_many_labels_and_the_same_data_set_and_student():
    found = baselines(
        {
            "other data": experiment(dataset="e"),
            "other student": experiment(student="t"),
            "alike": experiment(),
            "more labels": experiment(labelled=1.0, labelled_scans=100),
            "taught": experiment(distilled=True, teacher="sam"),
            "alone": experiment(distilled=True, teacher="sam", labelled=0.5, labelled_scans=50),
        }
    )
    assert found == {"taught": "alike"}


def test_a_pretrained_student_is_a_baseline_only_of_pretrained_ones():
    experiments = {
        "begun": experiment(pretraining="udakd"),
        "begun otherwise": experiment(pretraining="slidr"),
        "taught": experiment(distilled=True, teacher="sam"),
        "begun and taught": experiment(distilled=True, teacher="sam", pretraining="udakd"),
        "no labels": experiment(distilled=True, teacher="sam", labelled=0.0, labelled_scans=0),
    }
    assert baselines(experiments) == {"begun and taught": "begun"}
    assert baselines(experiments | {"plain": experiment()}) == {"begun and taught": "begun", "taught": "plain"}


def test_curves_need_pairs_with_and_without_distillation():
    pairs = {
        f"{scans} {distilled}": experiment(labelled_scans=scans, distilled=distilled)
        for scans in (100, 5, 20)
        for distilled in (True, False)
    }
    expected = {False: ["5 False", "20 False", "100 False"], True: ["5 True", "20 True", "100 True"]}
    found = curves(pairs)
    assert {k: list(v.values()) for k, v in found.items()} == expected
    for others, message in (
        (pairs | {"again": pairs["5 True"]}, "'5 True' and 'again' are the same point .* with 5 labelled scans"),
        ({k: v for k, v in pairs.items() if k != "20 False"}, r"\[5, 20, 100\] labelled scans .* \[5, 100\] without"),
        ({k: v for k, v in pairs.items() if v["labelled_scans"] == 5}, "at least two, or write figure: rows"),
    ):
        with pytest.raises(InputError, match=message):
            curves(others)


def test_arms_do_not_depend_on_labels():
    places = {"a": ("random", "5 %"), "b": ("UDAKD, stem", "5 %"), "c, d": ("random", "probe")}
    experiments = {label: experiment(arm=arm, setting=setting) for label, (arm, setting) in places.items()}
    assert arms(experiments) == {"random": {"5 %": "a", "probe": "c, d"}, "UDAKD, stem": {"5 %": "b"}}


def test_incomplete_curves_are_refused_before_they_are_drawn(settings, files):
    with pytest.raises(InputError, match="figure: curves has"):
        compare(settings.model_copy(update={"figure": "curves"}), *files)


def test_table_has_every_number(settings, files):
    text = table(compare(settings, *files))
    assert "| 1 | plain | 10 (10 %) | none | 30.0, 34.0 | 32.0 ± 2.8 | 82.0 | 52.0 | 37.0, 27.0 |" in text
    assert (
        r"| 2 | taught \| well | 10 (10 %) | 37.5 (75.0) | 45.0, 39.0 | 42.0 ± 4.2 | 92.0 | 62.0 | 47.0, 37.0 |" in text
    )
    seeds, places = "-53.5 to +73.5", "+0.0 to +0.9"
    row = rf"| taught \| well - plain | +15.0, +5.0 | +10.0 | {seeds} | {places} | unsure over seeds and places |"
    assert row in text
    assert rf"| taught \| well - plain | +10.0 | {seeds} | " in text
    assert "The rarest classes, by evaluated points: car (300)." in text
    assert "6 whole scans of validation sequences 08, 09:" in text
    assert "Every student saw 600 labelled scans in training." in text
    assert "| road | 32.0 | 42.0 | 900 |" in text
    assert "| truck |  |  | none |" in text, "a class without points has no IoU to show"
    assert "Every student took 1,200 steps." in text
    assert "racle" not in text


def test_table_marks_oracles_and_different_numbers_of_steps(settings, files):
    found = compare(settings, *files)
    found["experiments"]["taught | well"] |= {"oracle": {"accuracy": 0.8, "seed": 0}, "steps": 2400}
    text = table(found)
    assert r"| 2 | taught \| well (oracle: diagnostic) |" in text
    assert "**Oracles (#2) are a diagnostic of the simulator and not a result of the method**" in text
    assert "**The students saw different numbers" not in text
    found["experiments"]["plain"]["presentations"] = [601, 603]
    assert "students saw different numbers of labelled scans in training**" in table(found)
    assert "drawn: plain 602, taught | well 600." in table(found)
    found["experiments"]["plain"]["presentations"] = None
    assert "is not known of all" in table(found)
    assert "different numbers of steps**, which also affects the results: plain 1,200, taught | well 2,400." in text


def test_teacher_of_fully_labelled_scans_is_scored_on_all(settings, files):
    rewrite(files[1][0], unlabelled=None)
    found = compare(settings, *files)
    assert found["experiments"]["taught | well"]["teacher_points"] == {"accuracy": 0.5, "miou": 0.25}


SWAPPED = dict(zip(("08", "09"), (one.tolist() for one in list(confusions(850).values())[::-1]), strict=True))
"""The places of a result, each with the points of the other. The sum is the same."""

CONFIG = {"network": {"width": 8}, "train_student": {"seed": 1, "steps": 1200}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequences": ["08"]}, r'evaluated.sequences is \["08"\], but .*plain-seed3_miou.json: .*\["08", "09"\]'),
        ({"points": 999}, "evaluated.points is 999"),
        (
            {"confusion": np.eye(20, dtype=int).tolist(), "places": {"08": np.eye(20, dtype=int).tolist()}},
            "evaluated.class_points.bicycle is 1",
        ),
        ({"confusion": np.eye(20, dtype=int).tolist()}, "matrices of its places do not add up to that of all"),
        ({"places": {"07": SWAPPED["08"], "09": SWAPPED["09"]}}, "places.07 is .*, but .*places.07 is null"),
        ({"places": SWAPPED}, "places.08 is "),
        ({"frequent_classes": ["car"]}, r'evaluated.frequent_classes is \["car"\]'),
        ({"split": "test"}, "scored on test sequences, but comparison x is of val sequences"),
        ({"labels_seed": 1}, "its labels_seed is 1, but the comparison needs None"),
        ({"tta": True}, "test-time augmentation"),
        ({"config": CONFIG | {"train_student": {"seed": 2, "steps": 1200}}}, "its seed is 2, .* comparison needs 1"),
        ({"config": CONFIG | {"network": {"width": 9}}}, "config.network.width is 9"),
        ({"dataset": "streets_100"}, "its dataset is 'streets_100', but the comparison needs 'streets_10'"),
        ({"teacher": "sam_old"}, "its teacher is 'sam_old', but the comparison needs 'sam'"),
        ({"labelled_scans": 20}, "labelled_scans is 20"),
        ({"steps": 1100}, "steps is 1100"),
        ({"steps": None}, "lacks steps, because an older version trained its student"),
        ({"taught": False}, "taught is false"),
        ({"experiment": "taught-seed3"}, "both of experiment taught-seed3"),
        ({"experiment": "taught-seed2"}, "results/taught-seed1_miou.json: not among the results"),
    ],
)
def test_refuses_results_that_do_not_fit(settings, files, changes, message):
    rewrite(files[0][-1], **changes)
    with pytest.raises(InputError, match=message) as refusal:
        compare(settings, *files)
    assert "taught-seed1_miou.json" in str(refusal.value)


DRAWN = {"streets_10": {"labelled": 0.1, "select_labels": {"by": "drive", "seed": 0}}}


@pytest.fixture
def drawn(settings, files):
    """(settings, results, teachers): the seeds draw the labelled drives of `streets_10`, and each has its teacher."""
    results, (teacher,) = files
    for path, seed in zip(results, (3, 1, 3, 1), strict=True):
        rewrite(path, labels_seed=seed, labelled_scans=8 + seed, steps=1200 + seed)
    teachers = [teacher.with_name(f"streets_10-seed{seed}_sam_points.json") for seed in (3, 1)]
    for path, seed, accuracy in zip(teachers, (3, 1), (0.75, 0.65), strict=True):
        path.write_text(teacher.read_text())
        rewrite(path, labels_seed=seed, unlabelled={"mean": {"accuracy": accuracy, "miou": 0.4}})
    return settings.model_copy(update={"datasets": DRAWN}), results, teachers


def test_seeds_that_draw_the_labelled_drives(drawn):
    """Drives differ in length, and so do labelled scans and steps. The teacher's quality is the mean of its seeds."""
    plain, taught = compare(*drawn)["experiments"].values()
    assert (plain["labelled"], plain["labelled_scans"], plain["steps"]) == (0.1, 10, 1202)
    assert taught["teacher_points"] == {"accuracy": pytest.approx(0.7), "miou": pytest.approx(0.4)}


def test_refuses_labels_and_teachers_of_another_seed(drawn):
    settings, results, teachers = drawn
    with pytest.raises(InputError, match=r"streets_10-seed1_sam_points\.json: not among the teacher results"):
        compare(settings, results, teachers[:1])
    rewrite(results[-1], labels_seed=3)
    with pytest.raises(InputError, match=r"taught-seed1_miou\.json: its labels_seed is 3, but the comparison needs 1"):
        compare(*drawn)
    rewrite(results[-1], labels_seed=None)
    with pytest.raises(InputError, match="its labels_seed is None, but the comparison needs 1"):
        compare(*drawn)


def test_a_comparison_of_test_sequences(settings, files):
    for path in files[0]:
        rewrite(path, split="test")
    unseen = settings.model_copy(update={"split": "test"})
    found = compare(unseen, *files)
    assert found["evaluated"]["split"] == "test"
    assert "6 whole scans of test sequences 08, 09:" in table(found)
    with pytest.raises(InputError, match=r"results/taught-seed1_miou_test\.json: not among the results"):
        compare(unseen, files[0][:-1], files[1])


def test_one_place_has_no_interval_over_places(settings, files):
    for path in files[0]:
        rewrite(path, places={"08": json.loads(path.read_text())["confusion"]})
    found = compare(settings, *files)
    assert found["differences"]["taught | well - plain"]["over_places"] is None
    assert "unsure over seeds; one place" in table(found)


def test_without_cameras_the_table_leaves_their_column_empty(settings, files):
    rewrite(files[0][0], miou_seen=None, miou_unseen=None)
    found = compare(settings, *files)
    assert found["experiments"]["plain"]["miou_seen"] is None
    assert "| 32.0 ± 2.8 | 82.0 | 52.0 |  |" in table(found)


def test_refuses_a_distilled_student_if_the_experiment_has_no_teacher(settings, files):
    for path in files[0][:2]:
        rewrite(path, taught=True)
    with pytest.raises(InputError, match=r"plain-seed3_miou\.json: its student had a teacher"):
        compare(settings, *files)


def test_refuses_a_result_outside_the_comparison(settings, files, tmp_path):
    stranger = write_miou(tmp_path, "plain", 7, 0.3)
    with pytest.raises(InputError, match=r"plain-seed7_miou\.json: comparison x has no such experiment"):
        compare(settings, [*files[0], stranger], files[1])


@pytest.mark.parametrize("which", [0, 1])
def test_refuses_damaged_old_and_missing_files(settings, files, which):
    path = files[which][-1]
    whole = path.read_text()
    path.write_text(whole[:-5])
    with pytest.raises(InputError, match=rf"{path.name}: is not a JSON file\. Make it again: snakemake --forcerun"):
        compare(settings, *files)
    path.write_text("[]")
    with pytest.raises(InputError, match=rf"{path.name}: lacks .*dataset"):
        compare(settings, *files)
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name}: cannot be read"):
        compare(settings, *files)
    files[which].remove(path)
    with pytest.raises(InputError, match=rf"results/{path.name}: not among"):
        compare(settings, *files)


def test_refuses_a_teacher_without_a_score(settings, files):
    rewrite(files[1][0], unlabelled=None, all=None)
    with pytest.raises(InputError, match=r"streets_10_sam_points\.json: no point has a label"):
        compare(settings, *files)
