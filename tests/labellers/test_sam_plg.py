"""SAM-PLG as published: its prompts, its filters and its vote."""

import numpy as np
import pytest
import torch

from elite_pipeline.config import PaperLabeller
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.labellers.painting import EMPTY, vote
from elite_pipeline.labellers.sam_plg import grid_prompts, mask_prompts, sam_masks
from elite_pipeline.sam.prompts import Embedding
from elite_pipeline.sam.view import View


def sparse_image(size, **points):
    image = np.full(size, EMPTY, dtype=np.uint8)
    for label, (row, column) in ((int(name[1:].split("_")[0]), place) for name, place in points.items()):
        image[row, column] = label
    return image


def test_prompts_lie_on_the_labelled_cells_of_the_grid():
    sparse = sparse_image((40, 80), _1=(0, 0), _2=(20, 40), _0=(20, 50), _3=(39, 79))
    instances = np.zeros((40, 80), np.uint16)
    instances[20, 40] = 300
    grid, grid_instances = grid_prompts(sparse, instances, (12, 20), 4.0)
    assert grid[0, 0] == 1
    assert (grid[5, 10], grid_instances[5, 10]) == (2, 300)
    assert (grid == 3).sum() == 0  # nearest-neighbour resizing reads one pixel per cell, as in the released code
    assert (grid[10:] == EMPTY).all()  # padding


def test_mask_prompts_for_stuff_and_things():
    grid = np.array([[9, 9, 1, 1], [EMPTY, 0, 1, 13]], dtype=np.uint8)
    instances = np.array([[0, 0, 5, 6], [0, 0, 5, 0]], dtype=np.uint16)
    stuff, thing = mask_prompts(grid, instances, np.array([[0, 0], [0, 2]]))
    assert np.array_equal(stuff, [[1, 1, -16, -16], [0, 0, -16, -16]])
    assert np.array_equal(thing, [[-16, -16, 16, 0], [0, 0, 16, -16]])


class OracleSam:
    """Returns three masks for each click: the half of the image that holds the click, an unstable one, an empty one."""

    def __init__(self, patch):
        self.image_encoder = type("Encoder", (), {"patch": patch})
        self.device, self.calls = torch.device("cpu"), 0

    def embed(self, view):
        return Embedding(torch.zeros(1, 1, *(n // self.image_encoder.patch for n in view.shape[1:])))

    def masks(self, embedding, clicks, inside=None, mask_prompts=None):
        size = embedding.mask_size
        self.calls += 1
        assert mask_prompts.shape == (len(clicks), 1, *size)
        half = size[1] // 2
        side = (clicks[:, 0] < 2 * size[1]).float() * 2 - 1
        columns = torch.where(torch.arange(size[1]) < half, 1.0, -1.0)
        sharp = (side[:, None, None] * columns).expand(-1, *size) * 10
        blurred = sharp / 20  # |logit| < the stability offset: unstable
        return torch.stack([sharp, blurred, -30 - sharp], 1), torch.tensor([0.9, 0.95, 0.99]).repeat(len(clicks), 1)


SETTINGS = PaperLabeller(
    predicted_iou=0.0,
    stability=0.9,
    stability_offset=1.0,
    box_nms=0.7,
    prompts_per_batch=3,
)


@pytest.mark.parametrize("size", [(24, 64), (48, 128), (30, 50)])
def test_sam_labeller_filters_prunes_and_votes(size):
    width = size[1]
    sparse = np.full(size, EMPTY, dtype=np.uint8)
    sparse[:, : width // 2 - 4], sparse[:, width // 2 + 4 :] = 9, 13
    sam = OracleSam(16)
    image = np.zeros((*size, 3), np.uint8)
    masks, scores, _ = sam_masks(sam, View(64, 16), lambda: image, sparse, np.zeros(size, np.uint16), SETTINGS)
    masks = list(masks)
    assert len(masks) == len(scores) == 2  # one per half: duplicates, unstable and empty masks are dropped
    assert (np.diff(scores) >= 0).all()
    assert sam.calls > 1
    label = vote(sparse, masks).label
    assert (label[:, : width // 2 - 1] == 9).all()
    assert (label[:, width // 2 + 1 :] == 13).all()


def test_sam_labeller_does_not_prompt_where_nothing_is_labelled():
    sparse = np.full((24, 64), EMPTY, dtype=np.uint8)
    sparse[3, 4] = IGNORE
    masks, scores, prompts = sam_masks(OracleSam(16), View(64, 16), None, sparse, np.zeros((24, 64)), SETTINGS)
    assert (list(masks), len(scores), prompts) == ([], 0, 0)
