"""Pre-training by UDAKD: the pairs of a step, learning, and the saved backbone."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from elite_pipeline.errors import InputError
from elite_pipeline.student.model import build, load_backbone
from elite_pipeline.training import loop
from elite_pipeline.training.contrast import Contrasting, pairs, save
from elite_pipeline.training.examples import Examples, collate
from elite_pipeline.training.sampling import PAIRS, generator


@pytest.fixture
def examples_of(open_taught):
    return lambda taught: Examples(open_taught(taught, labels=False), features=True)


@pytest.fixture
def batch(taught, examples_of):
    """All three scans. Frame 1 has no visible projected points."""
    examples = examples_of(taught)
    return collate([examples[k] for k in (1, 0, 2)])


def changed(settings, section, **values):
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def pairs_of(batch, level="point", count=1000, step=0):
    return pairs(batch, level, count, generator(0, PAIRS, step))


@pytest.mark.parametrize("count", [1000, 5, 1])
def test_with_level_point_each_pair_has_one_point_and_a_patch_of_its_own(batch, count):
    rows, of_pair, patches = pairs_of(batch, count=count)
    assert len(patches) == min(count, 16)  # four patches in each of two cameras, in two of the frames
    assert sorted(of_pair.tolist()) == list(range(len(patches)))
    assert len(set(patches.tolist())) == len(patches)
    assert torch.equal(batch.patch_of[rows], patches[of_pair])


@pytest.mark.parametrize("count", [1000, 5, 1])
def test_with_level_superpixel_each_pair_has_all_points(batch, count):
    rows, of_pair, patches = pairs_of(batch, "superpixel", count)
    assert len(patches) == min(count, 16)
    assert torch.equal(batch.patch_of[rows], patches[of_pair])
    for k, patch in enumerate(patches):
        inside = torch.nonzero(batch.patch_of == patch).squeeze(1)
        assert sorted(rows[of_pair == k].tolist()) == inside.tolist()


@pytest.mark.parametrize("level", ["point", "superpixel"])
def test_pairs_depend_only_on_seed_and_step_and_change_with_the_step(batch, level):
    first, torch_state = pairs_of(batch, level, 5), torch.random.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(first, pairs_of(batch, level, 5), strict=True))
    assert torch.equal(torch_state, torch.random.get_rng_state())
    drawn = [pairs_of(batch, level, 5, step) for step in range(40)]
    assert {patch for _, _, patches in drawn for patch in patches.tolist()} == set(batch.patch_of.tolist()) - {-1}
    # Over many steps, every point of a patch is drawn.
    everything = {row for step in range(40) for row in pairs_of(batch, level, 1000, step)[0].tolist()}
    assert everything == set(range(len(batch.taught)))


@pytest.mark.parametrize("level", ["point", "superpixel"])
def test_without_a_hit_patch_there_is_no_pair(taught, level, examples_of):
    rows, of_pair, patches = pairs_of(collate([examples_of(taught)[1]]), level)
    assert len(rows) == len(of_pair) == len(patches) == 0


@pytest.mark.parametrize("level", ["point", "superpixel"])
def test_the_loss_is_info_nce_of_its_pairs(taught, batch, pretraining_settings, level, examples_of):
    task = Contrasting(examples_of(taught), changed(pretraining_settings, "contrast", level=level, pairs=7))
    learner = task.learner.eval()
    loss, parts = task.loss(learner, batch, step=3)
    pyramid = learner.student.voxelise(batch.points, batch.scan, batch.scans)
    features, anchors, keys = learner.student(pyramid).features[pyramid[1].of_point], [], []
    rows, of_pair, patches = pairs_of(batch, level, 7, step=3)
    for k, patch in enumerate(patches):
        anchors.append(features[batch.taught[rows[of_pair == k]]].mean(dim=0))
        keys.append(learner.image(torch.cat([batch.patches[patch, 0], batch.patches[patch, 3]])))
    anchors, keys = (functional.normalize(torch.stack(side), dim=1) for side in (anchors, keys))
    expected = functional.cross_entropy(anchors @ keys.T / 0.07, torch.arange(7))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert parts["pairs"] == 7
    assert parts["matched"] == ((anchors @ keys.T).argmax(1) == torch.arange(7)).float().mean()


@pytest.mark.parametrize(("scans", "pairs"), [([1], 64), ([0], 1)])
def test_a_step_with_fewer_than_two_pairs_gives_every_parameter_a_zero_gradient(
    taught, pretraining_settings, scans, pairs, examples_of
):
    """DDP waits for the gradient of every parameter."""
    examples = examples_of(taught)
    contrast = pretraining_settings.contrast.model_copy(update={"pairs": pairs})
    task = Contrasting(examples, pretraining_settings.model_copy(update={"contrast": contrast}))
    loss, _ = task.loss(task.learner, collate([examples[k] for k in scans]), step=0)
    loss.backward()
    assert loss == 0
    learnt = [p for group in task.parameter_groups() for p in group["params"]]
    assert len(learnt) == sum(p.requires_grad for p in task.learner.parameters()) > 20
    assert all(p.grad is not None and not p.grad.any() for p in learnt)


def train(examples, settings, run):
    task = Contrasting(examples, settings)
    trained = loop.train(task, run)
    return task, trained, [json.loads(line) for line in trained.log.read_text().splitlines()]


@pytest.mark.parametrize("adaptation", [True, False])
def test_learns_which_points_a_patch_shows(
    taught, rewrite_targets, pretraining_settings, tmp_path, adaptation, examples_of
):
    """It learns from features alone: the targets of a frozen encoder hold nothing else."""
    patches = np.random.default_rng(0).integers(-20, 20, size=(20, 4, 5)).astype(np.int8)
    rewrite_targets(taught["targets"], soft_label=None, mass=None, patch_feature=patches)
    still = {"rotate": False, "flip": False, "scale": 0.0, "translate": 0.0, "drop": 0.0}
    settings = changed(changed(pretraining_settings, "augmentation", **still), "contrast", level="superpixel")
    settings = changed(settings, "pretrain_student", epochs=30, learning_rate=0.02)
    settings = settings if adaptation else settings.model_copy(update={"adaptation": None})
    task, _, log = train(examples_of(taught), settings, tmp_path)
    assert (task.learner.student.adaptation is not None) == adaptation
    log = [line for line in log if line["pairs"]]  # a step may see only frame 1
    guessing = [line["loss"] / math.log(line["pairs"]) for line in log]
    assert np.mean(guessing[-6:]) < 0.7 * np.mean(guessing[:6])
    matched = [line["matched"] for line in log]
    assert np.mean(matched[-6:]) > 2 * np.mean(matched[:6])


def test_an_interrupted_and_resumed_run_ends_in_the_same_bits(
    taught, pretraining_settings, tmp_path, interrupted, examples_of
):
    settings = changed(pretraining_settings, "pretrain_student", epochs=3, checkpoint_every=2)
    whole, trained, log = train(examples_of(taught), settings, tmp_path / "whole")
    interrupted(3, train, examples_of(taught), settings, tmp_path / "parts")
    resumed, _, again = train(examples_of(taught), settings, tmp_path / "parts")
    assert [line["loss"] for line in again] == [line["loss"] for line in log]
    assert len(log) == trained.steps == 5
    mine = resumed.learner.state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in whole.learner.state_dict().items())


def test_saves_the_backbone_apart_from_the_other_layers(taught, pretraining_settings, tmp_path, examples_of):
    task = Contrasting(examples_of(taught), pretraining_settings)
    (tmp_path / "log.jsonl").write_text("{}\n")
    network = pretraining_settings.network
    save(tmp_path / "out", task.learner, {"network": network.model_dump(mode="json")}, tmp_path / "log.jsonl")
    student = build(network, 20)
    load_backbone(student, tmp_path / "out")
    mine, theirs = student.backbone.state_dict(), task.learner.student.backbone.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    module = load_file(tmp_path / "out" / "module.safetensors")
    assert {name.removeprefix("student.").split(".")[0] for name in module} == {"image", "embedding", "adaptation"}
    assert len(module) + len(mine) + 2 == len(task.learner.state_dict())  # and the classifier, which is not trained


def test_targets_without_features_are_refused(taught, rewrite_targets, pretraining_settings, open_taught):
    rewrite_targets(taught["targets"], point_patch=None)
    examples = Examples(open_taught(taught))
    with pytest.raises(InputError, match="add features to cache_teacher"):
        Contrasting(examples, pretraining_settings)
