"""Training examples of a student: scans, labels, and cached teacher targets of their points. They hold no images."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from elite_pipeline.config import Augmentation
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.training.augmentation import augment, remap


@dataclass(frozen=True)
class Example:
    """One scan of N points, with teacher targets for M projected points: S stages of the teacher, K classes."""

    points: Tensor
    """(N, 4) float32: x, y, z in metres (LiDAR frame), remission."""
    labels: Tensor
    """(N,) int64 training ids; `IGNORE` where unlabelled."""
    taught: Tensor
    """(M,) int64: indices of the projected points that the teacher saw. A point seen by two cameras appears twice, once
    with each target. The sum of both divergences pulls the student to the mean of the two distributions."""
    teacher: Tensor
    """(M, S, K) float32 logits."""
    instances: Tensor
    """(N,) int64: instance id of each point in this scan; 0 = no instance, or unknown."""
    patch_of: Tensor
    """(M,) int64: row in `patches` of the patch in which the teacher saw the point; -1 if features are not read."""
    patches: Tensor
    """(Q, S, D) float32: teacher features of the image patches that points hit, in standard deviations."""

    def augmented(self, settings: Augmentation, generator: torch.Generator) -> "Example":
        """This scan after random changes. Labels and teacher targets follow their points."""
        points, rows = augment(self.points, settings, generator)
        left, taught = remap(self.taught, rows, len(self.points))
        return replace(
            self,
            points=points,
            labels=self.labels[rows],
            instances=self.instances[rows],
            taught=taught,
            teacher=self.teacher[left],
            patch_of=self.patch_of[left],
        )


@dataclass(frozen=True)
class Batch(Example):
    """Several scans, concatenated."""

    scan: Tensor
    """(N,) int64: index of the scan of each point."""
    scans: int

    def to(self, device: torch.device) -> "Batch":
        """This batch on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """This batch in pinned memory, from which a GPU can copy while other work goes on."""
        return self._each(Tensor.pin_memory)

    def share_memory(self) -> "Batch":
        """This batch in memory that other processes can read."""
        return self._each(Tensor.share_memory_)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(self, **{f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "scans"})


def collate(examples: Sequence[Example]) -> Batch:
    """`examples`, concatenated in order."""
    sizes = torch.tensor([len(example.points) for example in examples])
    starts = (sizes.cumsum(0) - sizes).tolist()
    patches = torch.tensor([len(example.patches) for example in examples])
    first = (patches.cumsum(0) - patches).tolist()
    shifted = [torch.where(e.patch_of < 0, -1, e.patch_of + k) for e, k in zip(examples, first, strict=True)]
    return Batch(
        points=torch.cat([example.points for example in examples]),
        labels=torch.cat([example.labels for example in examples]),
        instances=torch.cat([example.instances for example in examples]),
        taught=torch.cat([example.taught + start for example, start in zip(examples, starts, strict=True)]),
        teacher=_cat([example.teacher for example in examples]),
        patch_of=torch.cat(shifted),
        patches=_cat([example.patches for example in examples]),
        scan=torch.repeat_interleave(torch.arange(len(examples)), sizes),
        scans=len(examples),
    )


def _cat(tensors: list[Tensor]) -> Tensor:
    """The rows of all `tensors`. A tensor without rows is left out, because its other sizes have no meaning."""
    return torch.cat([tensor for tensor in tensors if len(tensor)] or tensors[:1])


class Examples:
    """The scans of several sequences that have labels, teacher targets or both."""

    def __init__(self, sequences: Sequence[Recorded], *, features: bool = False) -> None:
        """features: whether to read the teacher's patch features.

        Raises `InputError` where no scan has labels or teacher targets, or where features are needed but not cached.
        """
        self.sequences = sequences
        self.features = features
        self.items = [
            (recorded, f)
            for recorded in sequences
            for f, labelled in enumerate(recorded.index.labelled)
            if labelled or recorded.answered(f)
        ]
        if not self.items:
            raise InputError("no training scan has labels or teacher targets: check train: of this data set")
        for recorded in sequences:
            if features and recorded.targets is not None and not recorded.feature_channels:
                raise InputError(f"{recorded.targets.store_path} holds no features: add them to cache_teacher.targets.")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def classes(self) -> ClassTable:
        """The class table of all sequences."""
        return self.sequences[0].index.classes

    def __getitem__(self, item: int) -> Example:
        """The example number `item`. Raises `InputError` where a file of the scan cannot be read."""
        recorded, f = self.items[item]
        answers = recorded.answers(f, features=self.features)
        return Example(
            points=torch.from_numpy(recorded.points(f).copy()),
            labels=torch.from_numpy(recorded.labels(f)),
            instances=torch.from_numpy(recorded.instances(f)),
            taught=answers.taught,
            teacher=answers.teacher,
            patch_of=answers.patch_of,
            patches=answers.patches,
        )

    @cached_property
    def labelled(self) -> list[int]:
        """The numbers of the labelled examples."""
        return [item for item, (recorded, f) in enumerate(self.items) if recorded.index.labelled[f]]

    @property
    def files(self) -> list[Path]:
        """Small files that identify the data."""
        return [file for recorded in self.sequences for file in recorded.files]

    def label_counts(self) -> Tensor:
        """(K,) int64: number of labelled points of each class."""
        counts = sum(recorded.index.class_points.sum(axis=0) for recorded in self.sequences)
        return torch.from_numpy(counts)

    def answer_counts(self) -> Tensor:
        """(K,) float64: number of points of each class according to the teacher, a sum of its probabilities.

        Raises `InputError` where the targets do not contain it.
        """
        return torch.from_numpy(sum(recorded.class_mass() for recorded in self.sequences if recorded.stages))

    def classifier(self) -> tuple[Tensor, Tensor]:
        """The linear classifier of the teacher: ((K, D), (K,)).

        Raises `InputError` where the targets hold no classifier, or several different ones.
        """
        found = [c for c in (recorded.classifier() for recorded in self.sequences) if c is not None]
        if not found or not all(torch.equal(a, b) for other in found for a, b in zip(found[0], other, strict=True)):
            raise InputError(
                "the targets hold no classifier to share, or several: all targets must come from one image segmentation"
                " network (a teacher with images: in config.yaml)"
            )
        return found[0]

    def taught_classes(self) -> list[str]:
        """Names of the classes that the teacher can predict; all evaluated classes where the targets list none."""
        return next(filter(None, (recorded.known_classes for recorded in self.sequences)), self.classes.evaluated)

    def digest(self) -> str:
        """SHA-256 of the indices and the metadata of the stores. It identifies the data without reading all of it."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()
