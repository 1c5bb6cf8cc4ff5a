"""plot_comparison: rows, curves and oracles, each with its own marks."""

import json

import numpy as np
import pytest
from PIL import Image

from elite_pipeline.comparison.runs import difference, spread
from elite_pipeline.stages.plot_comparison import main

GREY, BLUE, ORANGE, GREEN, RED = (85, 85, 85), (31, 111, 180), (204, 102, 0), (31, 122, 61), (179, 38, 30)
PURPLE, TEAL = (123, 63, 160), (11, 143, 143)


def experiment(miou, scans=10, teacher=None, oracle=None):
    points = {"accuracy": 0.6 + miou[0] / 2, "miou": 0.4} if teacher else None
    about = {
        "teacher": teacher,
        "oracle": oracle,
        "distilled": teacher is not None,
        "teacher_points": points,
        "seeds": [0, 1, 2],
    }
    about |= {"labelled": scans / 100, "labelled_scans": scans, "dataset": "d", "student": "s"}
    iou = {"car": miou[0], "road": miou[-1], "truck": 0.0}
    return about | {"miou": miou, "mean": sum(miou) / len(miou), "sd": spread(miou), "iou": iou}


def comparison(experiments, *pairs, figure="rows"):
    validation = {"sequences": ["08"], "scans": 4, "points": 5000}
    validation["class_points"] = {"car": 1000, "road": 4000, "truck": 0}
    differences = {f"{a} - {b}": difference(experiments[a], experiments[b]) for a, b in pairs}
    result = {"comparison": "x", "figure": figure, "experiments": experiments}
    return result | {"differences": differences, "validation": validation}


@pytest.fixture
def draw(tmp_path):
    """Return a function from a comparison to the pixels (H, W, 3) of its two pictures."""

    def pixels(result):
        (tmp_path / "x.json").write_text(json.dumps(result))
        out, classes = tmp_path / "x.png", tmp_path / "x_classes.png"
        main(["--result", str(tmp_path / "x.json"), "--out", str(out), "--classes", str(classes)])
        return [np.asarray(Image.open(path).convert("RGB")) for path in (out, classes)]

    return pixels


def count(picture, colour):
    return (picture == colour).all(axis=2).sum()


LONG = "a student of a name that nobody would give to a student, but for this test"
PLAIN, WELL, BADLY = [0.30, 0.31, 0.305], [0.40, 0.43, 0.405], [0.20, 0.21, 0.22]


def test_rows(draw):
    experiments = {"plain": experiment(PLAIN), LONG: experiment(WELL, teacher="sam"), "bad": experiment(BADLY)}
    picture, classes = draw(comparison(experiments, (LONG, "plain"), ("bad", "plain")))
    assert picture.shape[1] == classes.shape[1] - 195 == 1300
    for colour in (GREY, BLUE, GREEN, RED):
        assert count(picture, colour) > 100, "no distillation and distilled, a gain and a loss"
    assert count(picture, ORANGE) == 0
    # An interval that holds zero is not a gain: only the legend has the colour of a gain.
    unsure, _ = draw(comparison(experiments | {LONG: experiment([0.30, 0.32, 0.31], teacher="sam")}, (LONG, "plain")))
    assert count(unsure, GREEN) < count(picture, GREEN) / 2


@pytest.mark.parametrize(("places", "shown"), [([0.05, 0.12], True), ([-0.01, 0.12], False), (None, True)])
def test_a_gain_must_hold_over_places_too(draw, places, shown):
    """Older comparisons have no interval over places, and none of the keys of the new ones."""
    result = comparison({"plain": experiment(PLAIN), "taught": experiment(WELL, teacher="sam")}, ("taught", "plain"))
    old = {key: result["differences"]["taught - plain"][key] for key in ("mean", "sd", "seeds", "iou")}
    result["differences"]["taught - plain"] = old if places is None else old | {"over_places": places}
    if places is not None:
        result["evaluated"] = {"split": "test", **result.pop("validation")}
    green = count(draw(result)[0], GREEN)
    legend = count(draw(comparison({"a": experiment(PLAIN), "b": experiment(PLAIN)}, ("a", "b")))[0], GREEN)
    assert (green > legend + 100) == shown


