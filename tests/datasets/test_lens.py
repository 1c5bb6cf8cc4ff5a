import numpy as np
import pytest
from PIL import Image

from elite_pipeline.datasets.lens import has_known_formula, is_one_to_one, lens_of

INTRINSICS = [[316.0, 0, 204.0], [0, 316.0, 123.0], [0, 0, 1]]
"""CAM_FRONT's at 400 x 225 pixels."""

COEFFICIENTS = [-0.31, 0.11, 0.0011, -0.0007, -0.02]
WIDTH, HEIGHT = 400, 225


@pytest.fixture
def lens():
    return lens_of(INTRINSICS, COEFFICIENTS)


def test_the_formula_is_that_of_opencv(lens):
    """cv2.projectPoints of (x, y, 1) with these intrinsics and coefficients gives the same numbers."""
    x, y = 0.4, -0.3
    u, v = lens.distorted(np.array(316 * x + 204), np.array(316 * y + 123))
    r2 = x * x + y * y
    radial = 1 - 0.31 * r2 + 0.11 * r2**2 - 0.02 * r2**3
    assert u == pytest.approx(316 * (x * radial + 2 * 0.0011 * x * y - 0.0007 * (r2 + 2 * x * x)) + 204)
    assert v == pytest.approx(316 * (y * radial + 0.0011 * (r2 + 2 * y * y) - 2 * 0.0007 * x * y) + 123)


def test_pixels_come_from_where_the_lens_put_them(lens):
    """An image that holds its own coordinates shows where each pixel was taken from."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected = lens.distorted(columns, rows)
    for own, wanted in zip((columns, rows), expected, strict=True):
        taken = np.asarray(lens.undistort(Image.fromarray(own.astype(np.float32))))
        assert np.abs(taken - wanted)[1:-1, 1:-1].max() < 0.25, "pixels, of a mesh that is coarse for this small image"


def test_labels_are_not_mixed(lens):
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[60:120, 30:200] = 7
    straight = np.asarray(lens.undistort(Image.fromarray(label), labels=True))
    assert set(np.unique(straight)) == {0, 7}
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    u, v = lens.distorted(columns, rows)
    expected = label[np.clip(v.astype(int), 0, HEIGHT - 1), np.clip(u.astype(int), 0, WIDTH - 1)]
    assert (straight != expected).mean() < 0.001


def test_pixels_beyond_the_image_are_unlabelled():
    lens = lens_of(INTRINSICS, [0.4])
    label = Image.fromarray(np.full((HEIGHT, WIDTH), 5, np.uint8))
    straight = np.asarray(lens.undistort(label, labels=True))
    assert straight[0, 0] == 0
    assert straight[HEIGHT // 2, WIDTH // 2] == 5


def test_no_distortion_is_no_lens():
    assert lens_of(INTRINSICS, []) is None
    assert lens_of(INTRINSICS, [0.0] * 6) is None


def test_the_formula_of_six_coefficients_is_not_known():
    assert has_known_formula(COEFFICIENTS)
    assert has_known_formula([*COEFFICIENTS, 0.0])
    assert not has_known_formula([*COEFFICIENTS, 0.01])


def test_coefficients_that_fold_the_image_are_recognised(lens):
    assert is_one_to_one(lens, WIDTH, HEIGHT)
    assert not is_one_to_one(lens_of(INTRINSICS, [-2.0]), WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("intrinsics", "coefficients"),
    [([], [0.1]), (INTRINSICS, ["a"]), (INTRINSICS, [float("nan")]), ([[0, 0, 1], [0, 1, 1], [0, 0, 1]], [0.1])],
)
def test_other_values_are_no_calibration(intrinsics, coefficients):
    with pytest.raises((TypeError, ValueError)):
        lens_of(intrinsics, coefficients)
