"""Results that do not fit together are refused: of another seed, split, place, data set, student or teacher."""

import json

import numpy as np
import pytest
from written_results import confusions, rewrite, write_miou

from elite_pipeline.comparison.runs import compare
from elite_pipeline.comparison.table import table
from elite_pipeline.errors import InputError

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
