"""`Segmentation`: its initial weights, its trainable parts and its losses, with pre-trained backbones and with FSKD."""

import json

import pytest
import torch
from torch.nn import functional

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.errors import InputError
from elite_pipeline.training.contrast import ContrastLearner, save
from elite_pipeline.training.examples import Examples, collate
from elite_pipeline.training.loop import train
from elite_pipeline.training.losses import class_weights, lovasz_softmax
from elite_pipeline.training.output_targets import are_confident, output_targets
from elite_pipeline.training.segmentation import Segmentation

CLASSES = class_table("semantickitti").names
KNOWN = [CLASSES.index(name) for name in ("car", "road", "building")]


@pytest.fixture
def examples_of(open_taught):
    return lambda taught, *names: Examples(open_taught(taught, *names), features=True)


def changed(settings, section, **values):
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


@pytest.fixture
def examples(taught, examples_of):
    return examples_of(taught, "frames")


@pytest.fixture
def pretrained(pretraining_settings, tmp_path):
    """(folder of a backbone, its weights)."""
    torch.manual_seed(5)
    learner, network = (
        ContrastLearner(pretraining_settings, 10, 20),
        pretraining_settings.network.model_dump(mode="json"),
    )
    (tmp_path / "log.jsonl").write_text("")
    save(tmp_path / "pretrained", learner, {"network": network}, tmp_path / "log.jsonl")
    return tmp_path / "pretrained", learner.student.backbone.state_dict()


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def differ(first, second):
    """Names of the tensors that are not equal."""
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def test_starts_from_the_pretrained_backbone(examples, minkunet_settings, pretrained, tmp_path):
    folder, backbone = pretrained
    task, other = Segmentation(examples, minkunet_settings, folder), Segmentation(examples, minkunet_settings)
    assert not differ(task.student.backbone.state_dict(), backbone)
    assert differ(other.student.backbone.state_dict(), backbone)
    # Everything else is the same as without it, except the folder of checkpoints.
    assert not differ(task.student.classifier.state_dict(), other.student.classifier.state_dict())
    assert train(task, tmp_path / "run").log.parent != train(other, tmp_path / "run").log.parent
    assert differ(task.student.backbone.state_dict(), backbone)


def test_linear_probing_keeps_the_backbone_and_its_statistics(examples, minkunet_settings, pretrained, tmp_path):
    folder, backbone = pretrained
    task = Segmentation(examples, changed(minkunet_settings, "train_student", backbone_learning_rate=0.0), folder)
    before = snapshot(task.student)
    train(task, tmp_path / "run")
    assert any("running" in name for name in backbone)
    assert not differ(task.student.backbone.state_dict(), backbone)
    assert differ(before, task.student.state_dict()) == {"classifier.weight", "classifier.bias"}


def test_the_backbone_can_have_its_own_learning_rate(examples, minkunet_settings, tmp_path):
    options = {"optimiser": "sgd", "learning_rate": 0.1, "epochs": None, "steps": 1, "weight_decay": 0.0, "warmup": 0}
    moved = {}
    for share in (None, 0.1):
        own = None if share is None else share * 0.1
        task = Segmentation(
            examples, changed(minkunet_settings, "train_student", **options, backbone_learning_rate=own)
        )
        before = {name: value.clone() for name, value in task.student.named_parameters()}
        train(task, tmp_path / str(share))
        moved[share] = {name: value.detach() - before[name] for name, value in task.student.named_parameters()}
    for name, step in moved[None].items():
        share = 0.1 if name.startswith("backbone.") else 1.0
        torch.testing.assert_close(moved[0.1][name], share * step, rtol=1e-2, atol=1e-6, msg=name)
    assert all(moved[None][name].any() for name in ("classifier.weight", "backbone.stem.convolution.weight"))


def test_a_spvcnn_has_no_separate_backbone(examples, student_settings, pretrained):
    with pytest.raises(InputError, match="leave out --pretrained"):
        Segmentation(examples, student_settings, pretrained[0])
    with pytest.raises(InputError, match=r"train_student\.backbone_learning_rate"):
        Segmentation(examples, changed(student_settings, "train_student", backbone_learning_rate=0.0))


