"""ResNet-50: the stages equal torchvision's, with checkpoints of torchvision and of MoCo-v2."""

import hashlib

import pytest
import torch
from torchvision.models import resnet18, resnet50
from torchvision.models.feature_extraction import create_feature_extractor

from elite_pipeline.choices import ENCODERS
from elite_pipeline.errors import InputError
from elite_pipeline.teacher.encoders import StageEncoder
from elite_pipeline.teacher.heads import StageTeacher
from elite_pipeline.teacher.resnet import build_resnet

LAYERS = ["layer1", "layer2", "layer3", "layer4"]
CHANNELS, STRIDES = (256, 512, 1024, 2048), (4, 8, 16, 32)


@pytest.fixture(scope="module")
def state():
    """A state dict in torchvision's format. Its convolutions are views of few random numbers, so the file is small."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in resnet50().state_dict().items()}
    made = {}
    for name, shape in shapes.items():
        if len(shape) < 2:
            made[name] = torch.rand(shape) + 0.5 if shape else torch.tensor(800)
        else:
            made[name] = (torch.randn(1, *shape[1:]) * shape[1:].numel() ** -0.5).expand(shape)
    return made


@pytest.fixture
def checkpoint(state, tmp_path):
    torch.save(state, tmp_path / "resnet50.pth")
    return tmp_path / "resnet50.pth"


def moco(state):
    """A checkpoint in MoCo-v2's format: the trained network with its own head, a second network and a queue."""
    bare = {name: value for name, value in state.items() if not name.startswith("fc.")}
    bare |= {name: torch.zeros(2) for name in ("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias")}
    parts = {f"module.encoder_q.{name}": value for name, value in bare.items()}
    parts |= {f"module.encoder_k.{name}": torch.tensor(0.0).expand(value.shape) for name, value in bare.items()}
    parts["module.queue"] = torch.zeros(128, 8)
    return {"epoch": 800, "arch": "resnet50", "state_dict": parts, "optimizer": {"param_groups": [{"lr": 0.03}]}}


@torch.no_grad()
def test_stages_equal_torchvisions_even_in_training_mode(state, checkpoint):
    theirs = resnet50()
    theirs.load_state_dict(state)
    encoder = StageEncoder(build_resnet("resnet50", checkpoint, hashlib.sha256(checkpoint.read_bytes()).hexdigest()))
    teacher = StageTeacher(encoder, width=4, classes=3).train()  # the mode in which heads are tuned
    images = torch.randn(2, 3, 64, 96)
    expected = create_feature_extractor(theirs.eval(), LAYERS)(images).values()
    stages = teacher.encoder(images)
    sizes = [(channels, 64 // stride, 96 // stride) for channels, stride in zip(CHANNELS, STRIDES, strict=True)]
    assert [tuple(stage.shape[1:]) for stage in stages] == sizes
    assert (encoder.channels, encoder.strides) == (CHANNELS, STRIDES)
    assert all(encoder.patch % stride == 0 for stride in STRIDES)
    for found, wanted in zip(stages, expected, strict=True):
        assert 0.01 < float(wanted.std()) < 1e6
        torch.testing.assert_close(found, wanted)
    for name, statistics in encoder.encoder.named_buffers():
        assert torch.equal(statistics, state[name]), name  # the statistics did not change
    assert teacher.point_logits(images, [torch.rand(5, 2) * 60, torch.rand(2, 2)]).shape == (7, 4, 3)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_the_trained_network_is_read_from_a_moco_checkpoint(state, tmp_path, zipped):
    path = tmp_path / "moco_v2_800ep_pretrain.pth.tar"
    torch.save(moco(state), path, _use_new_zipfile_serialization=zipped)
    for name, value in build_resnet("resnet50", path).state_dict().items():
        assert torch.equal(value, state[name]), name


def test_older_files_without_counters_load(state, tmp_path):
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "old.pth")
    assert torch.equal(
        build_resnet("resnet50", tmp_path / "old.pth").layer4[2].bn3.running_var, state["layer4.2.bn3.running_var"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer3.5.conv2.weight": None}, "missing layer3.5.conv2.weight"),
        ({"layer3.6.conv1.weight": torch.zeros(1)}, "unexpected layer3.6.conv1.weight"),
        ({"conv1.weight": torch.zeros(64, 1, 7, 7)}, r"conv1.weight is \(64, 1, 7, 7\), resnet50 has \(64, 3, 7, 7\)"),
        ({"epoch": 3}, "no state dict"),
    ],
)
def test_a_file_of_another_network_is_refused(state, tmp_path, change, message):
    torch.save({name: value for name, value in (state | change).items() if value is not None}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message):
        build_resnet("resnet50", tmp_path / "other.pth")


def test_a_moco_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save(moco(resnet18().state_dict()), tmp_path / "moco.pth")
    with pytest.raises(InputError, match=r"does not hold the weights of resnet50:\n  missing layer1\.0\.bn3"):
        build_resnet("resnet50", tmp_path / "moco.pth")


def test_the_error_on_a_wrong_or_missing_file_says_where_to_get_it(checkpoint, tmp_path):
    with pytest.raises(InputError, match=f"expects {'1' * 64}"):
        build_resnet("resnet50", checkpoint, "1" * 64)
    with pytest.raises(InputError) as error:
        build_resnet("resnet50", tmp_path / "none.pth")
    chosen = ENCODERS["resnet50"]
    assert all(str(text) in str(error.value) for text in (chosen.url, chosen.sha256, chosen.without_labels))
