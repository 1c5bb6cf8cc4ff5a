"""The objective: the formula of `total_loss`, term by term, and zero without labels and teacher targets."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from elite_pipeline.soft_labels import decode, encode
from elite_pipeline.student.model import build
from elite_pipeline.training import losses
from elite_pipeline.training.examples import Examples, collate
from elite_pipeline.training.objective import ClassWeights, SegmentationLearner, total_loss
from elite_pipeline.training.output_targets import confidence

STRIDES = (1, 2, 4, 8)


def losses_of(student_settings, **values):
    return student_settings.losses.model_copy(update=values)


@pytest.fixture
def examples(taught, open_taught):
    return Examples(open_taught(taught), features=True)


def varied(example):
    """`example` with soft labels and features that differ between points, stages and classes.

    It also has 200 aggregated soft labels, and without labels of its own 150 carried ones.
    """
    generator = torch.Generator().manual_seed(len(example.taught))
    changes = {
        "teacher": 3 * torch.randn(example.teacher.shape, generator=generator),
        "patches": torch.randn(example.patches.shape, generator=generator),
        "reached": torch.randperm(500, generator=generator)[:200],
        "aggregated": encode(3 * torch.randn(200, 20, generator=generator)),
    }
    if not example.labels.any():
        changes |= {
            "carried": torch.randperm(500, generator=generator)[:150],
            "carried_label": torch.randint(1, 20, (150,), generator=generator),
            "carried_weight": torch.rand(150, generator=generator),
        }
    return replace(example, **changes)


@pytest.fixture
def learner(student_settings):
    torch.manual_seed(0)
    return SegmentationLearner(build(student_settings.network, 20), 20, features=5)


@pytest.fixture
def weights(examples):
    generator = torch.Generator().manual_seed(7)
    answers, aggregated = torch.rand(2, 20, generator=generator) + 0.1
    answers[[0, 6]] = aggregated[[0, 3]] = 0
    return ClassWeights(losses.class_weights(examples.label_counts()), answers, aggregated)


def run(learner, batch, weights, settings):
    """(output, loss, parts). Checks that every gradient is finite."""
    output = learner(batch.points, batch.scan, batch.scans)
    loss, parts = total_loss(output, batch, learner.student, weights, settings)
    learner.zero_grad()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in learner.parameters())
    torch.testing.assert_close(loss, sum(parts.values()))
    return output, loss, parts


def plain_divergence(student, teacher, shares, temperature, weights):
    """Weighted mean of share times T^2 KL(teacher || student), in a loop over points."""
    total, weight_of_all = 0.0, 0.0
    for mine, answer, share in zip(student.detach().double(), teacher.double(), shares, strict=True):
        p, q = (answer / temperature).softmax(0), (mine / temperature).softmax(0)
        weight = 1.0 if weights is None else float((answer.softmax(0) * weights).sum())
        divergence = torch.special.xlogy(p, p) - torch.special.xlogy(p, q)  # a class without probability adds nothing
        total += share * weight * temperature**2 * float(divergence.sum())
        weight_of_all += weight
    return total / weight_of_all


def plain_features(features, batch, of_point):
    """(number of patches that points hit, for each of them 1 - cosine to the mean of the student's features in it)."""
    inside = {}
    for m, patch in enumerate(batch.patch_of.tolist()):
        if patch >= 0:
            inside.setdefault(patch, []).append(of_point[batch.taught[m]])
    distances = []
    for patch, voxels in inside.items():
        mine = torch.stack([features[v] for v in voxels]).double().mean(dim=0)
        distances.append(mine.new_tensor(1) - functional.cosine_similarity(mine, batch.patches[patch].double(), dim=0))
    return len(inside), distances


TERMS = [
    {},
    {"output": 0.5},
    {"output": 0.5, "temperature": 3.0},
    {"features": 2.0, "distillation": 0.0},
    {"balanced": True, "output": 0.5, "features": 2.0},
    {"stages": [2], "output": 0.5, "features": 2.0, "balanced": True},
    {"stages": [3, 1], "output": 0.5, "reduction": "mean", "temperature": 0.5, "auxiliary_lovasz": 0.25},
    {"at_labels": 0.25, "output": 0.5, "balanced": True},
    {"at_labels": 0.0, "output": 0.5},
    {"lovasz": 0.0, "auxiliary": 0.0, "distillation": 0.0},
    {"targets": "aggregated", "output": 0.5},
    {"targets": "aggregated", "output": 0.5, "temperature": 3.0, "at_labels": 0.25, "balanced": True},
    {"targets": "aggregated", "output": 0.5, "confident": 0.5, "balanced": True, "distillation": 0.0},
    {"output": 0.5, "confident": 0.5, "stages": [3, 1], "at_labels": 0.25},
    {"carried": 0.5},
    {"carried": 0.5, "lovasz": 0.0, "targets": "aggregated", "output": 0.5},
]


@pytest.mark.parametrize("terms", TERMS, ids=lambda terms: ",".join(terms) or "paper")
@pytest.mark.parametrize("scans", [[0], [0, 1, 2]], ids=["both", "mixed"])
def test_total_loss_is_its_formula(examples, learner, weights, student_settings, scans, terms):
    s = losses_of(student_settings, **terms)
    weights = weights if s.balanced else weights._replace(answers=None, aggregated=None)
    weights = weights if s.targets == "aggregated" else weights._replace(aggregated=None)
    if s.confident < 1:
        weights = weights._replace(thresholds=torch.arange(20) * 3 + 60)
    batch = collate([varied(examples[i]) for i in scans])
    output, _, parts = run(learner, batch, weights, s)
    pyramid, logits, stages, features = output

    points = logits[pyramid[2].of_point]
    expected = functional.cross_entropy(points, batch.labels, weights.labels, ignore_index=0)
    torch.testing.assert_close(parts["cross_entropy"], expected)
    lovasz = losses.lovasz_softmax(points.softmax(1), batch.labels)
    torch.testing.assert_close(parts["lovasz"], s.lovasz * lovasz)

    auxiliary = torch.tensor(0.0)
    for stage, stride in zip(stages, STRIDES, strict=True):
        votes = functional.one_hot(batch.labels, 20)
        own = torch.stack([votes[pyramid[stride].of_point == v].sum(0).argmax() for v in range(len(stage))])
        auxiliary += functional.cross_entropy(stage, own, weights.labels, ignore_index=0)
        auxiliary += s.auxiliary_lovasz * losses.lovasz_softmax(stage.softmax(1), own)
    torch.testing.assert_close(parts["auxiliary"], s.auxiliary * auxiliary)

    scale = 20 if s.reduction == "mean" else 1
    shares = [1.0 if label == 0 else s.at_labels for label in batch.labels[batch.taught].tolist()]
    if s.soft_labels:
        divergence = 0.0
        for k in s.stages:
            seen = stages[k][pyramid[STRIDES[k]].of_point[batch.taught]]
            divergence += plain_divergence(seen, batch.teacher[:, k], shares, s.temperature, weights.answers)
        expected = s.distillation * divergence / len(s.stages) / scale
        assert parts["distillation"].item() == pytest.approx(expected, rel=1e-4)
    if s.output:
        mean = torch.stack([(batch.teacher[:, k].double() / s.temperature).softmax(1) for k in s.stages]).mean(0)
        taught, answer, of_classes = batch.taught, s.temperature * mean.clamp_min(1e-8).log(), weights.answers
        if s.targets == "aggregated":
            taught, answer, of_classes = batch.reached, decode(batch.aggregated, 20), weights.aggregated
        if s.confident < 1:
            likeliest, place = confidence(answer)
            kept = torch.tensor([p >= 60 + 3 * c for c, p in zip(likeliest.tolist(), place.tolist(), strict=True)])
            assert 0.05 < kept.float().mean() < 0.95
            taught, answer = taught[kept], answer[kept]
        shares = [1.0 if label == 0 else s.at_labels for label in batch.labels[taught].tolist()]
        expected = plain_divergence(points[taught], answer, shares, s.temperature, of_classes)
        assert parts["output"].item() == pytest.approx(s.output * expected / scale, rel=1e-3)
    if s.features:
        distance = 0.0
        for k in s.stages:
            stage_batch = type(batch)(**{**vars(batch), "patches": batch.patches[:, k]})
            patches, distances = plain_features(features[k], stage_batch, pyramid[STRIDES[k]].of_point)
            assert patches == (8 if scans == [0] else 8 + 4 + 4)
            distance += float(torch.stack(distances).detach().mean()) / len(s.stages)
        assert parts["features"].item() == pytest.approx(s.features * distance, rel=1e-4)
    if s.carried:
        expected = 0.0
        if len(batch.carried):
            given, weight = batch.carried_label, batch.carried_weight
            weight = weight * weights.labels[given]
            each = functional.cross_entropy(points[batch.carried], given, reduction="none")
            expected = (each * weight).sum() / weight.sum()
            shown = points[batch.carried].softmax(1)
            expected += s.lovasz * losses.lovasz_softmax(shown, given, batch.carried_weight)
            expected = float(expected.detach())
        assert parts["carried"].item() == pytest.approx(s.carried * expected, rel=1e-4)
        assert (parts["carried"] > 0) == (scans == [0, 1, 2])
    wanted = {name for name in ("output", "features", "carried") if getattr(s, name) > 0}
    assert {"output", "features", "carried"} & set(parts) == wanted


def test_a_single_stage_trains_only_its_own_head(examples, learner, weights, student_settings):
    batch = collate([varied(examples[0])])
    alone = {"lovasz": 0.0, "auxiliary": 0.0, "stages": [2]}
    _, loss, parts = run(learner, batch, weights._replace(labels=torch.zeros(20)), losses_of(student_settings, **alone))
    assert loss == parts["distillation"] > 0
    taught = [any(p.grad is not None and p.grad.any() for p in head.parameters()) for head in learner.heads.heads]
    assert taught == [False, False, True, False]
    features = {"distillation": 0.0, "features": 1.0}
    _, loss, parts = run(
        learner, batch, weights._replace(labels=torch.zeros(20)), losses_of(student_settings, **alone | features)
    )
    assert loss == parts["features"] > 0
    maps = [any(p.grad is not None and p.grad.any() for p in line.parameters()) for line in learner.projections]
    assert maps == [False, False, True, False]


ALL_TERMS = {"output": 0.5, "features": 1.0, "balanced": True, "carried": 1.0}


def cropped(example, points):
    """The first `points` points of `example`."""
    seen = example.taught < points
    kept = {"points": example.points[:points], "labels": example.labels[:points]}
    kept |= {"instances": example.instances[:points], "taught": example.taught[seen]}
    kept |= {"teacher": example.teacher[seen], "patch_of": example.patch_of[seen]}
    return type(example)(**{**vars(example), **kept})


def unlabelled(example):
    return type(example)(**{**vars(example), "labels": torch.zeros_like(example.labels)})


@pytest.mark.parametrize("targets", ["frame", "aggregated"])
@pytest.mark.parametrize("reduction", ["mean", "batchmean"])
@pytest.mark.parametrize("balanced", [True, False])
def test_without_labels_and_teacher_targets_the_loss_is_zero(
    examples, learner, weights, student_settings, balanced, reduction, targets
):
    """For whole scans, for a crop of one point, and for an empty crop in a batch with a whole scan."""
    s = losses_of(student_settings, **ALL_TERMS, reduction=reduction, targets=targets)
    weights = weights if balanced else weights._replace(answers=None, aggregated=None)
    weights = weights._replace(thresholds=torch.full((20,), 100))
    nothing = unlabelled(examples[1])
    assert len(nothing.taught) == 0
    for scans in ([nothing], [nothing, nothing], [cropped(nothing, 1)], [cropped(nothing, 0), nothing]):
        _, loss, parts = run(learner, collate(scans), weights, s)
        assert loss == 0
        terms = {"cross_entropy", "lovasz", "auxiliary", "distillation", "output", "features", "carried"}
        assert set(parts) == terms
        assert all(value == 0 for value in parts.values())
        assert all(p.grad is None or not p.grad.any() for p in learner.parameters())


def test_labels_alone_and_teacher_targets_alone_give_only_their_own_terms(examples, learner, weights, student_settings):
    s = losses_of(student_settings, **ALL_TERMS)
    _, _, labels = run(learner, collate([examples[1]]), weights, s)
    assert {name for name, value in labels.items() if value} == {"cross_entropy", "lovasz", "auxiliary"}
    _, _, answers = run(learner, collate([varied(examples[2])]), weights, s)
    assert {name for name, value in answers.items() if value} == {"distillation", "output", "features", "carried"}
    none = replace(varied(examples[2]), taught=torch.zeros(0, dtype=torch.int64), teacher=torch.zeros(0, 0, 20))
    none = replace(none, patch_of=none.taught)
    _, _, reached = run(
        learner, collate([none]), weights, losses_of(student_settings, **ALL_TERMS, targets="aggregated")
    )
    assert {name for name, value in reached.items() if value} == {"output", "carried"}


def test_no_soft_label_reaches_the_threshold(examples, learner, weights, student_settings):
    s = losses_of(student_settings, output=0.5, distillation=0.0)
    batch = collate([varied(examples[2])])
    _, loss, _ = run(learner, batch, weights._replace(thresholds=torch.full((20,), 255)), s)
    assert loss == 0


def test_the_default_loss_of_the_output_is_the_same_to_the_bit(examples, learner, weights, student_settings):
    """As it was before there were aggregated targets and thresholds: experiments repeat their results."""
    s = losses_of(student_settings, output=0.5, at_labels=0.25, temperature=2.0, balanced=True)
    batch = collate([varied(examples[i]) for i in (0, 1, 2)])
    weights = weights._replace(aggregated=None)
    output, _, parts = run(learner.eval(), batch, weights, s)
    answers = batch.teacher[:, s.stages]
    share = torch.where(batch.labels[batch.taught] == 0, 1.0, s.at_labels)
    rows = output.pyramid[learner.student.finest].of_point[batch.taught]
    mean = (answers / s.temperature).softmax(dim=2).mean(dim=1).clamp_min(1e-8).log() * s.temperature
    at = {"temperature": s.temperature, "reduction": s.reduction, "weights": weights.answers}
    assert torch.equal(parts["output"], s.output * losses.distillation(output.logits[rows], mean, share, **at))
    divergence = torch.zeros(())
    for k, stride in enumerate(STRIDES):
        seen = output.stages[k][output.pyramid[stride].of_point[batch.taught]]
        divergence = divergence + losses.distillation(seen, answers[:, k], share, **at)
    assert torch.equal(parts["distillation"], s.distillation * divergence / 4)


def test_scans_without_teacher_targets_change_no_teacher_term(examples, student_settings, learner, weights):
    """In evaluation mode, where batch normalisation does not mix scans."""
    s, learner = losses_of(student_settings, **ALL_TERMS), learner.eval()
    seen = varied(examples[2])
    _, _, alone = run(learner, collate([seen]), weights, s)
    _, _, beside = run(learner, collate([examples[1], seen, cropped(examples[1], 3)]), weights, s)
    for name in ("distillation", "output", "features"):
        torch.testing.assert_close(alone[name], beside[name])


@pytest.mark.parametrize("balanced", [True, False])
def test_a_student_without_a_teacher_has_only_label_losses(taught, open_taught, weights, student_settings, balanced):
    alone = Examples(open_taught(taught, "frames"), features=True)
    torch.manual_seed(0)
    learner = SegmentationLearner(build(student_settings.network, 20), 20)
    weights = weights if balanced else weights._replace(answers=None, aggregated=None)
    _, loss, parts = run(learner, collate([alone[0], alone[1]]), weights, losses_of(student_settings, **ALL_TERMS))
    assert loss > 0
    assert parts["distillation"] == parts["output"] == parts["features"] == 0


@pytest.mark.parametrize("size", [-6e4, 6e4])
def test_extreme_logits_give_finite_losses(examples, learner, weights, student_settings, size):
    """Far larger logits than a store holds (12.75 below the likeliest class). They contradict between stages."""
    example = examples[0]
    teacher = torch.zeros_like(example.teacher)
    for s, m in itertools.product(range(4), range(len(teacher))):
        teacher[m, s, (m + s) % 20] = size
    batch = collate([type(example)(**{**vars(example), "teacher": teacher})])
    run(learner, batch, weights, losses_of(student_settings, **ALL_TERMS))
