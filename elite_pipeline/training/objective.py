"""What a student is trained for: its labels, and its teacher's answers at the points that the teacher saw."""

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


class LearnerOutput(NamedTuple):
    """What a `SegmentationLearner` says of a batch."""

    pyramid: Pyramid
    logits: Tensor
    """(V, K): the student's own, per voxel of its stride `finest`."""
    stages: list[Tensor]
    """(V_s, K) per stage: of its 3D head."""
    features: list[Tensor]
    """(V_s, D) per stage: towards the teacher's features; empty where those are not learnt. Of a student without stages
    one, (V, D): what its classifier sees."""


class ClassWeights(NamedTuple):
    """Weights of the classes, rare ones more."""

    labels: Tensor
    """(K,) for labels; 0 for classes without any."""
    answers: Tensor | None
    """(K,) for the teacher's answers, by its own counts: it may know classes that no label shows. None: all alike."""


class SegmentationLearner(nn.Module):
    """The student with the heads that only training needs."""

    def __init__(self, student: StudentNetwork, classes: int, features: int = 0) -> None:
        """`features`: channels of the teacher's patch features, 0 where those are not learnt."""
        super().__init__()
        self.student = student
        stages = len(student.strides)
        self.heads = StageHeads(stages=stages, width=student.width, classes=classes)
        # A student without stages has an embedding as wide as the teacher's features instead.
        self.projections = nn.ModuleList(nn.Linear(student.width, features) for _ in range(stages if features else 0))
        self.embeds = features > 0 and not stages

    def forward(self, points: Tensor, scan: Tensor, scans: int) -> LearnerOutput:
        """What it says of points (N, 4) of `scans` scans; `scan` (N,) int64: whose each point is."""
        pyramid = self.student.voxelise(points, scan, scans)
        said = self.student(pyramid)
        features = [projection(stage) for projection, stage in zip(self.projections, said.stages, strict=False)]
        return LearnerOutput(
            pyramid, said.logits, self.heads(said.stages), [said.features] if self.embeds else features
        )


def total_loss(
    output: LearnerOutput, batch: Batch, student: StudentNetwork, weights: ClassWeights, settings: Losses
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all losses, and its parts by name. With the S chosen of the teacher's stages:

    L = CE + l Lovasz  +  a sum_s (CE_s + m Lovasz_s)  +  d / S sum_s KL_s  +  o KL_out  +  f / S sum_s (1 - cos_s)

    The terms with l, a, m and d are ELiTe's (its 2D losses aside), where S = 4; the other two are ours. CE and Lovasz
    are over points. CE_s and Lovasz_s, of the 3D head of stage s, are over voxels with their majority label. KL_s is of
    that head against the teacher's stage s, over the points that the teacher saw; KL_out, of the student's output
    against the mean of the chosen stages' probabilities there; both times `at_labels` where a point has a label. cos_s
    compares the teacher's feature of a patch with the mean, over the points in it, of a linear map of the student's
    stage s. With several processes, all are over the batches of all of them.

    A student without stages has neither CE_s, Lovasz_s nor KL_s, and its own features in the place of linear maps: with
    a teacher of one stage, the last two terms are FSKD's.
    """
    s, strides, zero = settings, student.strides, output.logits.new_zeros(())
    parts = {"cross_entropy": zero, "lovasz": zero, "auxiliary": zero}
    # Points of one voxel have the same logits: a loss over points is one over the distinct pairs of voxel and label.
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
    return torch.stack(list(parts.values())).sum(), parts


def _soft_labels(
    output: LearnerOutput, batch: Batch, student: StudentNetwork, weights: ClassWeights, s: Losses
) -> dict[str, Tensor]:
    """KL against the teacher's answers, of the stages' heads and of the output."""
    divergence, at = output.logits.new_zeros(()), {"temperature": s.temperature, "reduction": s.reduction}
    # Where nobody taught, M is 0 and the tensor's other sizes mean nothing.
    none = output.logits.new_zeros(0, len(s.stages), output.logits.shape[1])
    answers = batch.teacher[:, s.stages] if len(batch.taught) else none  # (M, S, K)
    share = torch.where(batch.labels[batch.taught] == IGNORE, 1.0, s.at_labels)  # (M,)
    for index, k in enumerate(s.stages if s.distillation else ()):
        rows = output.pyramid[student.strides[k]].of_point[batch.taught]
        seen, answer, at_row = gathered(output.stages[k].index_select(0, rows), answers[:, index], share)
        divergence = divergence + losses.distillation(seen, answer, at_row, weights=weights.answers, **at)
    parts = {"distillation": s.distillation * divergence / len(s.stages)}
    if s.output:
        rows = output.pyramid[student.finest].of_point[batch.taught]
        # The mean over stages of probabilities that the temperature has softened, as logits of the same temperature.
        mean_answer = (answers / s.temperature).softmax(dim=2).mean(dim=1).clamp_min(1e-8).log() * s.temperature
        seen, answer, at_row = gathered(output.logits.index_select(0, rows), mean_answer, share)
        parts["output"] = s.output * losses.distillation(seen, answer, at_row, weights=weights.answers, **at)
    return parts


def _features(output: LearnerOutput, batch: Batch, student: StudentNetwork, s: Losses) -> Tensor:
    """Mean over stages of the distance to the teacher's features, patch by patch."""
    hit = batch.patch_of >= 0
    patch_of, taught = batch.patch_of[hit], batch.taught[hit]
    hit_patches, of_point = patch_of.unique(return_inverse=True)
    distance = output.logits.new_zeros(())
    if not output.features:
        return distance  # a student without a teacher
    strides = student.strides or [student.finest]
    for k in s.stages:
        # A student without stages has features of one kind, which all of the teacher's are compared with.
        own = k if student.strides else 0
        rows = output.pyramid[strides[own]].of_point[taught]
        mine = mean(output.features[own].index_select(0, rows), of_point, len(hit_patches))
        teachers = batch.patches[hit_patches, k] if len(hit_patches) else mine.detach()
        mine, teachers = gathered(mine, teachers)
        distance = distance + losses.feature_distance(mine, teachers)
    return distance / len(s.stages)
