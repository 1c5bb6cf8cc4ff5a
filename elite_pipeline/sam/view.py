"""Prepare an image for an encoder: scale, pad and normalise it, and choose the precision."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from elite_pipeline.errors import InputError
from elite_pipeline.sam.prompts import Embedding, PromptableSam

PIXEL_MEAN = (123.675, 116.28, 103.53)


PIXEL_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of ImageNet, on 0..255. SAM, torchvision's ResNets and MoCo-v2 were trained with them."""


PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Name in the configuration -> type of matrix multiplications; None for float32.

Weights, sums and normalisations stay float32."""


@dataclass(frozen=True)
class View:
    """Preparation of images for an encoder.

    An image is scaled so that its longest side has `longest_side` pixels. It is padded at the bottom and right to whole
    patches. SAM pads to a square instead; of a camera image of 1241 x 376, 70 % would then be padding.
    """

    longest_side: int
    patch: int
    precision: str = "32-true"
    """One of `PRECISIONS`; `autocast` runs the encoder at it."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return (rows, columns) of the scaled image, without padding."""
        scale = self.longest_side / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Return (rows, columns) of the prepared image, with padding."""
        rows, columns = self.size(height, width)
        return -(-rows // self.patch) * self.patch, -(-columns // self.patch) * self.patch

    def pixels(self, pixel: np.ndarray, image_size: tuple[int, ...]) -> np.ndarray:
        """Convert positions in the image to positions in the view.

        `pixel`: (N, 2) float32, (u right, v down), in pixels of the image; pixel k covers [k, k + 1).
        `image_size`: (height, width). Returns (N, 2) in pixels of the view, with the same convention.
        """
        height, width = image_size
        rows, columns = self.size(height, width)
        return pixel * np.array([columns / width, rows / height], np.float32)

    def prepare(self, image: np.ndarray) -> torch.Tensor:
        """`image` (height, width, 3) uint8 RGB -> (3, *padded) float32, normalised; the padding is zero."""
        height, width = image.shape[:2]
        size = self.size(height, width)
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        if size != (height, width):
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        x = normalise(x)[0]
        rows, columns = self.padded(height, width)
        return F.pad(x, (0, columns - size[1], 0, rows - size[0]))

    def autocast(self, device: str | torch.device) -> torch.autocast:
        """Return the autocast context for running an encoder on `device`.

        Raises `InputError` where the device lacks the precision.
        """
        kind = torch.device(device).type
        if self.precision not in (possible := _precisions(kind)):
            raise InputError(
                f"precision {self.precision} is not supported by the {kind} of this machine."
                f" Write precision: {' or '.join(possible)}"
            )
        return torch.autocast(kind, PRECISIONS[self.precision], enabled=self.precision != "32-true")


def _precisions(kind: str) -> list[str]:
    """Return the names in `PRECISIONS` that a kind of device supports in hardware.

    The device would only emulate the others, and slowly.
    """
    if kind == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return list(PRECISIONS) if has_bf16 else ["32-true", "16-mixed"]
    cpu = torch.cpu.get_capabilities() if kind == "cpu" else {}
    has_bf16 = any(cpu.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last one is the name on ARM
    return ["32-true", "bf16-mixed"] if has_bf16 else ["32-true"]


@torch.no_grad()
def embed(sam: PromptableSam, view: View, image: np.ndarray) -> Embedding:
    """Return `sam`'s `Embedding` of `image` (H, W, 3) uint8 RGB as float32, computed at the precision of `view`.

    Raises `InputError` where the device of `sam` lacks the precision, or where the view is too large for the encoder.
    """
    with view.autocast(sam.device):
        found = sam.embed(view.prepare(image).to(sam.device))
    return Embedding(found.image.float(), None if found.regions is None else found.regions.float())


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Normalise RGB `images` (B, 3, h, w), 0..255, to mean 0 and standard deviation 1 over ImageNet."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / std
