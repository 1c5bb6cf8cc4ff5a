"""The losses against plain versions, and without any labelled or projected point."""

import math

import pytest
import torch
from torch.nn import functional

from elite_pipeline.training.losses import (
    class_weights,
    cross_entropy,
    distillation,
    feature_distance,
    info_nce,
    lovasz_softmax,
    matched,
)

CLASSES = 6


def case(points=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(points, CLASSES, generator=generator)).requires_grad_()
    # Class 4 is absent. Class 0 is ignored.
    labels = torch.tensor([0, 1, 1, 1, 2, 3, 5])[torch.randint(7, (points,), generator=generator)]
    return logits, labels


def jaccard_loss(wrong, truth):
    """1 - IoU of a class with the points `truth`, if the points `wrong` are predicted wrongly."""
    predicted = truth ^ wrong
    return 1 - (predicted & truth).sum().item() / (predicted | truth).sum().item()


def plain_lovasz(probabilities, labels):
    """The Lovász extension by its definition: sorted errors, each times the loss that it adds to the previous ones."""
    keep = labels != 0
    probabilities, labels = probabilities[keep], labels[keep]
    losses = []
    for c in labels.unique().tolist():
        truth = labels == c
        errors = torch.where(truth, 1 - probabilities[:, c], probabilities[:, c])
        wrong, before, total = torch.zeros_like(truth), 0.0, 0.0
        for i in errors.argsort(descending=True).tolist():
            wrong[i] = True
            after = jaccard_loss(wrong, truth)
            total, before = total + errors[i] * (after - before), after
        losses.append(total)
    return torch.stack(losses).mean()


def test_lovasz_equals_its_definition_with_gradients():
    logits, labels = case()
    values = [loss(logits.softmax(dim=1), labels) for loss in (lovasz_softmax, plain_lovasz)]
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(value, logits)[0] for value in values]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_lovasz_of_certain_predictions_is_one_minus_iou():
    truth = torch.tensor([1, 1, 1, 2, 2, 0])
    answer = functional.one_hot(torch.tensor([1, 1, 2, 2, 2, 1]), 3).float()
    assert lovasz_softmax(answer, truth).item() == pytest.approx(1 - (2 / 3 + 2 / 3) / 2)


@pytest.mark.parametrize("loss", [lambda x, y, *r: lovasz_softmax(x.softmax(dim=1), y, *r), None], ids=["lovasz", "ce"])
def test_repeats_equal_repeated_rows(loss):
    weights = torch.rand(CLASSES) + 0.5
    loss = loss or (lambda x, y, *r: cross_entropy(x, y, weights, *r))
    logits, labels = case(60)
    repeats = torch.arange(60) % 4 + 1
    few = loss(logits, labels, repeats.float())
    many = loss(logits.repeat_interleave(repeats, dim=0), labels.repeat_interleave(repeats))
    torch.testing.assert_close(few, many)
    torch.testing.assert_close(torch.autograd.grad(few, logits)[0], torch.autograd.grad(many, logits)[0])


def test_cross_entropy_equals_torch_where_torch_defines_it():
    logits, labels = case()
    weights = torch.rand(CLASSES)
    expected = functional.cross_entropy(logits, labels, weights, ignore_index=0)
    torch.testing.assert_close(cross_entropy(logits, labels, weights), expected)


@pytest.mark.parametrize("points", [0, 1, 7])
@pytest.mark.parametrize("name", ["ce", "lovasz"])
def test_zero_with_zero_gradients_where_all_labels_are_ignored(points, name):
    logits, labels = torch.randn(points, CLASSES, requires_grad=True), torch.zeros(points, dtype=torch.int64)
    if name == "ce":
        loss = cross_entropy(logits, labels, torch.ones(CLASSES))
    else:
        loss = lovasz_softmax(logits.softmax(dim=1), labels)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_cross_entropy_is_zero_where_all_weights_are_zero():
    logits, labels = case(5)
    assert cross_entropy(logits, labels, torch.zeros(CLASSES)).item() == 0


def test_distillation_equals_torch_in_both_reductions():
    student, teacher = torch.randn(50, CLASSES), torch.randn(50, CLASSES)
    for temperature in (1.0, 3.0):
        log_q, p = (student / temperature).log_softmax(1), (teacher / temperature).softmax(1)
        for reduction in ("mean", "batchmean"):
            expected = temperature**2 * functional.kl_div(log_q, p, reduction=reduction)
            torch.testing.assert_close(
                distillation(student, teacher, temperature=temperature, reduction=reduction), expected
            )


def test_distillation_trains_only_the_student_and_is_zero_for_equal_logits():
    student, teacher = (torch.randn(9, CLASSES, requires_grad=True) for _ in range(2))
    distillation(student, teacher, temperature=2.0, reduction="mean").backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.any()
    same = distillation(student, student, temperature=2.0, reduction="mean")
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_distillation_without_points_is_zero():
    student = torch.zeros(0, CLASSES, requires_grad=True)
    loss = distillation(student, torch.zeros(0, CLASSES), temperature=1.0, reduction="batchmean")
    loss.backward()
    assert loss.item() == 0


