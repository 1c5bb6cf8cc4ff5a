"""Intervals over seeds against scipy, and the bootstrap over places against its definition and by hand."""

import numpy as np
import pytest
from scipy import stats

from elite_pipeline.comparison.intervals import over_places, over_seeds, resampled, resamples, side
from elite_pipeline.evaluation.metrics import accuracy, mean_iou


def confusion(*cells):
    """Counts of four classes, the first of them ignored: (truth, prediction, points) each."""
    counts = np.zeros((4, 4), dtype=np.int64)
    for truth, prediction, points in cells:
        counts[truth, prediction] = points
    return counts


@pytest.mark.parametrize("values", [[0.1, 0.2], [0.041, 0.042, 0.062], [-0.3, 0.1, 0.0, 0.2, -0.05]])
def test_over_seeds_is_students_t_interval_of_paired_differences(values):
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert over_seeds(values) == pytest.approx(expected)
    other = np.random.default_rng(0).random(len(values))
    test = stats.ttest_rel(other + values, other).confidence_interval(0.95)
    assert over_seeds(values) == pytest.approx((test.low, test.high)), "as a paired test says"


def test_one_seed_has_no_interval_and_equal_differences_have_a_point():
    assert over_seeds([0.1]) is None
    assert over_seeds([0.25, 0.25]) == (0.25, 0.25)


def test_resamples_are_places_drawn_with_replacement():
    draws = resamples(8)
    assert draws.shape == (2000, 8)
    assert (draws.sum(axis=1) == 8).all()
    assert draws.mean() == 1
    assert (draws == 0).mean() == pytest.approx((7 / 8) ** 8, abs=0.01), "a place is left out as often as by chance"
    assert (resamples(8) == draws).all()
    assert (resamples(8, seed=1) != draws).any()


def test_scores_of_a_draw_are_those_of_its_summed_matrices_averaged_over_seeds():
    rng = np.random.default_rng(3)
    seeds = [{place: rng.integers(0, 50, (4, 4)) for place in "abc"} for _ in range(2)]
    draws = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1]])
    found = resampled(seeds, draws, [1, 3])
    for r, draw in enumerate(draws):
        sums = [sum(n * s[place] for n, place in zip(draw, "abc", strict=True)) for s in seeds]
        assert found["miou"][r] == pytest.approx(np.mean([mean_iou(one) for one in sums]))
        assert found["accuracy"][r] == pytest.approx(np.mean([accuracy(one) for one in sums]))
        assert found["miou_frequent"][r] == pytest.approx(np.mean([mean_iou(one, [1, 3]) for one in sums]))
    assert set(resampled(seeds, draws)) == {"miou", "accuracy"}


def test_a_class_that_no_drawn_place_shows_is_left_out_where_the_protocol_says_so():
    """Class 2 is only at place b, and at place c there is nothing to score."""
    places = {name: np.zeros((3, 3), int) for name in "abc"}
    places["a"][1, 1], places["a"][0, 2] = 5, 3
    places["b"][2, 2], places["b"][2, 1] = 1, 1
    found = resampled([places], np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3]]), absent="left out")["miou"]
    np.testing.assert_allclose(found, [1, 1 / 4, np.nan])
    assert resampled([places], np.array([[3, 0, 0]]))["miou"] == pytest.approx([0.5])
    assert over_places(found, np.zeros(3)) == pytest.approx((1 / 4, 1), abs=0.02)


def test_two_places_by_hand():
    """Place `good` is all right in a and all wrong in b; place `bad` the other way round, with three times the points.

    Of two draws from two places: twice `good` (a quarter): accuracy 1 - 0; both (a half): 10 and 30 of 40; twice `bad`
    (a quarter): 0 - 1. With a quarter of the draws at each end, 95 % reach from end to end.
    """
    a = {"good": confusion((1, 1, 10)), "bad": confusion((2, 3, 30))}
    b = {"good": confusion((1, 2, 10)), "bad": confusion((2, 2, 30))}
    draws = resamples(2)
    scores = [resampled([places], draws)["accuracy"] for places in (a, b)]
    values, numbers = np.unique(scores[0] - scores[1], return_counts=True)
    assert values.tolist() == [-1.0, -0.5, 1.0]
    assert numbers / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert over_places(*scores) == (-1.0, 1.0)
    assert over_places(*scores[::-1]) == (-1.0, 1.0)


def test_the_difference_is_paired():
    """a is 10 points of 100 better at each place. Places differ much more, but a drawn place is the same for both."""
    places = {str(k): 10 * k for k in range(1, 9)}
    a, b = (
        {name: confusion((1, 1, right + more), (1, 2, 100 - right - more)) for name, right in places.items()}
        for more in (10, 0)
    )
    draws = resamples(8)
    scores = [resampled([one], draws)["accuracy"] for one in (a, b)]
    assert np.ptp(scores[1]) > 0.3
    assert over_places(*scores) == pytest.approx((0.1, 0.1))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Places of one population: the true difference is 0.05. Small samples of places make intervals a little narrow."""
    rng, hits = np.random.default_rng(5), 0
    for _ in range(60):
        gains = rng.normal(5, 4, 20).round().astype(int)
        a, b = (
            {str(k): confusion((1, 1, 50 + gain), (1, 2, 50 - gain)) for k, gain in enumerate(of)}
            for of in (gains, 0 * gains)
        )
        draws = resamples(20, number=300)
        low, high = over_places(*(resampled([one], draws)["accuracy"] for one in (a, b)))
        hits += low <= 0.05 <= high
    assert 50 <= hits <= 60


@pytest.mark.parametrize(
    ("interval", "expected"), [((0.1, 0.2), 1), ((-0.2, -0.1), -1), ((-0.1, 0.2), 0), ((0.0, 0.2), 0), (None, None)]
)
def test_side_of_zero(interval, expected):
    assert side(interval) == expected