def test_a_backbone_of_other_voxels_is_refused(examples, minkunet_settings, pretrained):
    with pytest.raises(InputError, match=r"network\.voxel_size=\[1\.0, 1\.0, 1\.0\].*network\.voxel_size=\[0\.5"):
        Segmentation(examples, changed(minkunet_settings, "network", voxel_size=(0.5, 1.0, 1.0)), pretrained[0])


def test_fskd_learns_without_any_label(unlabelled, image_taught, examples_of, fskd_settings, tmp_path):
    still = {"rotate": False, "flip": False, "scale": 0.0, "translate": 0.0, "drop": 0.0}
    settings = changed(changed(fskd_settings, "augmentation", **still), "losses", balanced=True)
    settings = changed(settings, "train_student", epochs=20, learning_rate=0.02)
    task = Segmentation(examples_of(image_taught), settings)
    assert task.known_classes == ["car", "road", "building"]
    weight, bias = examples_of(image_taught).classifier()
    log = [json.loads(line) for line in train(task, tmp_path).log.read_text().splitlines()]
    assert all(line["cross_entropy"] == line["lovasz"] == 0 for line in log)
    for name in ("output", "features"):
        values = [line[name] for line in log if line[name]]
        assert sum(values[-5:]) < 0.8 * sum(values[:5])
    # The weights of the student contain the shared classifier, unchanged.
    assert torch.equal(task.student.state_dict()["classifier.weight"], weight)
    assert torch.equal(task.student.state_dict()["classifier.bias"], bias)


@pytest.mark.parametrize("adaptation", [True, False])
def test_fskd_is_its_formula(image_taught, examples_of, fskd_settings, adaptation):
    if not adaptation:
        fskd_settings = changed(fskd_settings, "network", adaptation=None)
    examples = examples_of(image_taught)
    task, batch = Segmentation(examples, fskd_settings), collate([examples[2], examples[0]])
    student = task.student.eval()
    output = student(student.voxelise(batch.points, batch.scan, batch.scans))
    _, parts = task.loss(task.learner, batch, 0)
    of_point = student.voxelise(batch.points, batch.scan, batch.scans)[1].of_point
    features = output.features[of_point[batch.taught]]  # after the adaptation module
    assert (output.embedding is not None and torch.equal(output.features, output.embedding)) is False

    distances = []
    for patch in batch.patch_of.unique():
        mine = features[batch.patch_of == patch].mean(dim=0)
        distances.append(1 - functional.cosine_similarity(mine, batch.patches[patch, 0], dim=0))
    torch.testing.assert_close(parts["features"], torch.stack(distances).mean(), rtol=1e-4, atol=1e-6)

    weight, bias = examples.classifier()
    p = (batch.teacher[:, 0, KNOWN] / 2).softmax(1)  # with temperature 2, over the classes that the teacher knows
    q = ((features @ weight.T + bias)[:, KNOWN] / 2).softmax(1)
    expected = 4 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(parts["output"], expected, rtol=2e-3, atol=2e-3)


def test_labels_of_classes_that_a_shared_classifier_never_predicts_do_not_count(
    image_taught, examples_of, fskd_settings
):
    examples = examples_of(image_taught)
    task, batch = Segmentation(examples, fskd_settings), collate([examples[0]])
    assert task.known_classes == ["car", "road", "building"]
    _, parts = task.loss(task.learner.eval(), batch, 0)
    assert 0 < parts["cross_entropy"] < 100  # not 10,000, which the logit of a class that is never predicted would give
    known = torch.isin(batch.labels, torch.tensor(KNOWN))
    pyramid = task.student.voxelise(batch.points)
    logits = task.student(pyramid).logits[pyramid[1].of_point]
    expected = functional.cross_entropy(logits[known], batch.labels[known], task.weights.labels)
    torch.testing.assert_close(parts["cross_entropy"], expected)
    own = Segmentation(examples, changed(fskd_settings, "network", classifier="own"))
    assert own.known_classes == list(CLASSES[1:])
    assert own.student.classifier.weight.requires_grad


