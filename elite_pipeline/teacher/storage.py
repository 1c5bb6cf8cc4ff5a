"""A teacher as a folder: built from settings, saved with its adapter and heads, loaded with the adapter merged."""

import hashlib
import json
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from elite_pipeline.datasets.semantickitti import CLASSES
from elite_pipeline.errors import InputError
from elite_pipeline.sam.view import View
from elite_pipeline.teacher import adapters
from elite_pipeline.teacher.encoders import build_encoder
from elite_pipeline.teacher.frozen import FrozenEncoder
from elite_pipeline.teacher.heads import StageTeacher
from elite_pipeline.teacher.image_network import SegmentationTeacher

KINDS = {"stages": StageTeacher, "segmentation": SegmentationTeacher, "frozen": FrozenEncoder}
"""What `teacher.json` calls a network -> its class."""


def build_teacher(settings, kind="stages"):
    """An untuned teacher of one of `KINDS` and its view. settings: a `config.TeacherToTune`."""
    torch.manual_seed(settings.tune_teacher.seed)
    encoder = build_encoder(settings)
    view = View(settings.longest_side, encoder.patch, settings.precision)
    encoder = adapters.attach(encoder, settings.peft, settings.tune_teacher.steps)
    return _teacher(kind, encoder, settings.upscaler, len(CLASSES)), view


def save(teacher, folder, description):
    """Keep adapter, heads and `description` (JSON values) of a tuned teacher in the new `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    if hasattr(teacher.encoder, "save_pretrained"):
        with warnings.catch_warnings():
            # AdaLoRA may leave a module no rank at all, which peft takes for a broken adapter.
            warnings.filterwarnings("ignore", message=".*invalid shape")
            teacher.encoder.save_pretrained(folder)
    heads = {name: value.contiguous().cpu() for name, value in teacher.heads.state_dict().items()}
    save_file(heads, folder / "heads.safetensors")
    (folder / "teacher.json").write_text(json.dumps(description, indent=2) + "\n")


def fingerprint(*values):
    """16 hex digits of JSON values: the name of the folder in which a run with these settings and inputs resumes."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def load(folder, settings):
    """(teacher, view) of a folder that `save` wrote, its adapter merged. settings: a `config.EncoderSettings`."""
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
    encoder = build_encoder(settings)
    adapters.merge(encoder, folder)
    kind = description.get("kind", "stages")
    teacher = _teacher(kind, encoder, tuned["upscaler"], len(description["classes"]))
    teacher.heads.load_state_dict(heads)
    return teacher.eval().requires_grad_(False), View(settings.longest_side, encoder.patch, settings.precision)


def _teacher(kind, encoder, width, classes):
    return FrozenEncoder(encoder) if kind == "frozen" else KINDS[kind](encoder, width=width, classes=classes)
