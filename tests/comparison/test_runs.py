"""Comparisons: standard deviations and paired differences computed by hand, choice of baselines, and every error."""

import json

import numpy as np
import pytest

from elite_pipeline.comparison.runs import baselines, compare, curves, difference, spread
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


def write_miou(folder, experiment, seed, miou):
    """Writes an mIoU result: 10 of 100 scans labelled; IoU of road is `miou`, of car 0.1 more; no other classes."""
    confusion = np.zeros((20, 20), dtype=int)
    confusion[1, 1], confusion[9, 1], confusion[9, 9], confusion[0, 9] = 300, 100, 800, 50
    path = folder / f"{experiment}-seed{seed}_miou.json"
    result = {
        "experiment": f"{experiment}-seed{seed}",
        "dataset": "streets_10",
        "sequences": ["08", "09"],
        "miou": miou,
        "iou": dict.fromkeys(CLASSES[1:], 0.0) | {"car": miou + 0.1, "road": miou},
        "confusion": confusion.tolist(),
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
    assert gain["larger_sd"] == pytest.approx(0.06 / 2**0.5)
    assert gain["larger_than_3_sd"] is False
    assert gain["iou"]["road"] == pytest.approx(0.10)
    assert found["validation"]["sequences"] == ["08", "09"]
    assert found["validation"]["class_points"]["road"] == 900
    assert list(found["config"]) == ["small", "big"]
    assert "seed" not in found["config"]["big"]["train_student"]


@pytest.mark.parametrize(
    ("a", "b", "larger", "words"),
    [
        ([0.40, 0.42], [0.30, 0.31], True, "gain of more than 3 sd"),
        ([0.30, 0.31], [0.40, 0.42], False, "loss of more than 3 sd"),
        ([0.40, 0.42], [0.36, 0.42], False, "noise"),
        ([0.40, 0.42], [0.38, 0.39], False, "between 1 and 3 sd: unsure"),
        ([0.40], [0.30], None, "one seed: unknown"),
    ],
)
def test_differences_are_compared_with_the_larger_spread(a, b, larger, words):
    found = difference(*({"miou": values, "sd": spread(values), "iou": {}} for values in (a, b)))
    assert found["larger_than_3_sd"] is larger
    assert verdict(found) == words


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
    assert "| 1 | plain | 10 (10 %) | none | 30.0, 34.0 | 32.0 ± 2.8 |" in text
    assert r"| 2 | taught \| well | 10 (10 %) | 37.5 (75.0) | 45.0, 39.0 | 42.0 ± 4.2 |" in text
    assert r"| taught \| well - plain | +15.0, +5.0 | +10.0 ± 7.1 | between 1 and 3 sd: unsure |" in text
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
    assert "different numbers of steps**, which also affects the results: plain 1,200, taught | well 2,400." in text


def test_teacher_of_fully_labelled_scans_is_scored_on_all(settings, files):
    rewrite(files[1][0], unlabelled=None)
    found = compare(settings, *files)
    assert found["experiments"]["taught | well"]["teacher_points"] == {"accuracy": 0.5, "miou": 0.25}


CONFIG = {"network": {"width": 8}, "train_student": {"seed": 1, "steps": 1200}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequences": ["08"]}, r'validation.sequences is \["08"\], but .*plain-seed3_miou.json: .*\["08", "09"\]'),
        ({"points": 999}, "validation.points is 999"),
        ({"confusion": np.eye(20, dtype=int).tolist()}, "validation.class_points.bicycle is 1"),
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
