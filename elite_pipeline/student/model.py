"""A trained student as a folder with `student.safetensors` and `config.json`, and the `Predictor` that runs it.

predict = Predictor.load("models/demo")
points = np.fromfile("000000.bin", np.float32).reshape(-1, 4)
training_ids = predict(points)
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from elite_pipeline.choices import STUDENTS, load
from elite_pipeline.config import Network
from elite_pipeline.datasets.classes import IGNORE, ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.student.network import StudentNetwork
from elite_pipeline.student.sparse import InverseConv3d, StridedConv3d, SubMConv3d, bfloat16_on_cpu
from elite_pipeline.student.voxels import Pyramid

Precision = Literal["32-true", "16-true", "bf16-mixed"]
WEIGHTS, BACKBONE, CONFIG = "student.safetensors", "backbone.safetensors", "config.json"
FORMAT, FORMAT_VERSION = "elite_pipeline.student", 2
OF_BACKBONE = ("frame", "voxel_size", "volume", "stem", "planes", "blocks")
"""The keys of `network` that define the backbone of a MinkUNet."""
MADE_FOR = "made_for"
"""Key in the metadata of the weights file. Its value repeats those parts of `config.json` that the weights must fit:
the shapes of the weights do not show everything, for example the voxel size."""


def build(network: Network, classes: int) -> StudentNetwork:
    """An untrained student."""
    settings = network.model_dump()
    return load(STUDENTS[settings.pop("kind")])(**settings, classes=classes)


def save(folder: Path, student: StudentNetwork, config: dict[str, Any], log: Path) -> None:
    """Write a trained student to `folder`.

    Each file is written under another name and then renamed. The weights come last: a folder with weights is complete.
    config: content of `config.json` without its format. log: file of JSON lines from training.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, **config}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    made_for = {key: config[key] for key in ("network", "classes")}
    for name, content in (
        (CONFIG, (json.dumps(config, indent=2) + "\n").encode()),
        ("training.jsonl", Path(log).read_bytes()),
        (WEIGHTS, serialise(weights, {MADE_FOR: json.dumps(made_for)})),
    ):
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a trained student.

    Raises `InputError` where the file is missing, unreadable or of another format.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        remedy = f"Train one: snakemake {path.with_name(WEIGHTS)}"
        raise InputError(f"{path}: cannot read a trained student there ({error}). {remedy}") from None
    if (config.get("format"), config.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise InputError(
            f"{path} is of format {config.get('format')!r} version {config.get('format_version')!r};"
            f" this code reads {FORMAT!r} version {FORMAT_VERSION}. Train the student again."
        )
    return config


def weights_sha256(folder: Path) -> str:
    """SHA-256 of a trained student's weights."""
    return hashlib.sha256((Path(folder) / WEIGHTS).read_bytes()).hexdigest()


def load_backbone(student: StudentNetwork, folder: Path) -> None:
    """Load the backbone in `folder`, which `pretrain_student` wrote, into `student`.

    Raises `InputError` where the backbone is missing or damaged, or where its voxels or layers differ from those of the
    student.
    """
    path = Path(folder) / CONFIG
    remedy = f"Pre-train the backbone again: delete {path.parent} and run snakemake again"
    try:
        config = json.loads(path.read_text())
        network = config["network"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot read a pre-trained backbone there ({error!r}). {remedy}") from None
    for key in OF_BACKBONE:
        ours, theirs = json.loads(json.dumps(getattr(student, key))), network.get(key)
        if ours != theirs:
            raise InputError(
                f"{path}: the backbone was pre-trained with network.{key}={json.dumps(theirs)}, but the student has"
                f" network.{key}={json.dumps(ours)}. Change the student's value, or pre-train another backbone with it."
            )
    _fill(student.get_submodule("backbone"), path.with_name(BACKBONE), config, remedy)


def share_classifier(student: StudentNetwork, weight: Tensor, bias: Tensor) -> None:
    """Copy the teacher's classifier, `weight` (K, D) and `bias` (K,) float32, into `student` and freeze it there.

    Raises `InputError` where the student does not have D feature channels or K classes.
    """
    own = student.get_submodule("classifier")
    assert isinstance(own, nn.Linear)
    if weight.shape[1] != own.in_features:
        raise InputError(
            f"the teacher's classifier has {weight.shape[1]} input channels, but the student's has {own.in_features}."
            f" To share it, set network.embedding={weight.shape[1]}, which is the teacher's upscaler"
        )
    if len(weight) != own.out_features:
        raise InputError(f"the teacher's classifier has {len(weight)} classes and the student's {own.out_features}")
    own.load_state_dict({"weight": weight, "bias": bias})
    own.requires_grad_(False)


def _fill(module: nn.Module, path: Path, config: dict[str, Any], remedy: str) -> None:
    """Load the weights at `path` into `module`. config: content of the `config.json` in the same folder.

    Raises `InputError` with the `remedy` where the weights are unreadable, or do not fit `config`.
    """
    try:
        with safe_open(path, "pt") as file:
            weights, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: unreadable ({error}). {remedy}") from None
    for key, wanted in json.loads(metadata.get(MADE_FOR, "{}")).items():
        if config[key] != wanted:
            raise InputError(
                f"{path} does not fit the {CONFIG} beside it: its {key} is {wanted},"
                f" but {CONFIG} says {config[key]}. {remedy}"
            )
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit the {CONFIG} beside it. {remedy}\n{error}") from None


def _set_precision(student: StudentNetwork, precision: Precision, device: torch.device) -> None:
    if precision == "16-true":
        if device.type != "cuda":
            raise InputError("precision 16-true needs a GPU, but the student runs on a CPU: use 32-true")
        # In eval mode, spconv runs in float32 even under autocast. So float16 needs halved weights.
        student.half()
    if precision == "bf16-mixed":
        if device.type != "cpu" or not bfloat16_on_cpu():
            raise InputError(
                "precision bf16-mixed needs a CPU with bfloat16 instructions (AVX-512 BF16 or AMX): use 32-true"
            )
        for layer in student.modules():
            if isinstance(layer, (SubMConv3d, StridedConv3d, InverseConv3d)):
                layer.products = torch.bfloat16


class Predictor:
    """A student that labels every point of a scan. It never predicts the class `IGNORE`."""

    def __init__(
        self,
        student: StudentNetwork,
        config: dict[str, Any],
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "32-true",
    ) -> None:
        """precision: see `load`. Raises `InputError` where `config` holds no class table, or the device lacks it."""
        self.student = student.to(device).eval()
        self.device = torch.device(device)
        _set_precision(self.student, precision, self.device)
        self.config = config
        self.classes = ClassTable.from_json(config["classes"], CONFIG)
        """The class table of the predictions."""
        self.scan_format: str = config.get("scan_format", "semantickitti")
        """The format of the scans that it was trained on, one of `choices.FORMATS`. Older ones say none."""

    @classmethod
    def load(cls, folder: Path | str, device: str | None = None, *, precision: Precision = "32-true") -> "Predictor":
        """The student in `folder`, on `device` (by default a GPU where there is one).

        precision: "32-true" is float32, "16-true" float16 on a GPU, "bf16-mixed" bfloat16 products of the convolutions
        on a CPU. Raises `InputError` where the folder does not hold a complete student, or the device lacks the
        precision.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder = Path(folder)
        config = read_config(folder)
        path = folder / WEIGHTS
        remedy = f"Train the student again: snakemake {path}"
        try:
            classes = ClassTable.from_json(config["classes"], path.with_name(CONFIG))
            student = build(TypeAdapter(Network).validate_python(config["network"]), len(classes))
        except (KeyError, ValidationError) as error:
            raise InputError(f"{path.with_name(CONFIG)}: no valid network and classes. {remedy}\n{error!r}") from None
        _fill(student, path, config, remedy)
        return cls(student, config, device=device, precision=precision)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N,) uint8 training ids of `points` (N, 4) float32: x, y, z in metres (LiDAR frame), remission.

        Raises `InputError` where `points` has another shape, or contains numbers that are not finite.
        """
        if points.ndim != 2 or points.shape[1] != 4 or not np.isfinite(points).all():
            raise InputError(f"a scan must be (N, 4) finite numbers (x, y, z, remission); its shape is {points.shape}")
        if len(points) == 0:
            return np.zeros(0, dtype=np.uint8)
        pyramid = self.voxelise(points)
        return self.scatter_back(self.forward(pyramid), pyramid)

    @torch.inference_mode()
    def voxelise(self, points: np.ndarray) -> Pyramid:
        """First phase: points in CPU memory -> voxels on the device."""
        return self.student.voxelise(torch.from_numpy(np.array(points, dtype=np.float32)).to(self.device))

    @torch.inference_mode()
    def forward(self, pyramid: Pyramid) -> Tensor:
        """Second phase: logits (V, K) of the voxels."""
        return self.student(pyramid).logits

    @torch.inference_mode()
    def scatter_back(self, logits: Tensor, pyramid: Pyramid) -> np.ndarray:
        """Third phase: (N,) uint8 training ids of all points, in CPU memory."""
        logits[:, IGNORE] = -torch.inf
        labels = logits.argmax(dim=1).to(torch.uint8)
        return labels[pyramid[self.student.finest].of_point].cpu().numpy()
