"""A trained student as a folder: `student.safetensors` and `config.json`; and how to run one.

predict = Predictor.load("models/demo")
points = np.fromfile("000000.bin", np.float32).reshape(-1, 4)
training_ids = predict(points)
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

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
from elite_pipeline.student.voxels import Pyramid

WEIGHTS, BACKBONE, CONFIG = "student.safetensors", "backbone.safetensors", "config.json"
FORMAT, FORMAT_VERSION = "elite_pipeline.student", 2
OF_BACKBONE = ("frame", "voxel_size", "volume", "stem", "planes", "blocks")
"""What makes a MinkUNet's backbone, by its name in `network`."""
MADE_FOR = "made_for"
"""The key in the weights' own metadata of what they repeat of `config.json`: a voxel's size does not show in them."""


def build(network: Network, classes: int) -> StudentNetwork:
    """An untrained student."""
    settings = network.model_dump()
    return load(STUDENTS[settings.pop("kind")])(**settings, classes=classes)


def save(folder: Path, student: StudentNetwork, config: dict[str, Any], log: Path) -> None:
    """Write a trained student to `folder`: each file aside and renamed, the weights last, which make it whole.

    `config` is what `config.json` says beside its format; `log` is the file of JSON lines that training wrote.
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

    Raises `InputError` where there is none, or one of another format.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        remedy = f"Train one: snakemake {path.with_name(WEIGHTS)}"
        raise InputError(f"{path}: no readable student there ({error}). {remedy}") from None
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
    """Give `student` the backbone in `folder`, which `pretrain_student` wrote.

    Raises `InputError` where it is missing, damaged, or made of other voxels or other planes than the student's.
    """
    path = Path(folder) / CONFIG
    remedy = f"Pre-train the backbone again: delete {path.parent} and run snakemake again"
    try:
        config = json.loads(path.read_text())
        network = config["network"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no readable pre-trained backbone there ({error!r}). {remedy}") from None
    for key in OF_BACKBONE:
        ours, theirs = json.loads(json.dumps(getattr(student, key))), network.get(key)
        if ours != theirs:
            raise InputError(
                f"{path}: the backbone was pre-trained with network.{key}={json.dumps(theirs)}, and the student has"
                f" network.{key}={json.dumps(ours)}: give it the former, or pre-train a backbone with the latter"
            )
    _fill(student.get_submodule("backbone"), path.with_name(BACKBONE), config, remedy)


def share_classifier(student: StudentNetwork, weight: Tensor, bias: Tensor) -> None:
    """Give `student` the classifier of its teacher, `weight` (K, D) and `bias` (K,) float32, and freeze it.

    Raises `InputError` where the student's features are not D wide, or its classes not K.
    """
    own = student.get_submodule("classifier")
    assert isinstance(own, nn.Linear)
    if weight.shape[1] != own.in_features:
        raise InputError(
            f"the teacher's classifier sees {weight.shape[1]} channels and the student's {own.in_features}: to share"
            f" it, network.embedding must be the teacher's upscaler, {weight.shape[1]}"
        )
    if len(weight) != own.out_features:
        raise InputError(f"the teacher's classifier has {len(weight)} classes and the student's {own.out_features}")
    own.load_state_dict({"weight": weight, "bias": bias})
    own.requires_grad_(False)


def _fill(module: nn.Module, path: Path, config: dict[str, Any], remedy: str) -> None:
    """Load the weights at `path`, beside which `config` lies, into `module`.

    Raises `InputError`, which ends with `remedy`, where they are unreadable, or do not fit `config`.
    """
    try:
        with safe_open(path, "pt") as file:
            weights, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: unreadable ({error}). {remedy}") from None
    for key, wanted in json.loads(metadata.get(MADE_FOR, "{}")).items():
        if config[key] != wanted:
            raise InputError(
                f"{path} does not fit {CONFIG} beside it: its {key} is {wanted},"
                f" and {CONFIG} says {config[key]}. {remedy}"
            )
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit {CONFIG} beside it. {remedy}\n{error}") from None


class Predictor:
    """A student that labels every point of a scan. Class `IGNORE` is never predicted."""

    def __init__(
        self, student: StudentNetwork, config: dict[str, Any], *, device: str | torch.device = "cpu", half: bool = False
    ) -> None:
        """Raises `InputError` where `config` holds no class table."""
        self.student = student.to(device).eval()
        if half:
            # Under autocast spconv runs float32 in eval mode, so that float16 needs the weights themselves halved.
            self.student.half()
        self.config = config
        self.classes = ClassTable.from_json(config["classes"], CONFIG)
        """The class table of what it predicts."""
        self.device = torch.device(device)

    @classmethod
    def load(cls, folder: Path | str, device: str | None = None, *, half: bool = False) -> "Predictor":
        """The student in `folder`, on `device` (by default a GPU where there is one).

        Raises `InputError` where no whole student is there.
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
            raise InputError(f"{path.with_name(CONFIG)}: no network and classes there. {remedy}\n{error!r}") from None
        _fill(student, path, config, remedy)
        return cls(student, config, device=device, half=half)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N,) uint8 training ids of `points` (N, 4) float32: x, y, z in metres (LiDAR frame), remission.

        Raises `InputError` where `points` has another shape, or numbers that are not finite.
        """
        if points.ndim != 2 or points.shape[1] != 4 or not np.isfinite(points).all():
            raise InputError(f"a scan is (N, 4) finite numbers (x, y, z, remission); this one is {points.shape}")
        if len(points) == 0:
            return np.zeros(0, dtype=np.uint8)
        pyramid = self.voxelise(points)
        return self.scatter_back(self.forward(pyramid), pyramid)

    @torch.inference_mode()
    def voxelise(self, points: np.ndarray) -> Pyramid:
        """First phase: points in memory -> voxels on the device."""
        return self.student.voxelise(torch.from_numpy(np.array(points, dtype=np.float32)).to(self.device))

    @torch.inference_mode()
    def forward(self, pyramid: Pyramid) -> Tensor:
        """Second phase: logits (V, K) of the voxels."""
        return self.student(pyramid).logits

    @torch.inference_mode()
    def scatter_back(self, logits: Tensor, pyramid: Pyramid) -> np.ndarray:
        """Third phase: (N,) uint8 training ids of all points, in memory."""
        logits[:, IGNORE] = -torch.inf
        labels = logits.argmax(dim=1).to(torch.uint8)
        return labels[pyramid[self.student.finest].of_point].cpu().numpy()
