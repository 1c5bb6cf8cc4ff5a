import base64
import re

import numpy as np
import pytest

from elite_pipeline.datasets.run_lengths import counts_of, decode, encode, run_lengths


@pytest.fixture(scope="module")
def masks():
    """Masks of 6 x 8, 37 x 50 and 300 x 500: empty, full, noise, and a shape with runs of several characters."""
    rng = np.random.default_rng(0)
    shape = np.hypot(*(np.mgrid[:300, :500] - np.array([140, 260])[:, None, None])) < 130
    return [np.zeros((6, 8), bool), np.ones((6, 8), bool), rng.random((37, 50)) < 0.3, rng.random((6, 8)) < 0.5, shape]


def test_masks_come_back(masks):
    for mask in masks:
        height, width = mask.shape
        written = encode(mask)
        assert written["size"] == [height, width], "height first"
        counts = counts_of(written, height, width)
        assert np.array_equal(decode(counts, height, width), mask)


def test_run_lengths_are_those_of_the_columns(masks):
    for mask in masks:
        runs = run_lengths(counts_of(encode(mask), *mask.shape), mask.size)
        assert runs[1::2].sum() == mask.sum()
        expected = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        assert np.array_equal(expected, mask.ravel(order="F"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda counts: counts[:-1], r"its runs have \d+ pixels, and the image 1850"),
        (lambda counts: counts + b"5", r"its runs have \d+ pixels"),
        (lambda counts: counts[:40], r"its runs have \d+ pixels"),
        (lambda counts: b"", "not COCO's run lengths, or truncated"),
        (lambda counts: counts + b"\x80", "not COCO's run lengths"),
        (lambda counts: counts + b" ", "not COCO's run lengths"),
        (lambda counts: counts + b"o", "truncated"),
        (lambda counts: b"oooooooo0" + counts, "more than 30 bits"),
        (lambda counts: b"4O" + counts, "its runs have -?[0-9]+ pixels"),
    ],
)
def test_damaged_counts_are_recognised(masks, damage, reason):
    """`pycocotools` returns memory that nobody wrote for some of these."""
    counts = damage(counts_of(encode(masks[2]), 37, 50))
    with pytest.raises(ValueError, match=reason):
        run_lengths(counts, 37 * 50)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ({"size": [8, 6], "counts": ""}, "is of 6 x 8 pixels, but its image has 8 x 6"),
        ({"size": [6, 8], "counts": "*"}, "undecodable counts"),
        ({"size": [6, 8], "counts": 7}, "undecodable counts"),
        ({"size": [6, 8]}, "no run lengths"),
        ("PXX", "no run lengths"),
        ([1, 2], "no run lengths"),
    ],
)
def test_other_values_are_no_masks(mask, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        counts_of(mask, 6, 8)


def test_the_counts_are_those_of_coco():
    """By hand: 13 zeros, then runs of 3, twice with 3 zeros between, from the fourth run on as differences."""
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:5] = True
    assert base64.b64decode(encode(mask)["counts"]) == b"=33000a0"
    assert run_lengths(b"=33000a0", 48).tolist() == [13, 3, 3, 3, 3, 3, 20]
