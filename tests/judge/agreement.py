"""What nuscenes-devkit and elite_pipeline must agree on: the pixels of points, and scores."""

import numpy as np
import pytest

PIXELS = 0.1
"""Pixels, and metres of depth, that the two may differ by: the devkit keeps float32 between its steps."""


def same_scores(theirs, ours):
    """Check that one result of the devkit equals ours to 1e-6, and print both. ours: as evaluate_miou writes it."""
    assert theirs["fault"] is None
    print("\nclass, nuscenes-devkit, elite_pipeline")
    for name, iou in ours["iou"].items():
        print(f"{name}, {theirs['iou'][name]}, {iou}")
    print(f"mIoU, {theirs['miou']}, {ours['miou']}")
    wanted = {name: iou if iou is None else pytest.approx(iou, abs=1e-6) for name, iou in ours["iou"].items()}
    assert theirs["iou"] == {"ignore": None, **wanted}
    assert theirs["miou"] == pytest.approx(ours["miou"], abs=1e-6)


def distances(theirs, ours, size):
    """Return the distances in pixels between the devkit's points of an image (3, n) and ours (3, m), in their order.

    Rows are u and v in pixels, and depth in metres. size: (height, width). Each of the devkit's points must be one of
    ours. Ours may have more: those that the devkit cuts at the border of the image and at 1 m, give or take `PIXELS`.
    """
    found, k = [], 0
    for point in theirs.T:
        while k < ours.shape[1] and not _same(point, ours[:, k]):
            assert _cut(ours[:, k], size), f"the devkit lacks {ours[:, k]}"
            k += 1
        assert k < ours.shape[1], f"only the devkit has {point}"
        found.append(np.hypot(*(ours[:2, k] - point[:2])))
        k += 1
    assert all(_cut(one, size) for one in ours[:, k:].T)
    return found


def _same(one, other):
    return np.hypot(*(one[:2] - other[:2])) <= PIXELS and abs(one[2] - other[2]) <= PIXELS


def _cut(point, size):
    (u, v, depth), (height, width), low = point, size, 1 + PIXELS
    return not (low < u < width - low and low < v < height - low and depth > low)