def test_teachers_that_do_not_fit_raise_clear_errors(
    image_taught, taught, examples_of, fskd_settings, minkunet_settings, rewrite_targets
):
    examples = examples_of(image_taught)
    with pytest.raises(InputError, match=r"8 channels and the student's 16: set network\.embedding=8"):
        Segmentation(examples, changed(fskd_settings, "network", embedding=16))
    soft = changed(fskd_settings, "losses", features=0.0)
    with pytest.raises(InputError, match=r"set network\.embedding=8, which is the teacher's upscaler"):
        Segmentation(examples, changed(soft, "network", embedding=16))
    rewrite_targets(taught["targets"], classifier_weight=None, classifier_bias=None)
    with pytest.raises(InputError, match="no classifier to share"):
        Segmentation(examples_of(taught), fskd_settings)
    rewrite_targets(taught["targets"], soft_label=None, mass=None)
    with pytest.raises(InputError, match=r"has no cached logits.*add logits"):
        Segmentation(examples_of(taught), changed(minkunet_settings, "losses", output=1.0))


def test_the_one_set_of_features_of_a_unet_learns_from_several_stages(taught, examples_of, minkunet_settings):
    settings = changed(changed(minkunet_settings, "network", embedding=8), "losses", features=1.0, stages=[0, 2])
    with pytest.raises(InputError, match=r"network\.embedding=5"):
        Segmentation(examples_of(taught), settings)
    examples = examples_of(taught)
    task = Segmentation(examples, changed(settings, "network", embedding=5))
    loss, parts = task.loss(task.learner, collate([examples[0], examples[1]]), 0)
    assert loss.isfinite()
    assert 0 < parts["features"] < 2


def test_thresholds_and_class_weights_come_from_the_targets_that_the_output_reads(
    carried_taught, examples_of, student_settings
):
    whole = changed(student_settings, "losses", output=0.3, balanced=True)
    assert Segmentation(examples_of(carried_taught), whole).weights[2:] == (None, None)
    some = changed(whole, "losses", confident=0.5)
    aggregated = changed(some, "losses", targets="aggregated")
    found = {name: Segmentation(examples_of(carried_taught), s).weights for name, s in (("f", some), ("a", aggregated))}
    assert found["f"].aggregated is None
    torch.testing.assert_close(found["a"].aggregated, class_weights(torch.arange(20.0)))
    assert torch.equal(found["f"].answers, found["a"].answers)
    assert not torch.equal(found["f"].thresholds, found["a"].thresholds)
    # The second likeliest class of point p is less likely the larger p modulo 200 is.
    examples = examples_of(carried_taught)
    kept = []
    for scan in (examples[0], examples[2]):
        points, logits = output_targets(scan, aggregated.losses, 20)
        sure = are_confident(logits, found["a"].thresholds)
        assert (points[sure] % 200).float().mean() > (points[~sure] % 200).float().mean() + 40
        kept.append(sure)
    assert 0.5 <= torch.cat(kept).float().mean() < 0.65
    # Without a teacher there is nothing to threshold.
    assert Segmentation(examples_of(carried_taught, "frames", "carried"), some).weights[1:] == (None, None, None)


def test_carried_labels_of_classes_that_a_shared_classifier_never_predicts_do_not_count(
    image_taught, carried_taught, examples_of, fskd_settings
):
    examples = examples_of(carried_taught)
    task, batch = Segmentation(examples, changed(fskd_settings, "losses", carried=1.0)), collate([examples[2]])
    assert set(batch.carried_label.tolist()) == {1, 2, 3}
    _, parts = task.loss(task.learner.eval(), batch, 0)
    known = torch.isin(batch.carried_label, torch.tensor(KNOWN))
    assert 0 < known.sum() < len(known)
    logits = task.student(task.student.voxelise(batch.points)).logits
    rows = task.student.voxelise(batch.points)[1].of_point[batch.carried[known]]
    label, weight = batch.carried_label[known], batch.carried_weight[known]
    expected = functional.cross_entropy(logits[rows], label, reduction="none") @ weight / weight.sum()
    lovasz = lovasz_softmax(logits[rows].softmax(1), label, weight)
    torch.testing.assert_close(parts["carried"], expected + fskd_settings.losses.lovasz * lovasz)
