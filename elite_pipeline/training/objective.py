"""The objective of a student: labels, and teacher targets at the projected points that the teacher saw."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from elite_pipeline.config import Losses
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.distributed import gathered
from elite_pipeline.grouping import majority, mean, pairs
from elite_pipeline.student.network import StageHeads, StudentNetwork
from elite_pipeline.student.voxels import Pyramid
from elite_pipeline.training import losses
from elite_pipeline.training.examples import Batch
from elite_pipeline.training.output_targets import are_confident, output_targets


class LearnerOutput(NamedTuple):
    """The output of a `SegmentationLearner` for a batch."""

    pyramid: Pyramid
    logits: Tensor
    """(V, K): logits of the student, per voxel of its stride `finest`."""
    stages: list[Tensor]
    """(V_s, K) per stage: logits of its 3D head."""
    features: list[Tensor]
    """(V_s, D) per stage: features to compare with the teacher's; empty where those are not learnt. A student without
    stages has one entry, (V, D): the input of its classifier."""


class ClassWeights(NamedTuple):
    """Weights of the classes, and thresholds per class. Rare classes have larger weights."""

    labels: Tensor
    """(K,) for labels; 0 for classes without labels."""
    answers: Tensor | None
    """(K,) for soft labels, from the teacher's own class counts: the teacher may know classes that have no labels.
    None: all classes have the same weight."""
    aggregated: Tensor | None = None
    """(K,) for aggregated soft labels, from their own class counts. None: as in `answers`."""
    thresholds: Tensor | None = None
    """(K,) least confidence of the output's soft labels (`confidence_thresholds`). None: all soft labels teach."""


class SegmentationLearner(nn.Module):
    """The student, with the heads that only training needs."""

    def __init__(self, student: StudentNetwork, classes: int, features: int = 0) -> None:
        """features: number of channels of the teacher's patch features; 0 where those are not learnt."""
        super().__init__()
        self.student = student
        stages = len(student.strides)
        self.heads = StageHeads(stages=stages, width=student.width, classes=classes)
        # A student without stages needs none: its embedding is as wide as the teacher's features.
        self.projections = nn.ModuleList(nn.Linear(student.width, features) for _ in range(stages if features else 0))
        self.embeds = features > 0 and not stages

    def forward(self, points: Tensor, scan: Tensor, scans: int) -> LearnerOutput:
        """The output for `points` (N, 4) of `scans` scans. scan: (N,) int64, index of the scan of each point."""
        pyramid = self.student.voxelise(points, scan, scans)
        found = self.student(pyramid)
        features = [projection(stage) for projection, stage in zip(self.projections, found.stages, strict=False)]
        return LearnerOutput(
            pyramid, found.logits, self.heads(found.stages), [found.features] if self.embeds else features
        )


