import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_nuimages import UNKNOWN, write_nuimages, write_nuscenes_table

from elite_pipeline.config import EncoderSettings
from elite_pipeline.errors import InputError
from elite_pipeline.stages import tune_image_teacher
from elite_pipeline.teacher import storage
from elite_pipeline.teacher.image_network import Pictures, SegmentationTeacher

SETTINGS = [
    'classes="semantickitti"',
    "held_out=0.3",
    "longest_side=64",
    "upscaler=16",
    'peft={"method": "none"}',
    'tune_teacher={"steps": 12, "batch": 2, "learning_rate": 0.02, "weight_decay": 0.01, "warmup": 2, "lovasz": 1.0,'
    '"seed": 0}',
]


@pytest.fixture
def images(tmp_path):
    """Write six images of 64 x 32: a red square of class 1 on blue ground of class 9; persons only in held-out ones."""
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    for k in range(6):
        image, label = np.full((32, 64, 3), (20, 30, 200), np.uint8), np.full((32, 64), 9, np.uint8)
        image[8:24, 4 * k : 4 * k + 32], label[8:24, 4 * k : 4 * k + 32] = (200, 30, 20), 1
        label[:2] = 6 if k >= 4 else 0
        Image.fromarray(image).save(tmp_path / f"set/images/{k:06d}.png")
        Image.fromarray(label).save(tmp_path / f"set/labels/{k:06d}.png")
    return tmp_path / "set"


def tune(images, out, *settings):
    tune_image_teacher.main(["--images", str(images), "--out", str(out), 'encoder="sam_tiny"', *SETTINGS, *settings])


def test_folder_of_a_tuned_network(images, tmp_path, capsys, classes):
    out = tmp_path / "image_teachers/network"
    tune(images, out)
    printed = capsys.readouterr().out
    assert "4 images; trainable parameters: 0 in adapters" in printed
    assert "at labelled pixels of 2 held-out images: coverage 1.000" in printed
    assert {path.name for path in out.iterdir()} == {"README.md", "heads.safetensors", "teacher.json"}
    assert [path.name for path in out.parent.iterdir()] == ["network"]
    described = json.loads((out / "teacher.json").read_text())
    assert described["kind"] == "segmentation"
    assert described["known_classes"] == ["car", "road"]
    assert described["classes"] == classes.to_json()
    assert described["images"] == 4
    held_out = described["held_out"]
    assert held_out["images"] == 2
    assert held_out["iou"].keys() == {"car", "person", "road"}
    assert held_out["iou"]["person"] == 0, "it was not trained on persons"
    assert min(held_out["iou"]["car"], held_out["iou"]["road"]) > 0.4
    card = (out / "README.md").read_text()
    assert "the last 2 are held out, and the 4 before them were used for training" in card
    assert "| road |" in card
    assert "\n\n\n" not in card

    teacher, view = storage.load(out, EncoderSettings(encoder="sam_tiny", longest_side=64), classes)
    assert isinstance(teacher, SegmentationTeacher)
    assert teacher.known_classes(classes) == ["car", "road"]
    image = np.array(Image.open(images / "images/000005.png"))
    with torch.no_grad():
        (logits,) = teacher(view.prepare(image)[None])
    assert set(logits.argmax(1).unique().tolist()) == {1, 9}


def test_nuimages_leaves_the_classes_unknown_that_it_cannot_label(tmp_path, capsys):
    """The held-out images are those of v1.0-val, and the folder of the teacher says so."""
    folder = write_nuimages(tmp_path / "nuimages", distortion=(-0.2, 0.05, 0.0, 0.0, 0.0))
    table = write_nuscenes_table(tmp_path / "nuscenes.yaml")
    tune(folder, tmp_path / "network", f'classes="{table}"', 'format="nuimages"')
    assert "the distortion of the lens is undone in 6 of 6 images" in capsys.readouterr().out
    described = json.loads((tmp_path / "network/teacher.json").read_text())
    assert described["known_classes"] == ["car", "driveable_surface"]
    assert (described["images"], described["held_out"]["images"]) == (3, 3)
    assert described["held_out"]["iou"].keys() == {"car", "driveable_surface"}
    card = " ".join((tmp_path / "network/README.md").read_text().split())
    assert "The images are those of v1.0-train, then those of v1.0-val, sorted by name: the last 3 are held out" in card
    assert all(name in card.split("never predicts:")[1] for name in UNKNOWN)


def test_a_killed_and_resumed_run_ends_with_the_same_weights(images, tmp_path, monkeypatch):
    tune(images, tmp_path / "whole")
    batch, asked = Pictures.batch, []

    def killed(self, view, step, *rest):
        if step == 11:
            raise KeyboardInterrupt
        return batch(self, view, step, *rest)

    def watched(self, view, step, *rest):
        asked.append(step)
        return batch(self, view, step, *rest)

    monkeypatch.setattr(Pictures, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(images, tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    monkeypatch.setattr(Pictures, "batch", watched)
    tune(images, tmp_path / "killed")
    assert sorted(asked) == [10, 11]
    for name in ("heads.safetensors", "README.md"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_faults_of_images_are_refused_before_tuning(images, tmp_path):
    (images / "labels/000002.png").unlink()
    (images / "images/000003.png").write_bytes((images / "images/000003.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"2 faults(.|\n)*000002\.png: has no(.|\n)*000003\.png: unreadable"):
        tune(images, tmp_path / "network")


def test_nothing_to_learn_from_is_refused(images, tmp_path):
    for k in range(4):
        Image.fromarray(np.zeros((32, 64), np.uint8)).save(images / f"labels/{k:06d}.png")
    with pytest.raises(InputError, match="no labels outside the last 2 images"):
        tune(images, tmp_path / "network")
    assert not (tmp_path / "network").exists()


def test_a_network_that_is_not_tuned_is_refused(images, tmp_path):
    with pytest.raises(InputError, match=r"tune_teacher\.steps is 0"):
        tune(images, tmp_path / "network", SETTINGS[-1].replace('"steps": 12', '"steps": 0'))
