"""Image encoders that a student can be taught from: what one has to be, and how it is built by its name."""

from typing import Protocol

from torch import Tensor, nn

from elite_pipeline.choices import ENCODERS, load
from elite_pipeline.config import EncoderSettings


class ImageEncoder(Protocol):
    """A network (`nn.Module`) whose feature maps a student learns from; `choices.ENCODERS` lists them."""

    channels: tuple[int, ...]
    """Of each stage's map."""
    strides: tuple[int, ...]
    """Pixels per cell of each stage's map; any number, also one such as 14."""
    patch: int
    """Pixels: sides of images are multiples of it; patch features are cached at this stride."""
    adapter_paths: dict[str, str]
    """Name in `peft.targets` -> regular expression of the module below the encoder; empty if adapters do not fit."""

    def stages(self, images: Tensor) -> list[Tensor]:
        """Prepared `images` (B, 3, h, w) -> S maps (B, channels[s], h / strides[s], w / strides[s]).

        Raises `InputError` where the images are too large for the encoder.
        """
        ...


class StageEncoder(nn.Module):
    """The S feature maps of an image encoder that a student is taught from; adapters go onto this module.

    Batch normalisation keeps its statistics in every mode: an adapter stores only its own weights.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.channels = encoder.channels
        self.strides = encoder.strides
        self.patch = encoder.patch

    def forward(self, images: Tensor) -> list[Tensor]:
        """Prepared `images` (B, 3, h, w) -> S maps (B, channels[s], h / strides[s], w / strides[s]).

        Raises `InputError` where the images are too large for the encoder.
        """
        return self.encoder.stages(images)

    def train(self, mode: bool = True) -> "StageEncoder":
        """Set the mode of all modules but batch normalisation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def build_encoder(settings: EncoderSettings) -> StageEncoder:
    """The encoder that `settings` name, with the weights of its checkpoint.

    Raises `InputError` where the checkpoint is missing, of another sha256, or not of this encoder.
    """
    build = load(ENCODERS[settings.encoder].build)
    return StageEncoder(build(settings.encoder, settings.checkpoint, settings.sha256))
