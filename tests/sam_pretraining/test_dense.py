"""Pre-training of `sam_tiny`: batches, losses, masks and interrupted runs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from elite_pipeline.config import PretrainSam
from elite_pipeline.planes import border
from elite_pipeline.sam_pretraining import dense, fitting
from elite_pipeline.sam_pretraining.batches import NEAR, sample
from elite_pipeline.sam_pretraining.dense import pretrain
from elite_pipeline.sam_pretraining.masks import (
    CLICKS,
    calibrate_iou,
    calibrate_thresholds,
    draw_clicks,
    draw_hints,
    mask_iou,
    more_clicks,
    score_clicks,
)
from elite_pipeline.sam_pretraining.rendered_views import Views, pack


def synthetic(count, *, height=32, width=64, seed=0):
    """`Views` of coloured boxes in front of a wall, under a sky."""
    rng = np.random.default_rng(seed)
    region = np.zeros((count, height, width), np.uint16)
    region[:, height // 4 :] = 1
    for i in range(count):
        for k in range(2, 6):
            y, x = rng.integers(height // 4, height - 8), rng.integers(width - 8)
            region[i, y : y + 8, x : x + 8] = k
    colours = rng.integers(0, 256, (count, 6, 3))
    normal = np.zeros((*region.shape, 3), np.int8)
    normal[..., 2] = -127
    return Views(
        rgb=colours[np.arange(count)[:, None, None], region].astype(np.uint8),
        material=(region % 4).astype(np.uint8),
        normal=normal,
        depth=np.where(region > 0, 20.0 - region, 0).astype(np.float16),
        region=region,
        height=(5.0 - region).astype(np.float16),
        extent=np.repeat(region[..., None], 2, -1).astype(np.float16),
        semantic=(region % 5).astype(np.uint8),
    )


def settings(**changes):
    values = PretrainSam(
        worlds=1, calibration_worlds=1, views_per_world=1, image_width=64, image_height=32, low_resolution_steps=2,
        steps=2, mask_steps=2,
        batch=2, learning_rate=0.002, weight_decay=0.05, warmup=2, class_names=False, seed=0,
    )  # fmt: skip
    return values.model_copy(update=changes)


@pytest.mark.parametrize("halve", [False, True])
def test_a_batch_holds_the_truth_at_its_sampled_pixels(halve):
    """The image has the colour of the region at every `place`, with and without flips."""
    data = synthetic(1, seed=3)
    batch = sample(data, np.random.default_rng(5), 6, pixels=64, halve=halve)
    assert batch.images.shape == (6, 3, *((16, 32) if halve else (32, 64)))
    for image, place, region, material in zip(batch.images, batch.place, batch.region, batch.material, strict=True):
        at = F.grid_sample(image[None], place[None, None], mode="nearest", align_corners=False)[0, :, 0]
        inner = torch.from_numpy(~_near_border(data, place))
        for k in region[inner].unique():
            colours = at[:, inner & (region == k)]
            torch.testing.assert_close(colours, colours[:, :1].expand_as(colours), atol=1e-4, rtol=0)
        assert torch.equal(material, region % 4)


def _near_border(data, place):
    """Mark the pixels (P,) whose cell may mix regions.

    The batch does not tell whether it flipped a view, so both cases are checked.
    """
    edge = border(data.region[0])
    edge = edge | edge[:, ::-1]
    wide = np.zeros_like(edge)
    for dy in (-2, -1, 0, 1, 2):
        for dx in (-2, -1, 0, 1, 2):
            wide |= np.roll(edge, (dy, dx), (0, 1))
    height, width = edge.shape
    x = ((place[:, 0].numpy() + 1) / 2 * width).astype(int)
    y = ((place[:, 1].numpy() + 1) / 2 * height).astype(int)
    return wide[y, x]


def test_half_of_the_pixels_are_at_borders_or_near_them():
    batch = sample(synthetic(2), np.random.default_rng(0), 2, pixels=400, halve=False)
    assert (batch.border[:, 200:300] == 1).all()
    distance = (batch.place[:, 200:300] - batch.place[:, 300:]).abs() * torch.tensor([32.0, 16.0])
    assert distance.max() <= NEAR + 1e-3
    assert 0.05 < batch.border[:, :200].mean() < 0.6


def test_border():
    region = np.array([[1, 1, 1, 1], [1, 1, 2, 2], [1, 1, 2, 2]])
    assert border(region).tolist() == [[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 0]]


def test_losses_fall_on_a_few_views():
    torch.manual_seed(0)
    data = synthetic(2)
    encoder = dense.TinySam().image_encoder
    tasks = dense.Tasks(4, names=20)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *tasks.parameters()], lr=0.003)
    history = []
    for step in range(25):
        losses = tasks.losses(encoder, sample(data, np.random.default_rng(step), 4, pixels=256, halve=False))
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        history.append({name: value.item() for name, value in losses.items()})
    for name in ("material", "normal", "depth", "size", "region", "names"):
        assert np.mean([h[name] for h in history[-5:]]) < 0.8 * np.mean([h[name] for h in history[:3]]), name


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_in", ["dense", "masks"])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch, killed_in):
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY", 1)
    data = synthetic(3)
    whole = pretrain(data, data, settings(), tmp_path / "whole").state_dict()
    save = fitting._save

    def save_and_die(path, state):
        save(path, state)
        if path.stem == killed_in and state["step"] == 1:
            raise Killed

    monkeypatch.setattr(fitting, "_save", save_and_die)
    with pytest.raises(Killed):
        pretrain(data, data, settings(), tmp_path / "cut")
    monkeypatch.setattr(fitting, "_save", save)
    resumed = pretrain(data, data, settings(), tmp_path / "cut").state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_run_with_other_settings_starts_from_scratch(tmp_path):
    data = synthetic(3)
    pretrain(data, data, settings(mask_steps=0), tmp_path)
    again = pretrain(data, data, settings(mask_steps=0, seed=1), tmp_path).state_dict()
    fresh = pretrain(data, data, settings(mask_steps=0, seed=1), tmp_path / "fresh").state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in again.items())


def test_mask_training_does_not_change_the_frozen_encoder(tmp_path):
    data = synthetic(3)
    dense = pretrain(data, data, settings(mask_steps=0), tmp_path / "a").state_dict()
    masks = pretrain(data, data, settings(), tmp_path / "b").state_dict()
    changed = [key.removeprefix("image_encoder.") for key in dense if not torch.equal(dense[key], masks[key])]
    assert {name.split(".")[0] for name in changed} == {"neck", "prompt_encoder", "mask_decoder", "iou_line"}


def test_clicks_lie_inside_their_masks():
    region = synthetic(1).region[0]
    clicks, truth = draw_clicks(region, np.random.default_rng(0), 20, cell=2)
    assert truth.shape == (20, 16, 32)
    for (u, v), mask in zip(clicks, truth, strict=True):
        assert np.array_equal(mask > 0, region[1::2, 1::2] == region[int(v), int(u)])


def test_only_the_control_uses_the_class_names(tmp_path):
    """With other class names in the views, the weights differ only if `class_names` is set."""
    data = synthetic(3)
    other = replace(data, semantic=(data.region % 3).astype(np.uint8))
    for names in (False, True):
        made = [
            pretrain(views, views, settings(mask_steps=0, class_names=names), tmp_path / f"{k}{names}").state_dict()
            for k, views in enumerate((data, other))
        ]
        assert all(torch.equal(value, made[1][key]) for key, value in made[0].items()) != names


def test_more_clicks_are_inside_the_region_or_near_it_outside():
    region = synthetic(1).region[0]
    clicks, _ = draw_clicks(region, np.random.default_rng(0), 20, cell=2)
    every, inside = more_clicks(region, clicks, np.random.default_rng(1))
    assert np.array_equal(every[:, 0], clicks)
    assert (inside[:, 0] == 1).all()
    for (u, v), points, kinds in zip(clicks, every.astype(int), inside, strict=True):
        same = region[points[:, 1], points[:, 0]] == region[int(v), int(u)]
        assert same[kinds == 1].all()
        assert not same[kinds == 0].any()
    assert {0, 1, -1} == set(np.unique(inside))


def test_the_predicted_iou_is_calibrated():
    """After calibration, the mean prediction is the mean true IoU: a least-squares line passes through both means."""
    data = synthetic(4)
    sam = dense.TinySam().eval()
    calibrate_iou(sam, data, 0)
    rng = np.random.default_rng(0)
    scores = [score_clicks(sam, data.rgb[i], data.region[i], rng, CLICKS) for i in range(len(data))]
    found, predicted = (np.concatenate([score[k] for score in scores]) for k in range(2))
    np.testing.assert_allclose(predicted.mean(0), found.mean(0), atol=0.02)


def test_thresholds_are_calibrated_to_the_cosines_between_regions(monkeypatch):
    data = synthetic(1)
    apart = torch.linalg.cholesky(0.2 * torch.eye(6) + 0.8)  # rows: unit vectors, any two at a cosine of 0.8
    regions = apart[torch.from_numpy(data.region[0, 2::4, 2::4].astype(np.int64))].permute(2, 0, 1)
    sam = dense.TinySam().eval()
    monkeypatch.setattr(sam, "embed", lambda view: SimpleNamespace(regions=regions))
    with torch.no_grad():
        sam.thresholds.copy_(torch.tensor([0.1, 0.2, 0.3]))
    calibrate_thresholds(sam, data, 0)
    assert sam.thresholds.max() > 0.8


def test_hints_agree_with_the_masks():
    _, truth = draw_clicks(synthetic(1).region[0], np.random.default_rng(0), 20, cell=2)
    hints = draw_hints(truth, np.random.default_rng(1))
    assert hints.shape == (20, 1, 16, 32)
    assert set(np.unique(hints[:, 0][truth > 0])) == {0, 1, 16}
    assert set(np.unique(hints[:, 0][truth == 0])) == {-16, 0}


def test_mask_iou():
    a = torch.tensor([[True, True, False, False]])
    b = torch.tensor([[False, True, True, False]])
    assert mask_iou(a[None], b[None]).item() == pytest.approx(1 / 3)


def test_rendered_views_are_packed_without_loss():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(4, 6, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    view = SimpleNamespace(
        rgb=rng.integers(0, 256, (4, 6, 3), dtype=np.uint8),
        material=rng.integers(0, 9, (4, 6), dtype=np.uint8),
        normal=normal.astype(np.float16),
        depth=rng.uniform(0, 80, (4, 6)).astype(np.float32),
        region=rng.integers(0, 999, (4, 6)).astype(np.uint16),
        height=rng.uniform(-1, 20, (4, 6)).astype(np.float32),
        extent=rng.uniform(0, 50, (4, 6, 2)).astype(np.float32),
        semantic=np.zeros((4, 6), np.uint8),
    )
    packed = pack([view])
    np.testing.assert_array_equal(packed.region[0], view.region)
    np.testing.assert_allclose(packed.normal[0] / 127, normal, atol=0.005)
    np.testing.assert_allclose(packed.depth[0], view.depth, rtol=1e-3)
    np.testing.assert_allclose(packed.extent[0], view.extent, rtol=1e-3)
    assert len(packed[:1]) == 1
    assert len(packed[1:]) == 0
