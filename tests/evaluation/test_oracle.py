"""The oracle: its stated error rate, errors in groups, equal results from equal seeds, and its logits."""

import numpy as np
import pytest

from elite_pipeline.config import Oracle
from elite_pipeline.datasets.classes import IGNORE, class_table
from elite_pipeline.evaluation import oracle

CLASSES = class_table("semantickitti")
CAR, TRUCK, ROAD, SIGN = 1, 4, 9, 19


@pytest.fixture
def scene():
    """Return one frame of 72 points: (points, labels, instances).

    A car has 30 points, a truck with the car's id 12, two cubes of road 14 and 6, a traffic sign without an id in a
    road's cube 2. 8 points are ignored, half of them with an id.
    """
    parts = [(30, CAR, 5, 0), (12, TRUCK, 5, 0), (14, ROAD, 0, 0), (6, ROAD, 0, 2.1), (2, SIGN, 0, 0)]
    parts += [(4, IGNORE, 5, 0), (4, IGNORE, 0, 0)]
    sizes, labels, instances, x = (np.array(column) for column in zip(*parts, strict=True))
    labels, instances, x = (np.repeat(column, sizes) for column in (labels, instances, x))
    points = np.column_stack([x + np.linspace(0, 1.8, len(x)) % 1.8, np.full(len(x), -0.5), np.full(len(x), 0.5)])
    return points, labels, instances


def corruption(scene, seed=0, accuracy=0.8, frames=1):
    return oracle.Corruption(Oracle(accuracy=accuracy, seed=seed), "03", [scene[1:]] * frames, CLASSES)


def test_groups_and_their_points_are_drawn_at_the_share():
    draws = np.random.default_rng(0)
    classes, sizes = np.array([9, 9, 1, 9, 1, 1, 1]), np.array([5, 90, 3, 4, 900, 2, 1000])
    drawn = np.array([oracle.systematic(classes, sizes, 0.3, draws) for _ in range(4000)])
    assert np.abs(drawn.mean(0) - 0.3).max() < 0.03  # four standard deviations
    assert set(drawn.sum(1)) == {2, 3}  # independent draws would give 0 to 7
    assert not (drawn[:, 4] & drawn[:, 6]).any()  # neighbours in size within a class
    assert not oracle.systematic(classes, sizes, 0.0, draws).any()
    assert oracle.systematic(classes[:0], sizes[:0], 0.3, draws).shape == (0,)


def test_most_errors_are_common_classes():
    counts = np.zeros(20)
    counts[[IGNORE, CAR, ROAD]] = 500, 25, 75
    likely = oracle.mistakes(counts)
    assert np.allclose(likely.sum(1), 1)
    assert not likely[:, IGNORE].any()
    assert not np.diag(likely).any()
    assert likely[CAR, ROAD] == pytest.approx(0.751 / (0.751 + 17 * 0.001))
    assert likely[TRUCK, [CAR, SIGN]] == pytest.approx(np.array([0.251, 0.001]) / (1 + 18 * 0.001))


@pytest.mark.parametrize("accuracy", [0.3, 0.8])
def test_every_class_is_right_as_often_as_stated_and_wrong_as_a_whole(scene, accuracy):
    points, labels, instances = scene
    answers = np.array(
        [corruption(scene, seed, accuracy).answers("000000", points, labels, instances) for seed in range(1000)]
    )
    wrong, together = 1 - accuracy, oracle.TOGETHER * (1 - accuracy)
    groups = {"car": slice(0, 30), "truck": slice(30, 42), "near road": slice(42, 56), "far road": slice(56, 62)}
    for name, rows in groups.items():
        right = answers[:, rows] == labels[rows]
        assert right.mean() == pytest.approx(accuracy, abs=0.05), name  # three standard deviations
        whole = (answers[:, rows] == answers[:, rows.start, None]).all(1) & ~right[:, 0]
        assert whole.mean() == pytest.approx(together, abs=0.05), name
        # Single points are wrong only in groups that are not wrong as a whole, and not all with the same class.
        assert (~right[~whole]).mean() == pytest.approx((wrong - together) / (1 - together), abs=0.02), name
    assert not (answers[:, :64] == IGNORE).any()
    assert (answers[:, 64:] == IGNORE).all()
    # The same id in two classes is two things. Two cubes are drawn independently.
    for one, other in ((0, 30), (42, 56)):
        assert ((answers[:, one] == labels[one]) != (answers[:, other] == labels[other])).mean() > 0.1


def test_a_thing_is_wrong_in_all_frames_and_stuff_is_drawn_again(scene):
    points, labels, instances = scene
    things = roads = 0
    for seed in range(200):
        made = corruption(scene, seed, 0.6, frames=2)
        first, second = (made.answers(frame, points, labels, instances) for frame in ("000000", "000001"))
        if len(set(first[:30])) == 1 and first[0] != CAR:
            things += 1
            assert (second[:30] == first[0]).all()
        roads += len(set(first[42:56])) == 1 and first[42] != ROAD and (second[42:56] != first[42:56]).any()
    assert things > 30
    assert roads > 15


def test_predictions_depend_only_on_seed_sequence_and_frame(scene):
    points, labels, instances = scene
    both, alone = corruption(scene, frames=2), corruption(scene, frames=2)
    both.answers("000000", points, labels, instances)
    answers = both.answers("000001", points, labels, instances)
    assert (answers == alone.answers("000001", points, labels, instances)).all()
    assert (answers != alone.answers("000000", points, labels, instances)).any()
    assert (answers != corruption(scene, 1, frames=2).answers("000001", points, labels, instances)).any()
    elsewhere = oracle.Corruption(Oracle(accuracy=0.8, seed=0), "04", [scene[1:]] * 2, CLASSES)
    assert (answers != elsewhere.answers("000001", points, labels, instances)).any()


def test_a_perfect_oracle_and_frames_without_points(scene):
    points, labels, instances = scene
    perfect = corruption(scene, accuracy=1.0)
    assert (perfect.answers("000000", points, labels, instances) == labels).all()
    none = slice(0, 0)
    assert perfect.answers("000001", points[none], labels[none], instances[none]).shape == (0,)
    nothing = oracle.Corruption(Oracle(accuracy=0.8, seed=0), "03", [], CLASSES)
    assert nothing.answers("000000", points[none], labels[none], instances[none]).shape == (0,)


def test_confidence_of_the_logits_equals_the_accuracy():
    values = oracle.logits(np.array([ROAD, IGNORE, CAR]), 0.8, 20)
    assert (values.shape, values.dtype) == ((3, 4, 20), np.float16)
    odds = np.exp(values.astype(np.float64))
    assert np.allclose(odds.sum(2), 1, atol=2e-3)  # float16 keeps three digits
    assert np.allclose(odds[0, :, ROAD], 0.8, atol=1e-3)
    assert np.allclose(odds[0, :, [CAR, SIGN]], 0.2 / 18, atol=1e-4)
    assert np.allclose(odds[1, :, 1:], 1 / 19, atol=1e-4)
    assert (odds[:, :, IGNORE] == 0).all()
    perfect = oracle.logits(np.array([ROAD]), 1.0, 20)
    assert np.isfinite(perfect).all()
    assert perfect[0, 0, ROAD] == 0
    assert (np.delete(perfect[0, 0], ROAD) < -13).all()
