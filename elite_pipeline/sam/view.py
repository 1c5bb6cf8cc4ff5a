"""How an image enters an encoder: scaled, padded, normalised, at which precision."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from elite_pipeline.errors import InputError
from elite_pipeline.sam.prompts import Embedding, PromptableSam

PIXEL_MEAN = (123.675, 116.28, 103.53)


PIXEL_STD = (58.395, 57.12, 57.375)
"""ImageNet's, on 0..255: what SAM, torchvision's ResNets and MoCo-v2 were trained with."""


PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Name in the configuration -> what matrices are multiplied in; weights, sums and normalisations stay float32."""


@dataclass(frozen=True)
class View:
    """How an image enters an encoder: scaled to `longest_side` pixels, padded at the bottom and right to whole patches.

    SAM pads to a square; a camera image of 1241 x 376 would then be 70 % padding.
    """

    longest_side: int
    patch: int
    precision: str = "32-true"
    """One of `PRECISIONS`, at which `autocast` has the encoder run."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the scaled image, without padding."""
        scale = self.longest_side / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `prepare` returns."""
        rows, columns = self.size(height, width)
        return -(-rows // self.patch) * self.patch, -(-columns // self.patch) * self.patch

    def pixels(self, pixel: np.ndarray, image_size: tuple[int, ...]) -> np.ndarray:
        """Points of the image in the view.

        `pixel`: (N, 2) float32, (u right, v down), where pixel k of the image covers [k, k + 1).
        `image_size`: (height, width). Returns (N, 2) in the view, where pixels cover the same.
        """
        height, width = image_size
        rows, columns = self.size(height, width)
        return pixel * np.array([columns / width, rows / height], np.float32)

    def prepare(self, image: np.ndarray) -> torch.Tensor:
        """`image` (height, width, 3) uint8 RGB -> (3, *padded) float32, normalised, zero where padded."""
        height, width = image.shape[:2]
        size = self.size(height, width)
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        if size != (height, width):
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        x = normalise(x)[0]
        rows, columns = self.padded(height, width)
        return F.pad(x, (0, columns - size[1], 0, rows - size[0]))

    def autocast(self, device: str | torch.device) -> torch.autocast:
        """Context for running an encoder on `device`. Raises `InputError` where that lacks the precision."""
        kind = torch.device(device).type
        if self.precision not in (possible := _precisions(kind)):
            raise InputError(
                f"precision {self.precision} is not what the {kind} of this machine computes in:"
                f" write precision: {' or '.join(possible)}"
            )
        return torch.autocast(kind, PRECISIONS[self.precision], enabled=self.precision != "32-true")


def _precisions(kind: str) -> list[str]:
    """Those of `PRECISIONS` that a kind of device computes in by itself; others it would only imitate, slowly."""
    if kind == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return list(PRECISIONS) if has_bf16 else ["32-true", "16-mixed"]
    cpu = torch.cpu.get_capabilities() if kind == "cpu" else {}
    has_bf16 = any(cpu.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's
    return ["32-true", "bf16-mixed"] if has_bf16 else ["32-true"]


@torch.no_grad()
def embed(sam: PromptableSam, view: View, image: np.ndarray) -> Embedding:
    """`image` (H, W, 3) uint8 RGB -> float32 `Embedding` by `sam`, at the precision of `view`.

    Raises `InputError` where the device of `sam` lacks that precision, or where the view is too large for its encoder.
    """
    with view.autocast(sam.device):
        found = sam.embed(view.prepare(image).to(sam.device))
    return Embedding(found.image.float(), None if found.regions is None else found.regions.float())


def normalise(images: torch.Tensor) -> torch.Tensor:
    """RGB (B, 3, h, w), 0..255 -> mean 0 and deviation 1 over ImageNet."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / std
