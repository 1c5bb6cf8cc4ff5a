"""Training examples of a student: scans, labels, and cached teacher targets of their points. They hold no images."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from elite_pipeline import store
from elite_pipeline.config import Augmentation
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.sequence import Recorded
from elite_pipeline.training.augmentation import augment, remap

NO_INDICES, NO_CODES, NO_WEIGHTS = (
    partial(torch.zeros, *shape, dtype=dtype)
    for shape, dtype in (((0,), torch.int64), ((0, 0), torch.uint8), ((0,), torch.float32))
)


@dataclass(frozen=True)
class Example:
    """One scan of N points, with teacher targets for M projected points: S stages of the teacher, K classes.

    R points have aggregated soft labels, and C points have carried labels.
    """

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
    reached: Tensor = field(default_factory=NO_INDICES)
    """(R,) int64: indices of the points that have an aggregated soft label."""
    aggregated: Tensor = field(default_factory=NO_CODES)
    """(R, 2T) uint8: their soft labels, aggregated over frames and stages of the teacher, in the compact form that the
    store has (`soft_labels.decode`). (R, K) float32 would take ten times the memory."""
    carried: Tensor = field(default_factory=NO_INDICES)
    """(C,) int64: indices of the points that have a label carried from labelled scans of the same place."""
    carried_label: Tensor = field(default_factory=NO_INDICES)
    """(C,) int64 training ids."""
    carried_weight: Tensor = field(default_factory=NO_WEIGHTS)
    """(C,) float32: confidence of the carried labels, 0 to 1."""

    def augmented(self, settings: Augmentation, generator: torch.Generator) -> "Example":
        """This scan after random changes. Labels and teacher targets follow their points."""
        points, rows = augment(self.points, settings, generator)
        return replace(self.kept(rows), points=points)

    def kept(self, rows: Tensor) -> "Example":
        """A copy of the points at `rows` ((n,) int64, distinct), with their labels and targets. Patches stay all."""
        left, taught = remap(self.taught, rows, len(self.points))
        reached_left, reached = remap(self.reached, rows, len(self.points))
        carried_left, carried = remap(self.carried, rows, len(self.points))
        return Example(
            points=self.points[rows],
            labels=self.labels[rows],
            instances=self.instances[rows],
            taught=taught,
            teacher=self.teacher[left],
            patch_of=self.patch_of[left],
            patches=self.patches,
            reached=reached,
            aggregated=self.aggregated[reached_left],
            carried=carried,
            carried_label=self.carried_label[carried_left],
            carried_weight=self.carried_weight[carried_left],
        )


@dataclass(frozen=True, kw_only=True)
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

    def moved(name: str) -> Tensor:
        """The indices of points `name` of all examples, as indices of the concatenated points."""
        return torch.cat([getattr(e, name) + start for e, start in zip(examples, starts, strict=True)])

    patches = torch.tensor([len(example.patches) for example in examples])
    first = (patches.cumsum(0) - patches).tolist()
    shifted = [torch.where(e.patch_of < 0, -1, e.patch_of + k) for e, k in zip(examples, first, strict=True)]
    return Batch(
        points=torch.cat([example.points for example in examples]),
        labels=torch.cat([example.labels for example in examples]),
        instances=torch.cat([example.instances for example in examples]),
        taught=moved("taught"),
        teacher=_cat([example.teacher for example in examples]),
        patch_of=torch.cat(shifted),
        patches=_cat([example.patches for example in examples]),
        reached=moved("reached"),
        aggregated=_cat([example.aggregated for example in examples]),
        carried=moved("carried"),
        carried_label=torch.cat([example.carried_label for example in examples]),
        carried_weight=torch.cat([example.carried_weight for example in examples]),
        scan=torch.repeat_interleave(torch.arange(len(examples)), sizes),
        scans=len(examples),
    )


def _cat(tensors: list[Tensor]) -> Tensor:
    """The rows of all `tensors`. A tensor without rows is left out, because its other sizes have no meaning."""
    return torch.cat([tensor for tensor in tensors if len(tensor)] or tensors[:1])


def _targeted(recorded: Recorded, f: int) -> bool:
    """Whether frame index `f` may have teacher targets, or labels carried to it because it has none of its own."""
    if recorded.answered(f) or (recorded.aggregated is not None and recorded.aggregated.count(f)):
        return True
    return recorded.carried is not None and not recorded.index.labelled[f] and recorded.carried.count(f) > 0


class Examples:
    """The scans of several sequences that a student can learn from: those with labels, teacher targets or both."""

    def __init__(
        self, sequences: Sequence[Recorded], *, features: bool = False, own_frame: bool = True, unlabelled: bool = False
    ) -> None:
        """features: whether to read the teacher's patch features.

        own_frame: whether to read the teacher targets of the scan's own images. Aggregated soft labels and carried
        labels are read where the sequences have them; carried labels only for unlabelled scans.
        unlabelled: whether scans with neither labels nor targets are included too: they still take part in the
        batch normalisation.
        Raises `InputError` where no scan has labels or teacher targets, or where features are needed but not cached.
        """
        self.sequences = sequences
        self.features, self.own_frame = features, own_frame
        items = [(recorded, f) for recorded in sequences for f in range(len(recorded.index.frames))]
        useful = [(recorded, f) for recorded, f in items if recorded.index.labelled[f] or _targeted(recorded, f)]
        self.items = items if unlabelled else useful
        if not useful:
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
        example = Example(
            points=torch.from_numpy(recorded.points(f).copy()),
            labels=torch.from_numpy(recorded.labels(f)),
            instances=torch.from_numpy(recorded.instances(f)),
            taught=torch.zeros(0, dtype=torch.int64),
            teacher=torch.zeros(0, 0, len(self.classes)),
            patch_of=torch.zeros(0, dtype=torch.int64),
            patches=torch.zeros(0, 0, 0),
        )
        if self.own_frame:
            example = replace(example, **vars(recorded.answers(f, features=self.features)))
        if recorded.aggregated is not None:
            found = recorded.reached(f)
            example = replace(example, reached=found.point, aggregated=found.soft_label)
        if recorded.carried is not None and not recorded.index.labelled[f]:
            found = recorded.carried_labels(f)
            labels = {"carried_label": found.label, "carried_weight": found.confidence}
            example = replace(example, carried=found.point, **labels)
        if recorded.recording.nearest:
            outside = torch.linalg.vector_norm(example.points[:, :3], dim=1) >= recorded.recording.nearest
            example = example.kept(outside.nonzero()[:, 0])
        return example

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

    def aggregated_counts(self) -> Tensor:
        """(K,) float64: as `answer_counts`, for the aggregated soft labels. Raises `InputError` for a damaged store."""
        stores = [recorded.aggregated.group for recorded in self.sequences if recorded.aggregated is not None]
        return torch.from_numpy(sum(store.read(group, "mass") for group in stores))

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
