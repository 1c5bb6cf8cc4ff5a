"""Superpixels follow the colours of an image, and each point gets the superpixel of its pixel."""

import numpy as np
from skimage.measure import label

from elite_pipeline.config import SegmentImages
from elite_pipeline.recordings import superpixels

SLIDR = SegmentImages(segments=150, compactness=6.0, sigma=3.0)


def test_superpixels_are_connected_and_keep_to_one_side_of_an_edge():
    image = np.full((180, 320, 3), (40, 60, 90), np.uint8)
    image[:, 150:] = (200, 180, 40)

    def on_both_sides(found):
        return set(np.unique(found[:, :145])) & set(np.unique(found[:, 155:]))  # outside the blur of `sigma`

    found = superpixels.segments(image, SLIDR)
    assert found.shape == (180, 320)
    assert found.dtype == np.int32
    numbers = np.unique(found)
    assert numbers.tolist() == list(range(len(numbers)))
    assert 75 < len(numbers) <= 150
    assert all(label(found == k, connectivity=1).max() == 1 for k in numbers)
    assert not on_both_sides(found)
    assert on_both_sides(superpixels.segments(image, SLIDR.model_copy(update={"compactness": 1e6})))  # ignores colours


def test_an_image_of_one_colour_is_divided_too():
    black = superpixels.segments(np.zeros((40, 80, 3), np.uint8), SLIDR)
    assert 75 < len(np.unique(black)) <= 150


def test_points_get_the_superpixel_of_the_pixel_that_contains_them():
    found = np.arange(12, dtype=np.int32).reshape(3, 4)
    pixel = np.array([[0, 0], [0.99, 0.99], [1, 0], [3.999, 2.999], [2.5, 1]], np.float32)
    assert superpixels.at(found, pixel).tolist() == [0, 0, 1, 11, 6]
    assert superpixels.at(found, np.zeros((0, 2), np.float32)).shape == (0,)
