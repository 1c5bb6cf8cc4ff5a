"""`sam_tiny`: shapes on rectangles of any size, clicks, and the packaged weights."""

import numpy as np
import pytest
import torch

from elite_pipeline.checkpoints import PACKAGED
from elite_pipeline.errors import InputError
from elite_pipeline.sam.build import build_sam, untrained_sam
from elite_pipeline.sam.prompts import batched
from elite_pipeline.sam.state import save_sam
from elite_pipeline.sam.tiny import SHARPNESS, THRESHOLDS, clicked_pieces, similarity
from elite_pipeline.teacher.encoders import StageEncoder


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return untrained_sam("sam_tiny").eval()


@pytest.mark.parametrize("size", [(160, 512), (80, 256), (48, 112)])
@torch.no_grad()
def test_stages_and_masks_on_any_rectangle(tiny, size):
    h, w = size
    encoder = StageEncoder(tiny.image_encoder)
    stages = encoder(torch.randn(2, 3, h, w))
    assert len(stages) == len(encoder.channels) == len(encoder.strides) == 4
    for stage, channels, stride in zip(stages, encoder.channels, encoder.strides, strict=True):
        assert stage.shape == (2, channels, h // stride, w // stride)
    embedding = tiny.embed(torch.randn(3, h, w))
    masks, iou = tiny.masks(embedding, torch.tensor([[5.0, 40.0]]))
    assert masks.shape == (1, 3, h // 4, w // 4)
    assert iou.shape == (1, 3)


def test_adapting_keeps_batch_statistics(tiny):
    encoder = StageEncoder(tiny.image_encoder).train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder(torch.randn(2, 3, 32, 64))
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


def test_similarity_is_highest_where_the_click_is():
    torch.manual_seed(0)
    regions = torch.nn.functional.normalize(torch.randn(8, 10, 20), dim=0)
    cosine, other = similarity(regions, *batched(torch.tensor([[14.0, 22.0]])))  # cell (5, 3) of 4 x 4 pixels
    assert np.unravel_index(int(cosine[0].argmax()), (10, 20)) == (5, 3)
    assert cosine[0].max() == pytest.approx(1.0, abs=1e-5)
    assert (other == -1).all()


def test_similarity_to_several_clicks_is_that_to_the_most_similar_click():
    torch.manual_seed(0)
    regions = torch.nn.functional.normalize(torch.randn(8, 10, 20), dim=0)
    clicks = torch.tensor([[[14.0, 22.0], [70.0, 2.0], [30.0, 30.0]]])
    own, other = similarity(regions, clicks, torch.tensor([[1, 1, 0]]))
    each = [similarity(regions, *batched(clicks[:, k]))[0] for k in range(3)]
    # On some processors, the order of multiplications depends on the number of clicks.
    torch.testing.assert_close(own, torch.maximum(each[0], each[1]))
    torch.testing.assert_close(other, each[2])
    without, _ = similarity(regions, clicks, torch.tensor([[1, 1, -1]]))
    assert torch.equal(own, without)


@torch.no_grad()
def test_a_click_outside_removes_its_surroundings_from_the_mask(tiny):
    embedding = tiny.embed(torch.randn(3, 64, 128))
    clicks = torch.tensor([[[70.0, 30.0], [20.0, 50.0]]])
    with_, _ = tiny.masks(embedding, clicks, torch.tensor([[1, 0]]))
    without, _ = tiny.masks(embedding, clicks, torch.tensor([[1, -1]]))
    assert (with_[0, :, 30 // 4, 70 // 4] > 0).all()
    assert (with_[0, :, 50 // 4, 20 // 4] < 0).all()
    assert ((with_ > 0) <= (without > 0)).all()


def test_only_clicked_pieces_are_kept():
    logits = torch.full((1, 1, 5, 9), -2.0)
    logits[..., 1:4, 1:3] = logits[..., 1:4, 5:7] = 3.0
    kept = clicked_pieces(logits, torch.tensor([[[1.5, 2.5], [6.0, 2.0]]]), torch.tensor([[1, 0]]))
    assert torch.equal(kept[..., :4], logits[..., :4])
    assert (kept[..., 1:4, 5:7] == -SHARPNESS).all()
    both = clicked_pieces(logits, torch.tensor([[[1.5, 2.5], [6.0, 2.0]]]), torch.tensor([[1, 1]]))
    assert torch.equal(both, logits)


@torch.no_grad()
def test_untrained_masks_are_nested_thresholds_of_the_similarity(tiny):
    embedding = tiny.embed(torch.randn(3, 64, 128))
    click = torch.tensor([[70.0, 30.0]])
    masks, _ = tiny.masks(embedding, click)
    cosine, _ = similarity(embedding.regions, *batched(click))
    for mask, threshold in zip(masks[0], THRESHOLDS, strict=True):
        whole = (cosine - threshold)[None]
        assert torch.equal(mask > 0, clicked_pieces(whole, click[None] / 4, torch.ones(1, 1))[0, 0] > 0)


def test_weights_reload_after_saving_in_half_precision(tiny, tmp_path):
    save_sam(tiny, tmp_path / "sam.safetensors", {"note": "test"})
    loaded = build_sam("sam_tiny", tmp_path / "sam.safetensors")
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, tiny.state_dict()[key].half().float() if value.is_floating_point() else value), key


def test_the_error_on_missing_weights_says_how_to_make_them(tmp_path):
    with pytest.raises(InputError, match="pretrain_sam"):
        build_sam("sam_tiny", tmp_path / "none.safetensors")


def test_packaged_weights_load_and_are_small():
    assert PACKAGED.stat().st_size < 20e6
    assert PACKAGED.with_suffix(".md").exists(), "the weights must have a model card"
    assert all(torch.isfinite(value).all() for value in build_sam("sam_tiny").state_dict().values())


def test_packaged_weights_mask_a_clicked_region_better_than_random_ones(tiny):
    """The views show places that pre-training never saw. Random weights are the control.

    Trained features must beat it.
    """
    from elite_pipeline.sam_pretraining.masks import score_clicks
    from elite_pipeline.simulation import random_view

    views = [random_view(seed, 256, 80) for seed in (29100, 29101)]

    def best(sam):
        rng = np.random.default_rng(1)
        scores = [score_clicks(sam, view.rgb, view.region, rng, 32, over="pixels")[0].max(1) for view in views]
        return np.mean(scores)

    packaged, control = best(build_sam("sam_tiny")), best(tiny)
    assert packaged > control + 0.25, (packaged, control)
