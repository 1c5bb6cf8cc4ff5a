"""Trains a student to predict classes: from labels, from teacher targets, or from both."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from elite_pipeline.config import StudentSettings, TrainStudent
from elite_pipeline.datasets.classes import IGNORE
from elite_pipeline.errors import InputError
from elite_pipeline.student.model import BACKBONE, build, load_backbone, share_classifier
from elite_pipeline.training import losses
from elite_pipeline.training.examples import Batch, Examples
from elite_pipeline.training.loop import Task
from elite_pipeline.training.objective import ClassWeights, SegmentationLearner, total_loss
from elite_pipeline.training.output_targets import confidence_thresholds


class Segmentation(Task):
    """The task that trains a student.

    pretrained: folder of a pre-trained backbone that training starts from. A `backbone_learning_rate` of 0 is linear
    probing: the backbone and its running statistics stay unchanged, and only the layers after it are trained.
    """

    name = "train_student"
    settings: StudentSettings
    options: TrainStudent

    def __init__(self, examples: Examples, settings: StudentSettings, pretrained: Path | None = None) -> None:
        """Raises `InputError` where the examples, their teacher or the backbone do not fit the settings."""
        self.examples, self.settings = examples, settings
        self.augmentation, self.options = settings.augmentation, settings.train_student
        _check_network(settings, pretrained)
        _check_teacher(examples, settings)
        torch.manual_seed(self.options.seed)
        classes = examples.classes
        self.student = build(settings.network, len(classes))
        if pretrained:
            load_backbone(self.student, pretrained)  # pyright: ignore[reportArgumentType]
            self.identity = [hashlib.sha256((pretrained / BACKBONE).read_bytes()).hexdigest()]
        shares = settings.network.shares_classifier
        if shares:
            share_classifier(self.student, *examples.classifier())  # pyright: ignore[reportArgumentType]
        self.known_classes = classes.evaluated if examples.labelled and not shares else examples.taught_classes()
        """Names of the classes that the student can predict: those of its labels, or only those of its teacher."""
        self.known = torch.from_numpy(classes.known(self.known_classes))
        channels = _feature_channels(examples) if settings.losses.features else 0
        self.learner = SegmentationLearner(self.student, len(classes), channels)
        for stage, projection in enumerate(self.learner.projections):
            # DDP waits for the gradient of every parameter that requires one.
            projection.requires_grad_(stage in settings.losses.stages)
        if self.options.backbone_learning_rate == 0:
            self.frozen = [self.student.get_submodule("backbone").requires_grad_(False)]
        self.weights = _class_weights(examples, settings)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trainable parameters. The backbone is a separate group where it has its own learning rate."""
        learnt, rate = [p for p in self.learner.parameters() if p.requires_grad], self.options.backbone_learning_rate
        if rate is None:
            return super().parameter_groups()
        backbone = {id(p) for p in self.student.get_submodule("backbone").parameters()}
        groups = [
            {"params": [p for p in learnt if id(p) not in backbone], "share": 1.0},
            {"params": [p for p in learnt if id(p) in backbone], "share": rate / self.options.learning_rate},
        ]
        return [group for group in groups if group["params"]]

    def to(self, device: torch.device) -> None:
        """Move the class weights to `device`."""
        self.known = self.known.to(device)
        self.weights = ClassWeights(*(None if value is None else value.to(device) for value in self.weights))  # pyright: ignore

    def loss(self, learner: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, its parts by name) of a batch."""
        # Nothing can be learnt from labels of a class that a shared classifier never predicts.
        labels, carried = (torch.where(self.known[of], of, IGNORE) for of in (batch.labels, batch.carried_label))
        batch = replace(batch, labels=labels, carried_label=carried)
        output = learner(batch.points, batch.scan, batch.scans)
        return total_loss(output, batch, self.student, self.weights, self.settings.losses)


def _class_weights(examples: Examples, settings: StudentSettings) -> ClassWeights:
    """Class weights from all labelled scans, and from all soft labels where those are weighted; thresholds if needed.

    Raises `InputError` where soft labels are weighted and the targets hold no class counts, or where thresholds are
    needed and a scan or its targets cannot be read.
    """
    answers = aggregated = thresholds = None
    wanted = settings.losses
    taught = wanted.soft_labels and any(recorded.stages for recorded in examples.sequences)
    if taught and wanted.balanced:
        answers = losses.class_weights(examples.answer_counts())
        if wanted.targets == "aggregated":
            aggregated = losses.class_weights(examples.aggregated_counts())
    if taught and wanted.output and wanted.confident < 1:
        thresholds = confidence_thresholds(examples, wanted)
    return ClassWeights(losses.class_weights(examples.label_counts()), answers, aggregated, thresholds)


def _feature_channels(examples: Examples) -> int:
    """Number of channels of the teacher's patch features; 0 without a teacher."""
    return max((recorded.feature_channels for recorded in examples.sequences), default=0)


def _check_network(settings: StudentSettings, pretrained: Path | None) -> None:
    """Raises `InputError` where the settings need a separate backbone and the network has none."""
    begins = pretrained is not None or settings.train_student.backbone_learning_rate is not None
    if begins and not settings.network.has_backbone:
        raise InputError(
            f"network.kind is {settings.network.kind}, which has no separate backbone: leave out --pretrained and"
            " train_student.backbone_learning_rate, or use a minkunet"
        )


def _check_teacher(examples: Examples, settings: StudentSettings) -> None:
    """Raises `InputError` where a loss needs something that the teacher targets or the network do not have."""
    network, wanted = settings.network, settings.losses
    for recorded in examples.sequences:
        if recorded.stages is None or not wanted.taught:
            continue
        teacher, channels = f"the teacher of sequence {recorded.index.sequence}", recorded.feature_channels
        if wanted.soft_labels and not recorded.has_soft_labels:
            raise InputError(f"{teacher} has no cached logits to learn from: add logits to its cache_teacher.targets")
        if not network.stages:
            if wanted.features and network.embedding_width != channels:
                raise InputError(
                    f"the features of {teacher} have {channels} channels and the student's {network.embedding_width}:"
                    f" set network.embedding={channels}, or train without features (losses.features=0)"
                )
        elif (wanted.distillation or wanted.features) and network.stages != recorded.stages:
            raise InputError(
                f"{teacher} has {recorded.stages} stages and the student {network.stages}: list one entry per teacher"
                " stage in network.scales, or train without a teacher"
            )
