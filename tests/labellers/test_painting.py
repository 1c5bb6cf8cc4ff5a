import numpy as np
import pytest
from PIL import Image

from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.evaluation.confusion import Confusion
from elite_pipeline.labellers.painting import CERTAIN, EMPTY, nearest, paint, vote


def sparse_image(size, **points):
    image = np.full(size, EMPTY, dtype=np.uint8)
    for label, (row, column) in ((int(name[1:].split("_")[0]), place) for name, place in points.items()):
        image[row, column] = label
    return image


def both(made):
    return made.label, made.confidence


def test_nearest_point_wins_a_pixel_in_any_order():
    pixel = np.array([[3.9, 1.0], [3.0, 1.9], [0.0, 0.0], [7.99, 4.99]], dtype=np.float32)
    depth, label, instance = np.array([5.0, 9.0, 1.0, 1.0]), np.array([1, 2, 0, 4]), np.array([300, 7, 0, 65535])
    for order in (slice(None), slice(None, None, -1)):
        sparse, instances = paint(pixel[order], depth[order], label[order], instance[order], (5, 8))
        assert sparse[1, 3] == 1
        assert instances[1, 3] == 300  # too large for a byte, the type in the released code
        assert sparse[0, 0] == IGNORE
        assert sparse[4, 7] == 4
        assert (sparse == EMPTY).sum() == 5 * 8 - 3


def test_single_labelled_pixel_fills_its_disc_with_falling_confidence():
    sparse = sparse_image((41, 61), _9=(20, 30))
    label, confidence = both(nearest(sparse, radius=5.0))
    distance = np.hypot(*(np.indices(sparse.shape) - np.array([20, 30])[:, None, None]))
    assert np.array_equal(label == 9, distance <= 5)
    assert set(np.unique(label)) == {IGNORE, 9}
    assert confidence[20, 30] == CERTAIN
    assert (np.diff(confidence[20, 30:37].astype(int)) < 0).sum() == 6
    assert (confidence[label == 9] > 0).all()
    assert (confidence[label == IGNORE] == 0).all()


def test_nothing_labelled_gives_nothing():
    sparse = np.full((7, 9), EMPTY, dtype=np.uint8)
    for made in (nearest(sparse, radius=100.0), vote(sparse, [np.ones((7, 9), bool)])):
        label, confidence = both(made)
        assert not label.any()
        assert not confidence.any()


def test_ignored_points_keep_other_labels_away():
    sparse = sparse_image((1, 21), _0=(0, 5), _3=(0, 15))
    label, confidence = both(nearest(sparse, radius=50.0))
    assert (label[0, :10] == IGNORE).all()
    assert (confidence[0, :10] == 0).all()
    assert (label[0, 11:] == 3).all()


def test_vote_fills_by_majority_and_the_last_mask_wins():
    sparse = sparse_image((4, 10), _1=(0, 0), _1_=(0, 1), _2=(0, 2), _5=(3, 9))
    first, second = np.zeros((2, 4, 10), dtype=bool)
    first[:2, :6], second[0, 2:4] = True, True
    label, confidence = both(vote(sparse, [first, second]))
    assert (label[first & ~second] == 1).all()
    assert (confidence[first & ~second] == round(255 * 2 / 3)).all()
    assert (label[second] == 2).all()  # the later mask overwrites the larger first mask
    assert label[3, 9] == 5  # a labelled pixel outside all masks
    assert (label[2:, :9] == IGNORE).all()


def test_vote_skips_masks_without_votes_and_with_ignored_majority():
    sparse = sparse_image((2, 6), _0=(0, 0), _0_=(0, 1), _4=(0, 2))
    ignored, empty = np.zeros((2, 2, 6), dtype=bool)
    ignored[0, :4], empty[1] = True, True
    label, _ = both(vote(sparse, [ignored, empty, np.zeros((2, 6), bool)]))
    assert label[0, 2] == 4
    assert label.sum() == 4


def test_vote_on_real_masks_covers_more_than_the_points_and_stays_pure(sample, open_drive, classes):
    """94 masks of a real SAM, and the sparse labels of a real scan. Half of the labels are held out."""
    from elite_pipeline.recordings.projection import project

    recording = open_drive(sample / "sequences/00")
    image, points = recording.image("000000", "image_2"), recording.points("000000")
    labels, instances = recording.labels("000000", len(points)), recording.instances("000000", len(points))
    point, pixel, depth = project(points, recording.camera("image_2", "000000"), image.shape[:2], 0.5)
    masks = [
        np.asarray(Image.open(path)) > 0 for path in sorted((sample / "sam_masks/00_000000_image_2").glob("*.png"))
    ]
    masks.sort(key=np.sum, reverse=True)
    shown = np.arange(len(point)) % 2 == 0
    args = pixel[shown], depth[shown], labels[point[shown]], instances[point[shown]]
    sparse, _ = paint(*args, image.shape[:2])
    label, confidence = both(vote(sparse, iter(masks)))

    assert (label != IGNORE).mean() > 0.6 > 10 * (sparse != EMPTY).mean()
    held_out = Confusion(classes)
    column, row = pixel[~shown].astype(int).T
    held_out.add(labels[point[~shown]], label[row, column])
    assert held_out.coverage > 0.75
    assert held_out.accuracy > 0.8
    wrong = Confusion(classes)
    wrong.add(labels[point[~shown]], np.roll(label, 200, axis=1)[row, column])
    assert wrong.accuracy < held_out.accuracy - 0.2
    assert confidence.max() == CERTAIN


def test_confusion_counts_what_is_covered(classes):
    confusion = Confusion(classes)
    confusion.add(np.array([0, 1, 1, 1, 2, 2]), np.array([3, 1, 1, 2, 2, 0]))
    assert confusion.coverage == pytest.approx(4 / 5)
    assert confusion.accuracy == pytest.approx(3 / 4)
    assert confusion.iou == pytest.approx({"car": 2 / 3, "bicycle": 1 / 2})
    assert confusion.miou_of_all == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert np.isnan(Confusion(classes).miou)
    assert np.isnan(Confusion(classes).miou_of_all)
