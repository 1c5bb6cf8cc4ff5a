"""UDAKD: a backbone learns, without any label, to say of a point what a frozen image encoder says of its pixels.

Per step: 3D features of the points of some scans go through a linear map and the domain-adaptation module, 2D features
of the image patches (or superpixels) that they hit through a linear map, and InfoNCE tells each pair from all others of
the step. What is not of arXiv 2509.00379's abstract has the value of the field, which is SLidR's (arXiv 2203.16258).
Both linear maps and the module are left behind: students begin with the backbone alone.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as serialise
from torch import Tensor, nn

from elite_pipeline.config import StudentToPretrain
from elite_pipeline.distributed import gathered
from elite_pipeline.errors import InputError
from elite_pipeline.grouping import mean
from elite_pipeline.student.model import BACKBONE, CONFIG, MADE_FOR, build
from elite_pipeline.student.voxels import Pyramid
from elite_pipeline.training import losses
from elite_pipeline.training.examples import Batch, Examples
from elite_pipeline.training.loop import Task
from elite_pipeline.training.sampling import PAIRS, generator

MODULE = "module.safetensors"


class ContrastLearner(nn.Module):
    """The student up to its pseudo-2D features, and the linear map of the image's features."""

    def __init__(self, settings: StudentToPretrain, channels: int, classes: int) -> None:
        """`channels` of the image's features; `classes`: of the classifier, which is left out of the training."""
        super().__init__()
        width = settings.contrast.projection
        network = settings.network.model_copy(update={"embedding": width, "adaptation": settings.adaptation})
        self.student = build(network, classes)
        self.student.get_submodule("classifier").requires_grad_(False)  # there are no classes here
        self.image = nn.Linear(channels, width)

    def forward(self, points: Tensor, scan: Tensor, scans: int, features: Tensor) -> tuple[Pyramid, Tensor, Tensor]:
        """(pyramid, 3D features (V, W), 2D features (P, W)) of points (N, 4) and image features (P, channels)."""
        pyramid = self.student.voxelise(points, scan, scans)
        return pyramid, self.student(pyramid).features, self.image(features)


class Contrasting(Task):
    """The task that ends in a pre-trained backbone."""

    name = "pretrain_student"
    settings: StudentToPretrain
    learner: ContrastLearner

    def __init__(self, examples: Examples, settings: StudentToPretrain) -> None:
        """Raises `InputError` where no teacher's features are cached."""
        self.examples, self.settings = examples, settings
        self.augmentation, self.options = settings.augmentation, settings.pretrain_student
        channels = max((recorded.feature_channels for recorded in examples.sequences), default=0)
        if not channels:
            raise InputError("no targets with features to contrast with: add features to its cache_teacher.targets")
        torch.manual_seed(self.options.seed)
        self.learner = ContrastLearner(settings, channels * len(settings.contrast.stages), len(examples.classes))

    def loss(self, learner: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE of the batch of a step; beside it how many pairs that has, and the share told rightly.

        With several processes, it is over the pairs of all of them.
        """
        contrast, rng = self.settings.contrast, generator(self.options.seed, PAIRS, step)
        rows, of_pair, patches = pairs(batch, contrast.level, contrast.pairs, rng)
        features = batch.patches[patches][:, contrast.stages].flatten(1)  # (P, channels)
        pyramid, voxels, keys = learner(batch.points, batch.scan, batch.scans, features)
        points = voxels.index_select(0, pyramid[self.learner.student.finest].of_point[batch.taught[rows]])
        anchors, keys = gathered(mean(points, of_pair, len(patches)), keys)
        told = losses.matched(anchors, keys)
        parts = {"pairs": told.new_tensor(len(keys)), "matched": told}
        return losses.info_nce(anchors, keys, contrast.temperature), parts


def pairs(
    batch: Batch, level: Literal["point", "superpixel"], count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """At most `count` pairs of 3D and 2D features, drawn evenly from all patches (superpixels) that points hit.

    Returns rows (R,) of `batch.taught` that belong to a pair, the pair of each (R,), and the patch of each pair (P,).
    With level `superpixel`, all points in it are of a pair; with `point` a random one, so that never two pairs are of
    one patch, whose equal 2D features would be each other's negatives.
    """
    device = batch.patch_of.device
    hit = torch.nonzero(batch.patch_of >= 0).squeeze(1)
    hit = hit[torch.randperm(len(hit), generator=rng).to(device)]
    patches, of_row = batch.patch_of[hit].unique(return_inverse=True)
    places = torch.arange(len(hit), device=device)
    if level == "point":
        # Rows are shuffled, so that the first of each patch is a random one.
        first = places.new_zeros(len(patches)).scatter_reduce(0, of_row, places, "amin", include_self=False)
        hit, of_row = hit[first], places[: len(patches)]
    chosen = torch.randperm(len(patches), generator=rng)[:count].to(device)
    of_patch = torch.full((len(patches),), -1, device=device)
    of_patch[chosen] = places[: len(chosen)]
    kept = of_patch[of_row] >= 0
    return hit[kept], of_patch[of_row[kept]], patches[chosen]


def save(folder: Path, learner: ContrastLearner, config: dict[str, Any], log: Path) -> None:
    """Write what was learnt to the new `folder`: the backbone, what is left behind, `config` and the log."""
    left = ("student.backbone.", "student.classifier.")
    parts = {
        BACKBONE: learner.student.get_submodule("backbone").state_dict(),
        MODULE: {name: value for name, value in learner.state_dict().items() if not name.startswith(left)},
    }
    folder.mkdir(parents=True)
    for name, state in parts.items():
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        (folder / name).write_bytes(serialise(tensors, {MADE_FOR: json.dumps({"network": config["network"]})}))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    (folder / "training.jsonl").write_bytes(log.read_bytes())