def test_class_weights_of_the_published_recipe():
    weights = class_weights(torch.tensor([10**9, 8_000_000, 1_000_000, 0, 1]))
    assert weights.tolist() == pytest.approx([0, 1, 2, 0, 200])
    assert not class_weights(torch.zeros(4, dtype=torch.int64)).any()
    assert all(math.isfinite(w) for w in weights.tolist())


def plain_balanced(student, teacher, temperature, weights):
    """Weighted mean of the divergences, point by point. The weight of a point is the mean weight of its classes."""
    total, weight_of_all = 0.0, 0.0
    for mine, answer in zip(student.tolist(), teacher.tolist(), strict=True):
        soft = [[math.exp(x / t) for x in row] for row, t in ((answer, temperature), (mine, temperature), (answer, 1))]
        p, q, likely = ([x / sum(row) for x in row] for row in soft)
        weight = sum(a * w for a, w in zip(likely, weights.tolist(), strict=True))
        total += weight * temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        weight_of_all += weight
    return total / weight_of_all


@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
def test_balanced_distillation_equals_a_plain_loop(temperature):
    generator = torch.Generator().manual_seed(3)
    student, teacher = (3 * torch.randn(40, CLASSES, generator=generator) for _ in range(2))
    weights = torch.tensor([0.0, 5.0, 0.2, 1.0, 0.0, 30.0])
    at = {"temperature": temperature, "weights": weights}
    expected = plain_balanced(student, teacher, temperature, weights)
    assert distillation(student, teacher, reduction="batchmean", **at).item() == pytest.approx(expected, rel=1e-4)
    assert distillation(student, teacher, reduction="mean", **at).item() == pytest.approx(expected / CLASSES, rel=1e-4)
    alike = distillation(student, teacher, temperature=temperature, reduction="mean")
    even = {"temperature": temperature, "weights": torch.full((CLASSES,), 2.5)}
    torch.testing.assert_close(distillation(student, teacher, reduction="mean", **even), alike)


@pytest.mark.parametrize("points", [0, 3])
def test_balanced_distillation_is_zero_where_all_weights_are_zero(points):
    student = torch.randn(points, CLASSES, requires_grad=True)
    at = {"temperature": 1.0, "reduction": "batchmean", "weights": torch.zeros(CLASSES)}
    loss = distillation(student, torch.randn(points, CLASSES), **at)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_feature_distance_depends_on_angles_and_not_on_lengths():
    student = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [0.0, 0.1], [7.0, 0.0]], requires_grad=True)
    loss = feature_distance(student, teacher)
    assert loss.item() == pytest.approx((0.4 + 0 + 2) / 3)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad[0].any()


@pytest.mark.parametrize("rows", [0, 2])
def test_feature_distance_is_finite_without_patches_and_for_zero_features(rows):
    """Without patches it is 0. For teacher features of zero it is 1 for every direction of the student's."""
    student = torch.randn(rows, 5, requires_grad=True)
    loss = feature_distance(student, torch.zeros(rows, 5))
    loss.backward()
    assert loss.item() == (1 if rows else 0)
    assert student.grad is not None
    assert not student.grad.any()


def sides(pairs):
    generator = torch.Generator().manual_seed(pairs)
    return [(5 * torch.randn(pairs, 7, generator=generator)).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_info_nce_equals_a_plain_loop(temperature):
    anchors, keys = sides(9)
    total = 0.0
    for i, anchor in enumerate(anchors.detach().double()):
        likeness = [
            float(functional.cosine_similarity(anchor, key, dim=0)) / temperature for key in keys.detach().double()
        ]
        total += math.log(sum(math.exp(x) for x in likeness)) - likeness[i]
    loss = info_nce(anchors, keys, temperature)
    assert loss.item() == pytest.approx(total / 9, rel=1e-5)
    loss.backward()
    assert anchors.grad.any()
    assert keys.grad.any()


def test_info_nce_has_a_direction_and_depends_only_on_angles():
    anchors, keys = (side.detach() for side in sides(9))
    loss = info_nce(anchors, keys, 0.1)
    assert loss.item() != pytest.approx(info_nce(keys, anchors, 0.1).item(), rel=0.01)
    torch.testing.assert_close(loss, info_nce(3 * anchors, keys / 2, 0.1))
    assert info_nce(keys, keys, 0.1) < 0.1 * loss


@pytest.mark.parametrize("pairs", [0, 1])
def test_info_nce_of_fewer_than_two_pairs_is_zero_with_zero_gradients(pairs):
    anchors, keys = sides(pairs)
    loss = info_nce(anchors, keys, 0.07)
    loss.backward()
    assert loss == 0
    assert anchors.grad.shape == keys.grad.shape == (pairs, 7)
    assert not anchors.grad.any()
    assert not keys.grad.any()


def test_matched_is_the_share_of_correct_matches():
    keys = functional.normalize(sides(4)[1], dim=1)
    anchors = torch.stack([3 * keys[0], keys[1], keys[3], keys[2]])
    assert matched(anchors, 5 * keys) == 0.5
    assert matched(keys, keys * torch.tensor([[1.0], [100], [1], [1]])) == 1
    assert matched(keys[:0], keys[:0]) == 0
