"""`sam_tiny`: shapes on any rectangle, clicks, and the weights that ship."""

import numpy as np
import pytest
import torch

from elite_pipeline.errors import InputError
from elite_pipeline.teacher.sam import PACKAGED, StageEncoder, build_sam, save_sam, untrained_sam
from elite_pipeline.teacher.tiny import THRESHOLDS, similarity


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
    cosine = similarity(regions, torch.tensor([[14.0, 22.0]]), width=80)  # cell (row 5, column 3) of 4 x 4 pixels
    assert np.unravel_index(int(cosine[0].argmax()), (10, 20)) == (5, 3)
    assert cosine[0].max() == pytest.approx(1.0, abs=1e-5)


@torch.no_grad()
def test_untrained_masks_are_nested_thresholds_of_the_similarity(tiny):
    embedding = tiny.embed(torch.randn(3, 64, 128))
    click = torch.tensor([[70.0, 30.0]])
    masks, _ = tiny.masks(embedding, click)
    cosine = similarity(embedding.regions, click, 128)
    for mask, threshold in zip(masks[0], THRESHOLDS, strict=True):
        assert torch.equal(mask > 0, cosine[0] > threshold)


def test_weights_survive_saving_in_half_precision(tiny, tmp_path):
    save_sam(tiny, tmp_path / "sam.safetensors", {"note": "test"})
    loaded = build_sam("sam_tiny", tmp_path / "sam.safetensors")
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, tiny.state_dict()[key].half().float() if value.is_floating_point() else value), key


def test_missing_weights_say_how_to_remake_them(tmp_path):
    with pytest.raises(InputError, match="pretrain_sam"):
        build_sam("sam_tiny", tmp_path / "none.safetensors")


def test_packaged_weights_load_and_are_small():
    assert PACKAGED.stat().st_size < 20e6
    assert PACKAGED.with_suffix(".md").exists(), "weights come with a model card"
    assert all(torch.isfinite(value).all() for value in build_sam("sam_tiny").state_dict().values())


def test_packaged_weights_mask_a_clicked_region_better_than_random_ones(tiny):
    """On views of places that pre-training never saw; random weights are the control that any features must beat."""
    from elite_pipeline.simulation import random_view
    from elite_pipeline.teacher.masks import score_clicks

    views = [random_view(seed, 256, 80) for seed in (29100, 29101)]

    def best(sam):
        rng = np.random.default_rng(1)
        scores = [score_clicks(sam, view.rgb, view.region, rng, 32, over="pixels")[0].max(1) for view in views]
        return np.mean(scores)

    packaged, control = best(build_sam("sam_tiny")), best(tiny)
    assert packaged > control + 0.25, (packaged, control)