def test_without_differences_classes_show_the_experiments(draw):
    picture, classes = draw(comparison({"plain": experiment(PLAIN), "taught": experiment(WELL, teacher="sam")}))
    assert count(picture, GREEN) == count(picture, RED) == 0
    blue_over_red = classes[..., 2].astype(int) - classes[..., 0]
    assert (blue_over_red > 40).sum() > 10000
    assert (blue_over_red < -40).sum() == 0


def test_curves_over_labelled_scans_and_one_seed(draw):
    experiments = {
        f"{scans} {teacher}": experiment([0.2 + scans / 500 + (0.1 if teacher else 0)], scans, teacher)
        for scans in (2, 5, 100)
        for teacher in (None, "sam")
    }
    picture, _ = draw(comparison(experiments, figure="curves"))
    lines = [(picture == colour).all(axis=2).any(axis=0).sum() for colour in (GREY, BLUE)]
    assert min(lines) > 900, "curves cross the whole picture"


def test_pretrained_students_have_their_own_colour(draw):
    begun = experiment(WELL) | {"pretraining": "udakd"}
    picture, _ = draw(comparison({"plain": experiment(PLAIN), "begun": begun, "no label": experiment(BADLY, 0, "sam")}))
    assert min(count(picture, colour) for colour in (GREY, PURPLE, BLUE)) > 100


def test_arms_are_side_by_side_in_each_setting(draw):
    means = {"random": [0.2, 0.3, 0.1], "UDAKD": [0.25, 0.32, 0.2], "superpixels": [0.24, 0.31, 0.18]}
    experiments = {
        f"{arm}, {setting}": experiment([m - 0.01, m, m + 0.01], scans)
        | {"pretraining": None if arm == "random" else arm.lower(), "arm": arm, "setting": setting}
        for arm, of_arm in means.items()
        for (setting, scans), m in zip({"5 %": 1, "10 %": 4, "linear probe": 40}.items(), of_arm, strict=True)
    }
    picture, _ = draw(comparison(experiments, figure="arms"))
    panel = picture[70:480, 60:]  # no title, tick or legend
    for colour in (GREY, PURPLE, TEAL):
        columns = np.flatnonzero((panel == colour).all(axis=2).any(axis=0))
        assert (np.diff(columns) > 150).sum() == 2, "in three places, one setting apart"
    # Without pre-training an arm has the colour of labels alone.
    plain = {label: e | {"pretraining": None} for label, e in experiments.items()}
    assert count(draw(comparison(plain, figure="arms"))[0], PURPLE) == 0


def test_long_names_stay_in_the_picture(draw):
    """Long names are wrapped, so the axes are about as wide as with names that just fit."""
    widths = []
    for name in ("a name that just fits into the line", LONG):
        picture, _ = draw(comparison({name: experiment(WELL, 0, "sam"), "plain": experiment(PLAIN)}, (name, "plain")))
        black = (picture == 0).all(axis=2).sum(axis=1)
        widths.append(black.max())
    assert widths[1] > 0.85 * widths[0]


def test_oracles_have_their_own_panel(draw):
    experiments = {"plain": experiment(PLAIN), "taught": experiment(WELL, teacher="sam")}
    oracles = {
        f"{k} %": experiment([m, m + 0.02, m], teacher=f"right_{k}", oracle={"accuracy": k / 100, "seed": 0})
        for k, m in ((60, 0.32), (90, 0.5))
    }
    without, _ = draw(comparison(experiments))
    beside, _ = draw(comparison(experiments | oracles, figure="oracles"))
    assert beside.shape[0] > without.shape[0] + 400
    assert count(beside[-450:], ORANGE) > 300
    assert count(beside[-450:], BLUE) > 100, "the real teacher is in the panel of the oracles"
    # Without a student that has no teacher, no gain can be computed.
    lonely, _ = draw(comparison({"taught": experiments["taught"], **oracles}, figure="oracles"))
    assert lonely.shape[0] < without.shape[0] + 200
