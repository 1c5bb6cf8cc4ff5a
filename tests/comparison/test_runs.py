"""Comparisons: means and paired differences computed by hand, choice of baselines, and the table."""

import pytest
from written_results import confusions, rewrite

from elite_pipeline.comparison.intervals import over_places, over_seeds, resampled, resamples
from elite_pipeline.comparison.runs import baselines, compare, curves, difference
from elite_pipeline.comparison.table import table, verdict
from elite_pipeline.errors import InputError
from elite_pipeline.figures.comparison_curves import arms


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


def test_a_class_that_is_left_out_has_no_difference():
    a, b = ({"miou": [0.4], "iou": {"car": car, "bus": bus}} for car, bus in ((0.5, None), (0.25, 0.0)))
    assert difference(a, b)["iou"] == {"car": 0.25, "bus": None}


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
