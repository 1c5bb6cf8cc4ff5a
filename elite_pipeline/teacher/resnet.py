"""ResNet-50 as an image encoder: torchvision's network, with supervised or self-supervised weights from a file."""

from pathlib import Path

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from elite_pipeline.checkpoints import verified
from elite_pipeline.sam.state import load_state, read_state

MOCO = "module.encoder_q."
"""Prefix of the trained network's keys in a MoCo-v2 checkpoint. The checkpoint also holds other parts."""


class ResNet50(ResNet):
    """torchvision's ResNet-50 without its classifier; returns the maps of its four stages to a `StageEncoder`."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        self.fc = nn.Identity()
        self.channels = (256, 512, 1024, 2048)
        self.strides = (4, 8, 16, 32)
        self.patch = 32
        self.adapter_paths: dict[str, str] = {}

    def stages(self, images: Tensor) -> list[Tensor]:
        """Prepared `images` (B, 3, h, w) -> S feature maps (B, channels[s], h / strides[s], w / strides[s])."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        outputs = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            outputs.append(x)
        return outputs


def build_resnet(encoder: str, checkpoint: str | Path, sha256: str | None = None) -> ResNet50:
    """Build a `ResNet50` in eval mode with the weights of `checkpoint`. Nothing is downloaded.

    Every key of the checkpoint must match the network, except the keys of classifier or projection heads.

    `encoder`: the name that error messages show. `checkpoint`: a state dict of torchvision's `resnet50`, or a MoCo-v2
    checkpoint, of which the trained network (`encoder_q`) is used. `sha256`: of the file, checked unless None.

    Raises `InputError` where the checkpoint is missing, has another sha256, or belongs to another network.
    """
    network, path = ResNet50(), verified(encoder, checkpoint, sha256)
    state = read_state(path)
    state = {key.removeprefix(MOCO): value for key, value in state.items() if key.startswith(MOCO)} or state
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    # Older files lack these counters. They are not needed, because the statistics do not change.
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    load_state(network, counters | state, path, encoder)
    return network.eval()
