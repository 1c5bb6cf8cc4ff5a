"""A trained student as a folder: `student.safetensors` and `config.json`; and how to run one.

predict = Predictor.load("models/demo")
points = np.fromfile("000000.bin", np.float32).reshape(-1, 4)
training_ids = predict(points)
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from elite_pipeline.config import Network
from elite_pipeline.datasets.semantickitti import IGNORE
from elite_pipeline.errors import InputError
from elite_pipeline.student.spvcnn import SPVCNN
from elite_pipeline.student.voxels import Pyramid

WEIGHTS, CONFIG = "student.safetensors", "config.json"
FORMAT, FORMAT_VERSION = "elite_pipeline.student", 1


def build(network: Network, classes: int) -> SPVCNN:
    """An untrained student."""
    return SPVCNN(
        voxel_size=network.voxel_size,
        volume=network.volume,
        scales=network.scales,
        width=network.width,
        classes=classes,
    )


def save(folder, student: SPVCNN, config: dict, log):
    """Write a trained student to `folder`: each file aside and renamed, the weights last, which make it whole.

    `config` is what `config.json` says beside its format; `log` is the file of JSON lines that training wrote.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, **config}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    for name, content in (
        (CONFIG, (json.dumps(config, indent=2) + "\n").encode()),
        ("training.jsonl", Path(log).read_bytes()),
        (WEIGHTS, serialise(weights)),
    ):
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)


def read_config(folder) -> dict:
    """`config.json` of a trained student."""
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


def weights_sha256(folder):
    """SHA-256 of a trained student's weights."""
    return hashlib.sha256((Path(folder) / WEIGHTS).read_bytes()).hexdigest()


class Predictor:
    """A student that labels every point of a scan. Class `IGNORE` is never predicted."""

    def __init__(self, student: SPVCNN, config: dict, *, device="cpu", half=False):
        self.student = student.to(device).eval()
        if half:
            # Under autocast spconv runs float32 in eval mode, so that float16 needs the weights themselves halved.
            self.student.half()
        self.config = config
        self.device = torch.device(device)

    @classmethod
    def load(cls, folder, device=None, *, half=False):
        """The student in `folder`, on `device` (by default a GPU where there is one)."""
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        config = read_config(folder)
        student = build(Network.model_validate(config["network"]), len(config["classes"]))
        path = Path(folder) / WEIGHTS
        try:
            student.load_state_dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: unreadable ({error}). Train the student again: snakemake {path}") from None
        except RuntimeError as error:
            raise InputError(f"{path} does not fit {CONFIG} beside it. Train the student again.\n{error}") from None
        return cls(student, config, device=device, half=half)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N,) uint8 training ids of `points` (N, 4) float32: x, y, z in metres (LiDAR frame), remission."""
        if points.ndim != 2 or points.shape[1] != 4 or not np.isfinite(points).all():
            raise InputError(f"a scan is (N, 4) finite numbers (x, y, z, remission); this one is {points.shape}")
        if len(points) == 0:
            return np.zeros(0, dtype=np.uint8)
        pyramid = self.voxelise(points)
        return self.scatter_back(self.forward(pyramid), pyramid)

    @torch.inference_mode()
    def voxelise(self, points) -> Pyramid:
        """First phase: points in memory -> voxels on the device."""
        return self.student.voxelise(torch.from_numpy(np.array(points, dtype=np.float32)).to(self.device))

    @torch.inference_mode()
    def forward(self, pyramid):
        """Second phase: logits (V, K) of the voxels."""
        return self.student(pyramid).logits

    @torch.inference_mode()
    def scatter_back(self, logits, pyramid):
        """Third phase: (N,) uint8 training ids of all points, in memory."""
        logits[:, IGNORE] = -torch.inf
        labels = logits.argmax(dim=1).to(torch.uint8)
        return labels[pyramid[self.student.scales[0]].of_point].cpu().numpy()
