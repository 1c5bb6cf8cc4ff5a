"""Comparison of labellers: the points that they see, the baseline at equal coverage, and sums calculated by hand."""

import json

import numpy as np
import pytest

from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.labellers import benchmark
from elite_pipeline.labellers.benchmark import Gallery, LabellerComparison, Score, nearest_covering, split, thinned
from elite_pipeline.labellers.painting import EMPTY, PseudoLabels
from elite_pipeline.recordings.camera_views import CameraView


def view(points=400, truth=None, title="00/000000 image_2"):
    """A view of 30 x 40 pixels with `points` visible points, each on its own pixel."""
    rng = np.random.default_rng(7)
    place = rng.permutation(30 * 40)[:points]
    return CameraView(
        title=title,
        frame=0,
        camera=0,
        image=np.zeros((30, 40, 3), np.uint8),
        pixel=np.stack([place % 40, place // 40], 1) + np.float32(0.5),
        depth=np.ones(points, np.float32),
        labels=rng.integers(1, 20, points).astype(np.uint8),
        instances=np.zeros(points, np.uint16),
        truth=truth,
    )


def pixels(sparse):
    return set(np.flatnonzero(sparse != EMPTY))


def test_shares_of_the_points_are_exact_nested_and_reproducible():
    shown, reference = split(view(truth=np.ones((30, 40), np.uint8)), 0, None)
    assert (reference == 1).all()
    seen = [pixels(thinned(view(), shown, share)[0]) for share in benchmark.SHARES]
    assert [len(s) for s in seen] == [400, 80, 20, 4]
    assert seen[0] > seen[1] > seen[2] > seen[3]
    again = [pixels(thinned(view(), split(view(), 0, None)[0], share)[0]) for share in benchmark.SHARES]
    assert again == seen
    others = (split(view(), 1, None)[0], split(view(title="00/000001 image_2"), 0, None)[0])
    assert all(pixels(thinned(view(), other, 0.05)[0]) != seen[2] for other in others)


def test_thinned_points_keep_their_labels_and_one_is_always_left():
    shown, _ = split(view(20), 0, 0.5)
    sparse, instances = thinned(view(20), shown, 0.01)
    ((row, column),) = np.argwhere(sparse != EMPTY)
    kept = np.flatnonzero((view(20).pixel.astype(int) == (column, row)).all(axis=1))
    assert sparse[row, column] == view(20).labels[kept[0]]
    assert instances.dtype == np.uint16


def test_held_out_points_are_scored_and_never_shown():
    shown, reference = split(view(), 0, 0.25)
    assert len(shown) == 300
    sparse, _ = thinned(view(), shown, 1.0)
    tested = set(np.flatnonzero(reference != IGNORE))
    assert len(tested) == 100
    assert not tested & pixels(sparse)
    everything = thinned(view(), np.arange(400), 1.0)[0]
    assert tested | pixels(sparse) == pixels(everything)
    assert np.array_equal(reference[reference != IGNORE], everything[reference != IGNORE])


def test_a_pixel_with_a_shown_point_is_not_scored():
    twice = view(400)
    twice.pixel[:] = twice.pixel[np.arange(400) // 2]
    shown, reference = split(twice, 0, 0.5)
    sparse, _ = thinned(twice, shown, 1.0)
    assert 0 < (reference != IGNORE).sum() < 200
    assert not ((reference != IGNORE) & (sparse != EMPTY)).any()


@pytest.mark.parametrize("count", [0, 1, 7, 150, 299, 300])
def test_baseline_covers_exactly_the_requested_number_of_nearest_pixels(count):
    rng = np.random.default_rng(3)
    sparse = np.full((20, 30), EMPTY, np.uint8)
    places = rng.permutation(600)[:9]
    sparse.flat[places] = [3, 3, 5, 9, 9, 9, 11, 13, IGNORE]
    scored = np.zeros((20, 30), bool)
    scored.flat[rng.permutation(600)[:300]] = True
    made = nearest_covering(sparse, scored, count)
    covered = (made.label != IGNORE) & scored
    assert covered.sum() == count
    rows, columns = np.divmod(places[:8], 30)  # a point without a class does not count as labelled
    distance = np.hypot(np.arange(20)[:, None, None] - rows, np.arange(30)[None, :, None] - columns)
    nearest = distance.min(axis=2)
    if count:
        assert nearest[covered].max() <= nearest[scored & ~covered].min(initial=np.inf)
        for r, c in np.argwhere(covered):
            assert made.label[r, c] in sparse.flat[places[:8][distance[r, c] == nearest[r, c]]]
        assert nearest[made.label != IGNORE].max() == nearest[covered].max()  # same radius for unscored pixels
    assert ((made.confidence > 0) == (made.label != IGNORE)).all()


def test_baseline_without_labelled_points_labels_nothing():
    sparse = np.full((4, 5), EMPTY, np.uint8)
    sparse[1, 1] = IGNORE
    assert not nearest_covering(sparse, np.ones((4, 5), bool), 3).label.any()


def test_score_of_a_worked_example(classes):
    """Of five scored pixels, one is uncovered and one is wrong. Of three unscored pixels, one has a label."""
    reference = np.array([[1, 1, 1, 2, 2, 0, 0, 0]], np.uint8)
    label = np.array([[1, 1, 2, 2, 0, 9, 0, 0]], np.uint8)
    confidence = np.array([[255, 130, 20, 255, 0, 50, 0, 0]], np.uint8)
    score = Score(classes)
    assert score.add(reference, PseudoLabels(label, confidence, 12, 4), 0.5) == 3 / 4
    score.add(reference, PseudoLabels(label, confidence, 0, 0), 0.1)
    found = score.summary(dense=True)
    assert (found["coverage"], found["accuracy"]) == (4 / 5, 3 / 4)
    assert found["iou"] == pytest.approx({"car": 2 / 3, "bicycle": 1 / 2})
    assert found["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["miou_of_all"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert found["labelled_outside"] == 1 / 3
    assert score.summary(dense=False)["labelled_outside"] is None
    assert [found[f"{name}_per_frame"] for name in ("prompts", "decoder_calls")] == [6, 2]
    assert (found["seconds_per_frame"], found["frames"]) == (pytest.approx(0.3), 2)
    bins = found["reliability"]
    assert [b["share"] for b in bins] == [1 / 4, 0, 0, 0, 0, 1 / 4, 0, 0, 0, 1 / 2]
    assert (bins[0]["accuracy"], bins[1]["accuracy"], bins[5]["accuracy"], bins[9]["accuracy"]) == (0, None, 1, 1)
    assert bins[9]["confidence"] == [0.9, 1.0]


def test_scores_are_none_where_nothing_is_covered(classes):
    score = Score(classes)
    empty = np.zeros((2, 3), np.uint8)
    assert np.isnan(score.add(np.ones((2, 3), np.uint8), PseudoLabels(empty, empty), 0.0))
    found = score.summary(dense=True)
    assert (found["coverage"], found["accuracy"], found["miou"], found["miou_of_all"]) == (0, None, None, 0)


def constant(label, rows):
    """A labeller that gives `label` to the first `rows` rows and reports three prompts and two decoder calls."""

    def labeller(sparse, instances, image):
        assert image().shape == (*sparse.shape, 3)
        labels = np.zeros(sparse.shape, np.uint8)
        labels[:rows] = label
        return PseudoLabels(labels, np.where(labels == IGNORE, 0, 255).astype(np.uint8), 3, 2)

    return labeller


@pytest.fixture
def compared(classes):
    """(comparison, gallery) of three views.

    `default` gives class 1 to 12 rows. In the truth, 30, 3 and 0 rows have class 1.
    """
    found, gallery = LabellerComparison(classes), Gallery(classes)
    for k, rows in enumerate((30, 3, 0)):
        truth = np.full((30, 40), 2, np.uint8)
        truth[:rows] = 1
        seen = view(truth=truth, title=f"00/{k:06d} image_2")
        shown, reference = split(seen, 0, None)
        points = thinned(seen, shown, 0.05)
        made = benchmark.compare({"paper": constant(2, 5), "default": constant(1, 12)}, points, seen.image, reference)
        gallery.add(found.add(seen.title, reference, made), 0.05, seen, points[0], reference, made)
        gallery.add(np.nan, 1.0, seen, points[0], reference, made)
    return found, gallery


def test_baselines_cover_as_much_as_each_labeller(compared):
    labellers = compared[0].summary(dense=True)["labellers"]
    assert list(labellers) == ["paper", "default", "nearest"]
    assert labellers["nearest"]["coverage"] == labellers["default"]["coverage"] == 12 / 30
    assert compared[0].scores["nearest at paper"].confusion.coverage == labellers["paper"]["coverage"] == 5 / 30
    assert set(labellers["paper"]["nearest_at_this_coverage"]) == {"accuracy", "miou", "miou_of_all"}
    assert [labellers[name]["labeller"] for name in labellers] == ["paper", "regions", "nearest"]
    assert (labellers["default"]["prompts_per_frame"], labellers["nearest"]["prompts_per_frame"]) == (3, 0)


def test_wins_and_losses_are_counted_by_view(compared):
    found = compared[0].summary(dense=True)
    assert [frame["default"] for frame in found["per_frame"]] == [1.0, 3 / 12, 0.0]
    gains = [frame["default"] - frame["nearest"] for frame in found["per_frame"]]
    assert found["default_against_nearest"] == {
        "won": sum(gain > 0 for gain in gains),
        "lost": sum(gain < 0 for gain in gains),
        "tied": sum(gain == 0 for gain in gains),
        "mean_gain": pytest.approx(np.mean(gains)),
    }
    assert found["default_against_nearest"]["won"] >= 1
    assert json.dumps(found, allow_nan=False)


def test_gallery_keeps_the_worst_views(compared, classes, tmp_path):
    found, gallery = compared
    gallery.save(tmp_path / "new/gallery.npz")
    rows, table = benchmark.read_gallery(tmp_path / "new/gallery.npz")
    assert table == classes
    gain = {frame["view"]: frame["default"] - frame["nearest"] for frame in found.per_frame}
    assert [str(row["title"]) for row in rows] == sorted(gain, key=gain.__getitem__)[:2]
    assert {float(row["share"]) for row in rows} == {0.05}
    assert all(row["dense"] and row["image"].shape == (30, 40, 3) for row in rows)
    assert (rows[0]["default"][:12] == 1).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["gallery.npz"]
