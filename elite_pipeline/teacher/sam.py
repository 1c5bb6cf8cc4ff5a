"""SAM built from `segment_anything`'s modules, its checkpoints verified, and how images enter it."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import nn
from torch.nn import functional as F

from elite_pipeline.checkpoints import verified
from elite_pipeline.errors import InputError
from elite_pipeline.teacher.prompts import Embedding, PromptableSam
from elite_pipeline.teacher.tiny import TinySam
from elite_pipeline.teacher.vit import ImageEncoder

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""ImageNet's, on 0..255: what SAM, torchvision's ResNets and MoCo-v2 were trained with."""

PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Name in the configuration -> what matrices are multiplied in; weights, sums and normalisations stay float32."""

PACKAGED = Path(__file__).parent / "weights/sam_tiny.safetensors"


@dataclass(frozen=True)
class Architecture:
    """What tells one published SAM from another."""

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    image_size: int = 1024
    patch: int = 16
    window: int = 14
    prompt: int = 256


ARCHITECTURES = {
    "vit_b": Architecture(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": Architecture(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": Architecture(1280, 32, 16, (7, 15, 23, 31)),
}


def build_sam(encoder, checkpoint=None, sha256=None):
    """SAM in eval mode with the weights of `checkpoint`, whose every key is accounted for.

    `encoder`: `vit_b`, `vit_l` or `vit_h` with the file that Meta published, or `sam_tiny`, whose weights ship with the
    package (`checkpoint` None). `sha256`: of the file, checked unless None.
    """
    sam = untrained_sam(encoder)
    path = verified(encoder, PACKAGED if encoder == "sam_tiny" and checkpoint is None else checkpoint, sha256)
    load_state(sam, read_state(path), path, encoder)
    return sam.eval()


def untrained_sam(encoder):
    """SAM of an architecture with random weights: what `build_sam` fills, and a control to measure against."""
    if encoder == "sam_tiny":
        return TinySam()
    a = ARCHITECTURES[encoder]
    side = a.image_size // a.patch
    return PromptableSam(
        image_encoder=ImageEncoder(
            dim=a.dim,
            depth=a.depth,
            heads=a.heads,
            stage_blocks=a.global_blocks,
            image_size=a.image_size,
            patch=a.patch,
            window=a.window,
            neck=a.prompt,
            relative_positions=True,
        ),
        prompt_encoder=PromptEncoder(a.prompt, (side, side), (a.image_size, a.image_size), mask_in_chans=16),
        mask_decoder=MaskDecoder(
            transformer_dim=a.prompt,
            transformer=TwoWayTransformer(depth=2, embedding_dim=a.prompt, num_heads=8, mlp_dim=8 * a.prompt),
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )


def read_state(path):
    """The state dict of a `.safetensors` or `.pth` file, also where the latter holds it under "state_dict", as training
    code does; a `.pth` that would run code is refused."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} holds no plain weights, and nothing else is loaded from it ({reason})") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds no state dict (names -> tensors)")
    return state


def load_state(module, state, path, encoder):
    """Fill `module` with `state`, read from `path`; an `InputError` that names every fault if it is of no `encoder`."""
    expected = module.state_dict()
    faults = [f"missing {key}" for key in sorted(expected.keys() - state.keys())]
    faults += [f"unexpected {key}" for key in sorted(state.keys() - expected.keys())]
    faults += [
        f"{key} is {tuple(state[key].shape)}, {encoder} has {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & state.keys())
        if state[key].shape != expected[key].shape
    ]
    if faults:
        shown = "\n  ".join([*faults[:10], *([f"and {len(faults) - 10} more"] if len(faults) > 10 else [])])
        raise InputError(f"{path} does not hold the weights of {encoder}:\n  {shown}")
    module.load_state_dict(state)


