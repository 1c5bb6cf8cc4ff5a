"""ResNet-50 as image encoder: torchvision's network with the weights of a file, learnt with labels or without."""

from pathlib import Path

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from elite_pipeline.checkpoints import verified
from elite_pipeline.sam.state import load_state, read_state

MOCO = "module.encoder_q."
"""What the names of the network begin with in a checkpoint of MoCo-v2, beside those of its other parts."""


class ResNet50(ResNet):
    """torchvision's without its classifier, its four stages handed out; for `StageEncoder`."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        self.fc = nn.Identity()
        self.channels = (256, 512, 1024, 2048)
        self.strides = (4, 8, 16, 32)
        self.patch = 32
        self.adapter_paths: dict[str, str] = {}

    def stages(self, images: Tensor) -> list[Tensor]:
        """Prepared `images` (B, 3, h, w) -> S maps (B, channels[s], h / strides[s], w / strides[s])."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        outputs = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            outputs.append(x)
        return outputs


def build_resnet(encoder: str, checkpoint: str | Path, sha256: str | None = None) -> ResNet50:
    """A `ResNet50` in eval mode with the weights of `checkpoint`, whose every key but those of heads is accounted for.

    `encoder`: its name in errors. `checkpoint`: a state dict of torchvision's `resnet50`, or a checkpoint of MoCo-v2,
    of which the network that learns (`encoder_q`) is taken. `sha256`: of the file, checked unless None. Nothing is
    downloaded.

    Raises `InputError` where the checkpoint is missing, of another sha256, or not of this network.
    """
    network, path = ResNet50(), verified(encoder, checkpoint, sha256)
    state = read_state(path)
    state = {key.removeprefix(MOCO): value for key, value in state.items() if key.startswith(MOCO)} or state
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    # Older files lack these counters, and statistics that stay as they are do not need them.
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    load_state(network, counters | state, path, encoder)
    return network.eval()
