"""The default labeller: regions, prompts, the choice of SAM's masks, and labels that spread through masks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from elite_pipeline.config import RegionsLabeller
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.labellers.painting import CERTAIN, EMPTY, nearest
from elite_pipeline.labellers.regions import find_regions, nearest_through, region_masks, spread
from elite_pipeline.sam.build import build_sam
from elite_pipeline.sam.prompts import Embedding, batched
from elite_pipeline.sam.view import View

SETTINGS = RegionsLabeller(regions=20, inside=4, outside=4, purity=0.8, detour=2.0, radius=100.0)
SIZE = (32, 64)


def scattered(truth, share=0.1, seed=0):
    """A sparse image with a random `share` of the pixels of `truth`."""
    shown = np.random.default_rng(seed).random(truth.shape) < share
    return np.where(shown, truth, EMPTY).astype(np.uint8)


def halves():
    """Road (9) on the left, building (13) on the right."""
    return np.where(np.arange(SIZE[1]) < SIZE[1] // 2, 9, 13)[None].repeat(SIZE[0], 0).astype(np.uint8)


class OracleSam:
    """A SAM that knows the true regions.

    Its three masks are the region of the first click, the whole image, and an empty mask.
    """

    def __init__(self, truth):
        self.truth, self.device = torch.from_numpy(truth.astype(np.int64)), torch.device("cpu")
        self.image_encoder = type("Encoder", (), {"patch": 16})
        self.asked = []

    def embed(self, view):
        return Embedding(torch.zeros(1, 1, *(n // 16 for n in view.shape[1:])))

    def masks(self, embedding, clicks, inside=None, mask_prompts=None):
        clicks, inside = batched(clicks, inside)
        self.asked += list(zip(clicks.numpy(), inside.numpy(), strict=True))
        coarse = self.truth[2::4, 2::4]
        own = torch.stack([coarse == self.truth[int(v), int(u)] for u, v in clicks[:, 0]]).float() * 20 - 10
        return torch.stack([own, torch.full_like(own, 10), torch.full_like(own, -10)], 1), torch.zeros(len(own), 3)


def labelled(sam, sparse, instances=None, settings=SETTINGS):
    instances = np.zeros(sparse.shape, np.uint16) if instances is None else instances
    return spread(sam, View(64, 16), lambda: np.zeros((*sparse.shape, 3), np.uint8), sparse, instances, settings)


def test_positive_prompts_are_inside_the_region_and_negative_prompts_outside():
    truth, sparse = halves(), scattered(halves())
    found = find_regions(sparse, np.zeros(SIZE, np.uint16), SETTINGS)
    assert [region.label for region in found] in ([9, 13], [13, 9])
    for region in found:
        assert (sparse[tuple(region.points.T)] == region.label).all()
        assert len(region.points) == (sparse == region.label).sum()
        assert len(region.inside) == len(region.outside) == 4
        assert (truth[tuple(region.inside.T)] == region.label).all()
        assert (truth[tuple(region.outside.T)] == 22 - region.label).all()
        # Negative prompts lie where they matter: at the border.
        assert np.abs(region.outside[:, 1] - SIZE[1] // 2).max() < 16


def test_separate_pieces_are_separate_regions_but_an_instance_is_one_region():
    sparse = np.full((8, 40), 9, np.uint8)
    sparse[:, 5:10] = sparse[:, 20:25] = 1
    instances = np.zeros(sparse.shape, np.uint16)
    assert len(find_regions(sparse, instances, SETTINGS)) == 5
    instances[sparse == 1] = 7
    assert len(find_regions(sparse, instances, SETTINGS)) == 4
    most = SETTINGS.model_copy(update={"regions": 2})
    assert [len(region.points) for region in find_regions(sparse, instances, most)] == [15 * 8, 10 * 8]


def test_the_pure_mask_of_three_is_chosen():
    sparse = scattered(halves())
    found = find_regions(sparse, np.zeros(SIZE, np.uint16), SETTINGS)
    masks = dict(region_masks(OracleSam(halves()), View(64, 16), np.zeros((*SIZE, 3), np.uint8), sparse, found, 0.8))
    assert set(masks) == {9, 13}
    for label, mask in masks.items():
        assert (mask == (halves() == label))[:, np.abs(np.arange(64) - 31.5) > 2].all()


def test_impure_masks_are_dropped():
    """This SAM merges two regions into one. Its masks do not help, but they do no harm."""
    sparse = scattered(halves())
    made = labelled(OracleSam(np.zeros(SIZE)), sparse)
    np.testing.assert_array_equal(made.label, nearest(sparse, radius=100.0).label)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_masks_beat_the_nearest_label_by_more_with_sparse_points(share):
    truth = np.full(SIZE, 9, np.uint8)
    truth[8:24, 20:30], truth[4:28, 44:52], truth[:4] = 1, 18, 13
    errors = []
    for seed in range(5):
        sparse = scattered(truth, share, seed)
        made = labelled(OracleSam(truth), sparse)
        errors.append([(made.label != truth).mean(), (nearest(sparse, radius=100.0).label != truth).mean()])
    ours, theirs = np.mean(errors, 0)
    assert ours < theirs * (1.0 if share == 0.5 else 0.9), (ours, theirs)


def test_each_region_is_one_decoder_call_and_its_prompts_are_counted():
    sam = OracleSam(halves())
    made = labelled(sam, scattered(halves()))
    assert made.decoder_calls == len(sam.asked) == 2
    assert made.prompts == sum((inside >= 0).sum() for _, inside in sam.asked) == 16


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_regions_are_decoded_with_only_their_own_prompts(batch):
    """SAM's decoder treats padding as prompts. A region's mask must not depend on other regions in its batch."""
    sparse = np.full(SIZE, EMPTY, np.uint8)
    sparse[4::4, 4:28:4], sparse[10, 40], sparse[20, 50:53], sparse[2, 60] = 9, 1, 13, 18
    found = find_regions(sparse, np.zeros(SIZE, np.uint16), SETTINGS)
    counts = sorted(len(region.inside) + len(region.outside) for region in found)
    assert len(set(counts)) > 1
    sam = OracleSam(np.zeros(SIZE))
    list(region_masks(sam, View(64, 16), np.zeros((*SIZE, 3), np.uint8), sparse, found, 0.0, batch=batch))
    assert sorted(len(inside) for _, inside in sam.asked) == counts
    assert all((inside >= 0).all() for _, inside in sam.asked)


def test_points_without_a_class_are_not_negative_prompts():
    sparse = scattered(np.where(halves() == 13, IGNORE, 9), 0.2)
    (region,) = find_regions(sparse, np.zeros(SIZE, np.uint16), SETTINGS)
    assert len(region.outside) == 0


def test_labels_flow_through_masks_and_stop_at_their_edges():
    sparse = np.full((1, 30), EMPTY, np.uint8)
    sparse[0, 2], sparse[0, 22] = 9, 13
    mask = np.zeros((1, 30), bool)
    mask[0, :18] = True
    label, confidence = nearest_through([(9, mask)], sparse, 3.0, 100.0)
    assert (label[0, :17] == 9).all()
    assert (label[0, 18:] == 13).all()
    assert confidence[0, 2] == confidence[0, 22] == CERTAIN
    assert (np.diff(confidence[0, 2:17].astype(int)) <= 0).all()
    # A near point wins against a mask whose point is far away.
    sparse[0, 16] = 13
    label, _ = nearest_through([(9, mask)], sparse, 3.0, 100.0)
    assert label[0, 16] == label[0, 17] == 13
    assert (label[0, :12] == 9).all()


def test_beyond_the_radius_only_masks_give_labels():
    sparse = np.full((1, 30), EMPTY, np.uint8)
    sparse[0, 4] = 9
    mask = np.zeros((1, 30), bool)
    mask[0, 4:20] = True
    label, confidence = nearest_through([(9, mask)], sparse, 2.0, 3.0)
    assert (label[0, 1:20] == 9).all()
    assert (label[0, [0, *range(20, 30)]] == IGNORE).all()
    assert ((confidence > 0) == (label != IGNORE)).all()


@pytest.mark.parametrize("known", ["nothing", "ignored", "one pixel", "one class", "everything"])
def test_odd_images_are_labelled_without_a_crash(known):
    """The real sam_tiny labels a black image. Without known labels, every pixel is `IGNORE`."""
    sparse = np.full((40, 100), EMPTY, np.uint8)
    if known == "ignored":
        sparse[::4, ::4] = IGNORE
    elif known == "one pixel":
        sparse[0, 99] = 5
    elif known == "one class":
        sparse[::4, ::4] = 9
    elif known == "everything":
        sparse[:] = np.arange(4000).reshape(40, 100) % 19 + 1
    made = labelled(build_sam("sam_tiny"), sparse)
    assert set(np.unique(made.label)) <= {IGNORE, *np.unique(sparse[sparse != EMPTY])}
    assert made.label.dtype == made.confidence.dtype == np.uint8
    assert ((made.confidence > 0) <= (made.label != IGNORE)).all()
    if known in ("nothing", "ignored"):
        assert not made.label.any()
    else:
        assert made.label.any()
    assert (made.label == sparse)[(sparse != EMPTY)].all()


def test_labels_through_real_masks_beat_the_nearest_label(sample, monkeypatch):
    """Masks of a real SAM, and 5 % of one half of a real scan's labels. The other half is the reference."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import real_masks  # pyright: ignore[reportMissingImports]

    figures = real_masks.compare(*real_masks.read(sample), 0.05)
    assert figures["through masks"]["accuracy"] > figures["nearest"]["accuracy"] + 0.03
    assert figures["through masks"]["miou_of_all"] > figures["nearest"]["miou_of_all"] + 0.04
    assert figures["through masks"]["miou_of_all"] > figures["vote"]["miou_of_all"]