def total_loss(
    output: LearnerOutput, batch: Batch, student: StudentNetwork, weights: ClassWeights, settings: Losses
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all losses, and its parts by name. S is the number of chosen teacher stages:

    L = CE + l Lovasz  +  a sum_s (CE_s + m Lovasz_s)  +  d / S sum_s KL_s  +  o KL_out  +  f / S sum_s (1 - cos_s)
        +  c (CE_carried + l Lovasz_carried)

    The terms with l, a, m and d are those of ELiTe (without its 2D losses), where S = 4. The terms with o, f and c are
    ours.
    - CE and Lovasz run over points.
    - CE_s and Lovasz_s are for the 3D head of stage s. They run over voxels, with their majority labels.
    - KL_s compares that head with stage s of the teacher. It runs over the points that the teacher saw.
    - KL_out compares the student's output with the mean probabilities of the chosen stages, over the same points. With
      `targets: aggregated` it compares it with the aggregated soft labels, over all points that have one. With
      `confident` below 1, it runs only over the more confident soft labels of each class.
    - KL_s and KL_out are multiplied by `at_labels` at points that have a label.
    - cos_s compares the teacher's feature of a patch with the student's: a linear map of the student's stage s,
      averaged over the points in the patch.
    - CE_carried and Lovasz_carried run over points of unlabelled scans that have a label carried from a labelled scan,
      weighted by its confidence.
    With several processes, every term runs over the batches of all processes.

    A student without stages has no CE_s, Lovasz_s and KL_s. Its own features replace the linear maps. With a teacher of
    one stage, the last two terms are those of FSKD.
    """
    s, strides, zero = settings, student.strides, output.logits.new_zeros(())
    parts = {"cross_entropy": zero, "lovasz": zero, "auxiliary": zero}
    # Points of one voxel have the same logits. So a loss over points is a loss over distinct pairs of voxel and label.
    finest = output.pyramid[student.finest].of_point
    voxel, label, repeats = pairs(finest, batch.labels)
    logits, label, repeats = gathered(output.logits.index_select(0, voxel), label, repeats)
    parts["cross_entropy"] = losses.cross_entropy(logits, label, weights.labels, repeats)
    if s.lovasz:
        parts["lovasz"] = s.lovasz * losses.lovasz_softmax(logits.softmax(dim=1), label, repeats)
    for stage, stride in zip(output.stages, strides, strict=True):
        own = majority(batch.labels, output.pyramid[stride].of_point, len(stage), stage.shape[1])
        stage, own = gathered(stage, own)
        loss = losses.cross_entropy(stage, own, weights.labels)
        if s.auxiliary_lovasz:
            loss = loss + s.auxiliary_lovasz * losses.lovasz_softmax(stage.softmax(dim=1), own)
        parts["auxiliary"] = parts["auxiliary"] + s.auxiliary * loss
    if s.soft_labels:
        parts |= _soft_labels(output, batch, student, weights, s)
    if s.features:
        parts["features"] = s.features * _features(output, batch, student, s)
    if s.carried:
        parts["carried"] = s.carried * _carried(output, batch, finest, weights.labels, s)
    return torch.stack(list(parts.values())).sum(), parts


def _carried(output: LearnerOutput, batch: Batch, finest: Tensor, weights: Tensor, s: Losses) -> Tensor:
    """Cross entropy and l Lovasz of the output at carried labels, weighted by their confidence.

    finest: (N,) int64, voxel of each point. weights: (K,), of the classes.
    """
    voxel, label, share = pairs(finest[batch.carried], batch.carried_label, batch.carried_weight)
    logits, label, share = gathered(output.logits.index_select(0, voxel), label, share)
    loss = losses.cross_entropy(logits, label, weights, share)
    if s.lovasz:
        loss = loss + s.lovasz * losses.lovasz_softmax(logits.softmax(dim=1), label, share)
    return loss


def _soft_labels(
    output: LearnerOutput, batch: Batch, student: StudentNetwork, weights: ClassWeights, s: Losses
) -> dict[str, Tensor]:
    """The KL terms against the teacher's soft labels, for the heads of the stages and for the output."""
    divergence, at = output.logits.new_zeros(()), {"temperature": s.temperature, "reduction": s.reduction}
    # Without projected points, M is 0, and the other sizes of the tensor have no meaning.
    none = output.logits.new_zeros(0, len(s.stages), output.logits.shape[1])
    answers = batch.teacher[:, s.stages] if len(batch.taught) else none  # (M, S, K)

    def compared(logits: Tensor, stride: int, points: Tensor, answer: Tensor, of_classes: Tensor | None) -> Tensor:
        """The divergence of the student's `logits` (V, K) from the soft labels `answer` (n, K) of `points` (n,)."""
        share = torch.where(batch.labels[points] == IGNORE, 1.0, s.at_labels)
        seen = logits.index_select(0, output.pyramid[stride].of_point[points])
        return losses.distillation(*gathered(seen, answer, share), weights=of_classes, **at)

    for index, k in enumerate(s.stages if s.distillation else ()):
        own = compared(output.stages[k], student.strides[k], batch.taught, answers[:, index], weights.answers)
        divergence = divergence + own
    parts = {"distillation": s.distillation * divergence / len(s.stages)}
    if s.output:
        points, answer = output_targets(batch, s, output.logits.shape[1])
        if weights.thresholds is not None:
            kept = are_confident(answer, weights.thresholds)
            points, answer = points[kept], answer[kept]
        of_classes = weights.answers if weights.aggregated is None else weights.aggregated
        parts["output"] = s.output * compared(output.logits, student.finest, points, answer, of_classes)
    return parts


def _features(output: LearnerOutput, batch: Batch, student: StudentNetwork, s: Losses) -> Tensor:
    """Distance to the teacher's patch features: the mean over patches, then over stages."""
    hit = batch.patch_of >= 0
    patch_of, taught = batch.patch_of[hit], batch.taught[hit]
    hit_patches, of_point = patch_of.unique(return_inverse=True)
    distance = output.logits.new_zeros(())
    if not output.features:
        return distance  # training without a teacher
    strides = student.strides or [student.finest]
    for k in s.stages:
        # A student without stages has one set of features. Every chosen stage of the teacher is compared with it.
        own = k if student.strides else 0
        rows = output.pyramid[strides[own]].of_point[taught]
        mine = mean(output.features[own].index_select(0, rows), of_point, len(hit_patches))
        teachers = batch.patches[hit_patches, k] if len(hit_patches) else mine.detach()
        mine, teachers = gathered(mine, teachers)
        distance = distance + losses.feature_distance(mine, teachers)
    return distance / len(s.stages)
