"""The losses of training. Without any labelled or projected point, a loss is zero and has zero gradients."""

import torch
from torch import Tensor
from torch.nn import functional

from elite_pipeline.datasets.classes import IGNORE


def class_weights(counts: Tensor) -> Tensor:
    """(K,) float32 class weights (largest count / count)^(1/3). counts: (K,). 0 for `IGNORE` and absent classes."""
    counts = counts.to(torch.float64).clone()
    counts[IGNORE] = 0
    weights = (counts.max() / counts) ** (1 / 3)
    return torch.where(counts > 0, weights, 0.0).float()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, repeats: Tensor | None = None) -> Tensor:
    """Mean cross entropy of `logits` (N, K) and `labels` (N,) int64, weighted by class with `weights` (K,).

    Row n counts as `repeats[n]` equal rows. repeats: (N,) float32, 1 by default. Rows with the label `IGNORE` do not
    count.
    """
    weight = torch.where(labels == IGNORE, 0.0, weights[labels])
    weight = weight if repeats is None else weight * repeats
    total = weight.sum()
    loss = (functional.cross_entropy(logits, labels, reduction="none") * weight).sum()
    return loss / torch.where(total > 0, total, 1.0)


def lovasz_softmax(probabilities: Tensor, labels: Tensor, repeats: Tensor | None = None) -> Tensor:
    """The Lovász extension of 1 - IoU, averaged over the classes present (Berman et al., arXiv 1705.08790).

    `probabilities` (N, K), `labels` (N,) int64. Row n counts as `repeats[n]` equal rows. repeats: (N,) float32, 1 by
    default. Rows with the label `IGNORE` do not count.
    """
    counted = labels != IGNORE
    probabilities, labels = probabilities[counted].T, labels[counted]  # (K, n), (n,)
    repeats = torch.ones_like(labels, dtype=torch.float32) if repeats is None else repeats[counted]
    present = labels.unique()
    if len(present) == 0:
        return probabilities.sum()
    truth = (labels == present[:, None]).float()  # (C, n)
    errors, order = (truth - probabilities[present]).abs().sort(dim=1, descending=True)  # (C, n)
    truth, rows = truth.gather(1, order), repeats[order]
    points = (truth * rows).sum(dim=1, keepdim=True)  # (C, 1)
    # The loss 1 - IoU if the worst 1, 2, ..., n rows are wrong. Its increments are the weights of the sorted errors.
    hits, misses = points - (truth * rows).cumsum(dim=1), ((1 - truth) * rows).cumsum(dim=1)
    jaccard = 1 - hits / (points + misses)
    steps = jaccard.diff(dim=1, prepend=torch.zeros_like(points))
    return (errors * steps).sum(dim=1).mean()


def distillation(
    student: Tensor,
    teacher: Tensor,
    share: Tensor | None = None,
    *,
    temperature: float,
    reduction: str,
    weights: Tensor | None = None,
) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of logits (M, K). No gradient reaches the teacher.

    reduction: "batchmean" averages over the M points. "mean" averages over points and classes, so it is K times
    smaller.
    weights: (K,), as in `cross_entropy`. They make the mean over points a weighted mean: the weight of a point is the
    mean of the class weights under the teacher's probabilities.
    share: (M,), multiplies the divergence of each point. It scales only the numerator of the mean.
    """
    p = functional.log_softmax(teacher.detach().float() / temperature, dim=1)
    q = functional.log_softmax(student.float() / temperature, dim=1)
    divergence = (p.exp() * (p - q)).sum(dim=1) * temperature**2  # (M,)
    divergence = divergence if share is None else divergence * share
    if weights is None:
        mean = divergence.sum() / max(1, len(divergence))
    else:
        weight = functional.softmax(teacher.detach().float(), dim=1) @ weights  # (M,)
        total = weight.sum()
        mean = (divergence * weight).sum() / torch.where(total > 0, total, 1.0)
    return mean / student.shape[1] if reduction == "mean" else mean


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows of 1 - cosine, from features (Q, D). No gradient reaches the teacher."""
    distance = 1 - functional.cosine_similarity(student.float(), teacher.detach().float(), dim=1)
    return distance.sum() / max(1, len(distance))


def info_nce(anchors: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al., arXiv 1807.03748) in one direction, as in SLidR.

    anchors: (P, D) from 3D. keys: (P, D) from 2D. Each anchor gives a softmax over all keys of cosine / `temperature`.
    The loss is the mean over anchors of -log of this softmax at the anchor's own key. With fewer than two rows, there
    are no negatives, and the loss is zero with zero gradients.
    """
    if len(anchors) < 2:
        return 0 * (anchors.sum() + keys.sum())
    cosine = functional.normalize(anchors.float(), dim=1) @ functional.normalize(keys.float(), dim=1).T
    return functional.cross_entropy(cosine / temperature, torch.arange(len(cosine), device=cosine.device))


@torch.no_grad()
def matched(anchors: Tensor, keys: Tensor) -> Tensor:
    """Share of `anchors` (P, D) whose most similar key, by cosine, is their own. keys: (P, D). 0 where P is 0."""
    if len(anchors) == 0:
        return anchors.new_zeros(())
    nearest = (anchors.float() @ functional.normalize(keys.float(), dim=1).T).argmax(dim=1)
    return (nearest == torch.arange(len(nearest), device=nearest.device)).float().mean()