def save_sam(sam, path, metadata):
    """Write `sam`'s weights in float16, with `metadata` (str -> str) in the file's header."""
    weights = sam.state_dict().items()
    state = {key: value.half().contiguous() if value.is_floating_point() else value for key, value in weights}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(safetensors.torch.save(state, metadata))
    os.replace(partial, path)


@dataclass(frozen=True)
class View:
    """How an image enters an encoder: scaled to `longest_side` pixels, padded at the bottom and right to whole patches.

    SAM pads to a square; a camera image of 1241 x 376 would then be 70 % padding.
    """

    longest_side: int
    patch: int
    precision: str = "32-true"
    """One of `PRECISIONS`, at which `autocast` has the encoder run."""

    def size(self, height, width):
        """(rows, columns) of the scaled image, without padding."""
        scale = self.longest_side / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def padded(self, height, width):
        """(rows, columns) of what `prepare` returns."""
        rows, columns = self.size(height, width)
        return -(-rows // self.patch) * self.patch, -(-columns // self.patch) * self.patch

    def pixels(self, pixel, image_size):
        """Points of the image in the view.

        `pixel`: (N, 2) float32, (u right, v down), where pixel k of the image covers [k, k + 1).
        `image_size`: (height, width). Returns (N, 2) in the view, where pixels cover the same.
        """
        height, width = image_size
        rows, columns = self.size(height, width)
        return pixel * np.array([columns / width, rows / height], np.float32)

    def prepare(self, image):
        """`image` (height, width, 3) uint8 RGB -> (3, *padded) float32, normalised, zero where padded."""
        height, width = image.shape[:2]
        size = self.size(height, width)
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        if size != (height, width):
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        x = normalise(x)[0]
        rows, columns = self.padded(height, width)
        return F.pad(x, (0, columns - size[1], 0, rows - size[0]))

    def autocast(self, device):
        """Context for running an encoder on `device` (`cpu`, `cuda`); refused where that lacks the precision."""
        kind = torch.device(device).type
        if self.precision not in (possible := _precisions(kind)):
            raise InputError(
                f"precision {self.precision} is not what the {kind} of this machine computes in:"
                f" write precision: {' or '.join(possible)}"
            )
        return torch.autocast(kind, PRECISIONS[self.precision], enabled=self.precision != "32-true")


def _precisions(kind):
    """Those of `PRECISIONS` that a kind of device computes in by itself; others it would only imitate, slowly."""
    if kind == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return list(PRECISIONS) if has_bf16 else ["32-true", "16-mixed"]
    cpu = torch.cpu.get_capabilities() if kind == "cpu" else {}
    has_bf16 = any(cpu.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's
    return ["32-true", "bf16-mixed"] if has_bf16 else ["32-true"]


@torch.no_grad()
def embed(sam, view, image):
    """`image` (H, W, 3) uint8 RGB -> float32 `Embedding` by `sam`, a `PromptableSam`, at the precision of `view`."""
    with view.autocast(sam.device):
        found = sam.embed(view.prepare(image).to(sam.device))
    return Embedding(found.image.float(), None if found.regions is None else found.regions.float())


def normalise(images):
    """RGB (B, 3, h, w), 0..255 -> mean 0 and deviation 1 over ImageNet."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / std


class StageEncoder(nn.Module):
    """The S feature maps of an image encoder that a student is taught from; adapters go onto this module.

    Batch normalisation keeps its statistics in every mode: an adapter stores only its own weights.
    """

    def __init__(self, encoder):
        """`encoder`: the `image_encoder` of `build_sam`, or what `resnet.build_resnet` returns."""
        super().__init__()
        self.encoder = encoder
        self.channels: tuple[int, ...] = encoder.channels
        self.strides: tuple[int, ...] = encoder.strides
        self.patch: int = encoder.patch

    def forward(self, images):
        """Prepared `images` (B, 3, h, w) -> S maps (B, channels[s], h / strides[s], w / strides[s])."""
        return self.encoder.stages(images)

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
