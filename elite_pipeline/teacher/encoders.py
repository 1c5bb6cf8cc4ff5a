"""Image encoders that can serve as teachers: the interface they implement, and how to build one by name."""

from typing import Protocol

from torch import Tensor, nn

from elite_pipeline.choices import ENCODERS, load
from elite_pipeline.config import EncoderSettings


class ImageEncoder(Protocol):
    """Image network (`nn.Module`) whose feature maps teach a student; `choices.ENCODERS` lists them."""

    channels: tuple[int, ...]
    """Number of channels of each stage's map."""
    strides: tuple[int, ...]
    """Pixels per cell of each stage's map. It need not be a power of two (14, for example)."""
    patch: int
    """Side of an image patch in pixels. Image sides are multiples of it; patch features are cached at this stride."""
    adapter_paths: dict[str, str]
    """Name in `peft.targets` -> regular expression for module paths inside the encoder.

    Empty if the encoder does not support adapters.
    """

    def stages(self, images: Tensor) -> list[Tensor]:
        """Prepared `images` (B, 3, h, w) -> S feature maps (B, channels[s], h / strides[s], w / strides[s]).

        Raises `InputError` where the images are too large for the encoder.
        """
        ...


class StageEncoder(nn.Module):
    """An image encoder as a module that returns its S feature maps; adapters are attached to this module.

    Batch normalisation stays in eval mode, because an adapter stores only its own weights and no statistics.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.channels = encoder.channels
        self.strides = encoder.strides
        self.patch = encoder.patch

    def forward(self, images: Tensor) -> list[Tensor]:
        """Prepared `images` (B, 3, h, w) -> S feature maps (B, channels[s], h / strides[s], w / strides[s]).

        Raises `InputError` where the images are too large for the encoder.
        """
        return self.encoder.stages(images)

    def train(self, mode: bool = True) -> "StageEncoder":
        """Set the mode of all modules, except that batch normalisation stays in eval mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def build_encoder(settings: EncoderSettings) -> StageEncoder:
    """Build the encoder named in `settings` and load the weights of its checkpoint.

    Raises `InputError` where the checkpoint is missing, has another sha256, or belongs to another encoder.
    """
    build = load(ENCODERS[settings.encoder].build)
    return StageEncoder(build(settings.encoder, settings.checkpoint, settings.sha256))
