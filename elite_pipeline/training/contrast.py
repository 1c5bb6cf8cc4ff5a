"""UDAKD: pre-trains a backbone without labels. Point features learn to match the features of a frozen image encoder.

In each step, the 3D features of the points of some scans pass through a linear map and the domain-adaptation module.
The 2D features of the image patches (or superpixels) that these points hit pass through another linear map. InfoNCE
matches each pair against all other pairs of the step. Where the abstract of arXiv 2509.00379 gives no value, the value
of SLidR (arXiv 2203.16258) is used. Students start from the backbone alone. The linear maps and the module are not
passed on to them.
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
    """The student up to its pseudo-2D features, and the linear map of the image features."""

    def __init__(self, settings: StudentToPretrain, channels: int, classes: int) -> None:
        """channels: of the image features. classes: of the classifier, which is not trained here."""
        super().__init__()
        width = settings.contrast.projection
        network = settings.network.model_copy(update={"embedding": width, "adaptation": settings.adaptation})
        self.student = build(network, classes)
        self.student.get_submodule("classifier").requires_grad_(False)  # no classes are learnt here
        self.image = nn.Linear(channels, width)

    def forward(self, points: Tensor, scan: Tensor, scans: int, features: Tensor) -> tuple[Pyramid, Tensor, Tensor]:
        """(pyramid, 3D features (V, W), 2D features (P, W)) from points (N, 4) and image features (P, channels)."""
        pyramid = self.student.voxelise(points, scan, scans)
        return pyramid, self.student(pyramid).features, self.image(features)


class Contrasting(Task):
    """The task that pre-trains a backbone."""

    name = "pretrain_student"
    settings: StudentToPretrain
    learner: ContrastLearner

    def __init__(self, examples: Examples, settings: StudentToPretrain) -> None:
        """Raises `InputError` where no teacher features are cached."""
        self.examples, self.settings = examples, settings
        self.augmentation, self.options = settings.augmentation, settings.pretrain_student
        channels = max((recorded.feature_channels for recorded in examples.sequences), default=0)
        if not channels:
            raise InputError("the targets hold no features to contrast with: add features to cache_teacher.targets")
        torch.manual_seed(self.options.seed)
        self.learner = ContrastLearner(settings, channels * len(settings.contrast.stages), len(examples.classes))

    def loss(self, learner: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE of the batch of a step, and for the log: its number of pairs and the share matched correctly.

        With several processes, the loss runs over the pairs of all processes.
        """
        contrast, rng = self.settings.contrast, generator(self.options.seed, PAIRS, step)
        rows, of_pair, patches = pairs(batch, contrast.level, contrast.pairs, rng)
        features = batch.patches[patches][:, contrast.stages].flatten(1)  # (P, channels)
        pyramid, voxels, keys = learner(batch.points, batch.scan, batch.scans, features)
        points = voxels.index_select(0, pyramid[self.learner.student.finest].of_point[batch.taught[rows]])
        anchors, keys = gathered(mean(points, of_pair, len(patches)), keys)
        matched = losses.matched(anchors, keys)
        parts = {"pairs": matched.new_tensor(len(keys)), "matched": matched}
        return losses.info_nce(anchors, keys, contrast.temperature), parts


def pairs(
    batch: Batch, level: Literal["point", "superpixel"], count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """At most `count` pairs of 3D and 2D features, drawn uniformly from all patches (superpixels) that points hit.

    Returns rows (R,) of `batch.taught` that belong to a pair, the pair of each row (R,), the patch of each pair (P,).
    With level `superpixel`, a pair has all points of its superpixel. With level `point`, a pair has one random point of
    its patch. No two pairs share a patch: their 2D features would be equal, and each would be a negative of the other.
    """
    device = batch.patch_of.device
    hit = torch.nonzero(batch.patch_of >= 0).squeeze(1)
    hit = hit[torch.randperm(len(hit), generator=rng).to(device)]
    patches, of_row = batch.patch_of[hit].unique(return_inverse=True)
    places = torch.arange(len(hit), device=device)
    if level == "point":
        # Rows are shuffled, so the first row of each patch is a random row.
        first = places.new_zeros(len(patches)).scatter_reduce(0, of_row, places, "amin", include_self=False)
        hit, of_row = hit[first], places[: len(patches)]
    chosen = torch.randperm(len(patches), generator=rng)[:count].to(device)
    of_patch = torch.full((len(patches),), -1, device=device)
    of_patch[chosen] = places[: len(chosen)]
    kept = of_patch[of_row] >= 0
    return hit[kept], of_patch[of_row[kept]], patches[chosen]


def save(folder: Path, learner: ContrastLearner, config: dict[str, Any], log: Path) -> None:
    """Write the result to the new `folder`: backbone, layers that are not passed on, `config` and log."""
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
