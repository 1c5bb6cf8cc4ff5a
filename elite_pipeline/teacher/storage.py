"""Build a teacher from settings, save its adapter and heads to a folder, and load it with the adapter merged."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from elite_pipeline.config import EncoderSettings, TeacherToTune
from elite_pipeline.datasets.classes import ClassTable
from elite_pipeline.errors import InputError
from elite_pipeline.sam.view import View
from elite_pipeline.teacher import adapters
from elite_pipeline.teacher.encoders import StageEncoder, build_encoder
from elite_pipeline.teacher.frozen import FrozenEncoder
from elite_pipeline.teacher.heads import EncoderStages, StageTeacher
from elite_pipeline.teacher.image_network import SegmentationTeacher

KINDS = {"stages": StageTeacher, "segmentation": SegmentationTeacher, "frozen": FrozenEncoder}
"""Kind of network in `teacher.json` -> its class."""


def build_teacher(
    settings: TeacherToTune, classes: ClassTable, kind: str = "stages"
) -> tuple[EncoderStages | SegmentationTeacher, View]:
    """Build an untuned teacher of one of `KINDS`, and return it with its view.

    Raises `InputError` where the encoder's checkpoint is missing, has another sha256, or belongs to another encoder.
    """
    torch.manual_seed(settings.tune_teacher.seed)
    encoder = build_encoder(settings)
    view = View(settings.longest_side, encoder.patch, settings.precision)
    encoder = adapters.attach(encoder, settings.peft, settings.tune_teacher.steps)
    return _teacher(kind, encoder, settings.upscaler or 0, len(classes)), view


def save(teacher: EncoderStages | SegmentationTeacher, folder: Path, description: Mapping[str, Any]) -> None:
    """Write the adapter, the heads and `description` (JSON values) of a tuned teacher to the new folder `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    encoder: Any = teacher.encoder
    if hasattr(encoder, "save_pretrained"):
        with warnings.catch_warnings():
            # AdaLoRA can prune all ranks of a module. peft warns about that as if the adapter were broken.
            warnings.filterwarnings("ignore", message=".*invalid shape")
            encoder.save_pretrained(folder)
    heads = {name: value.contiguous().cpu() for name, value in teacher.heads.state_dict().items()}
    save_file(heads, folder / "heads.safetensors")
    (folder / "teacher.json").write_text(json.dumps(description, indent=2) + "\n")


def fingerprint(*values: Any) -> str:
    """Return 16 hex digits that identify JSON values.

    They name the checkpoint folder of a run. A run with the same settings and inputs resumes from it.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def load(
    folder: Path, settings: EncoderSettings, classes: ClassTable
) -> tuple[EncoderStages | SegmentationTeacher, View]:
    """Load the teacher that `save` wrote to `folder`, with its adapter merged, and return it with its view.

    classes: the class table of the drives.

    Raises `InputError` where the folder holds no teacher, where the teacher has other settings or another class table
    (a frozen encoder has no class table), and where `build_encoder` does.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / "teacher.json").read_text())
        heads = load_file(folder / "heads.safetensors")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no tuned teacher ({error}). Delete it and run snakemake again.") from None
    tuned = description["settings"]
    for key in ("encoder", "sha256", "longest_side"):
        if tuned[key] != getattr(settings, key):
            wanted = getattr(settings, key)
            raise InputError(f"{folder} was tuned with {key}={tuned[key]!r}, not {wanted!r}. Run tune_teacher again.")
    if description["classes"] is not None:
        table = ClassTable.from_json(description["classes"], folder / "teacher.json")
        table.check_same(classes, folder, "the drives")
    encoder = build_encoder(settings)
    adapters.merge(encoder, folder)
    teacher = _teacher(description["kind"], encoder, tuned["upscaler"], len(classes))
    teacher.heads.load_state_dict(heads)
    return teacher.eval().requires_grad_(False), View(settings.longest_side, encoder.patch, settings.precision)


def _teacher(kind: str, encoder: StageEncoder, width: int, classes: int) -> EncoderStages | SegmentationTeacher:
    return FrozenEncoder(encoder) if kind == "frozen" else KINDS[kind](encoder, width=width, classes=classes)
