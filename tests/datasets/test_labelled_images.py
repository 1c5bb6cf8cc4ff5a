import re

import numpy as np
import pytest
from PIL import Image

from elite_pipeline.datasets.labelled_images import open_images
from elite_pipeline.errors import InputError


@pytest.fixture
def write(tmp_path):
    """A function (name, label or None) that writes an image of 12 x 8 pixels, and its label."""

    def write(name, label=None, suffix=".png"):
        for kind in ("images", "labels"):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(len(name)).integers(0, 255, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "set/images" / f"{name}{suffix}")
        if label is not None:
            Image.fromarray(label).save(tmp_path / "set/labels" / f"{name}.png")
        return image

    return write


def test_images_and_labels_are_paired_by_name(write, tmp_path, classes):
    street, label = write("b_street", np.full((8, 12), 9, np.uint8)), np.zeros((8, 12), np.uint8)
    label[2:4, 3] = 19
    write("a_square", label, ".jpg")
    (tmp_path / "set/images/Thumbs.db").write_bytes(b"nothing")
    folder = open_images(tmp_path / "set", classes)
    assert [file.name for file in folder.files] == ["a_square.jpg", "b_street.png"]
    assert np.array_equal(folder.image(1), street)
    assert np.array_equal(folder.labels(0), label)
    assert folder.class_pixels.shape == (2, 20)
    assert folder.class_pixels[0, [0, 19]].tolist() == [94, 2]
    assert folder.class_pixels[1, 9] == 96


def test_the_checksum_changes_with_one_label(write, tmp_path, classes):
    label = np.full((8, 12), 9, np.uint8)
    write("street", label)
    before = open_images(tmp_path / "set", classes).crc32
    assert open_images(tmp_path / "set", classes).crc32 == before
    label[7, 11] = 10
    write("street", label)
    assert open_images(tmp_path / "set", classes).crc32 != before


def test_all_faults_come_in_one_report(write, tmp_path, classes):
    good = np.ones((8, 12), np.uint8)
    write("alone")
    write("broken", good)
    write("coloured", np.zeros((8, 12, 3), np.uint8))
    write("foreign", good + 200)
    write("small", good[:4])
    write("truncated", good)
    write("well", good)
    (tmp_path / "set/images/truncated.png").write_bytes((tmp_path / "set/images/truncated.png").read_bytes()[:150])
    (tmp_path / "set/labels/broken.png").write_bytes(b"no image")
    Image.fromarray(good).save(tmp_path / "set/labels/orphan.png")
    with pytest.raises(InputError) as error:
        open_images(tmp_path / "set", classes)
    first, *faults = str(error.value).splitlines()
    assert first.endswith("has 7 faults:")
    expected = [
        r"images/alone.png: has no .*labels/alone.png",
        r"images/small.png and its label have different sizes, 12 x 8 and 12 x 4 pixels",
        r"images/truncated.png: unreadable",
        r"labels/broken.png: unreadable",
        r"labels/coloured.png: has mode RGB",
        r"labels/foreign.png: ids \[201\] are not training ids \(0 to 19\)",
        r"labels/orphan.png: has no image of the same name",
    ]
    assert all(re.search(*pair) for pair in zip(expected, faults, strict=True)), faults


def test_of_many_faults_only_the_first_are_listed(write, tmp_path, classes):
    for k in range(25):
        write(f"{k:06d}")
    with pytest.raises(InputError, match="has 25 faults") as error:
        open_images(tmp_path / "set", classes)
    assert len(str(error.value).splitlines()) == 22
    assert str(error.value).endswith("and 5 more")


def test_an_empty_or_missing_folder_is_refused(tmp_path, classes):
    with pytest.raises(InputError, match="has no images"):
        open_images(tmp_path, classes)
    with pytest.raises(InputError, match="has no images"):
        open_images(tmp_path / "missing", classes)


def test_the_last_images_are_held_out(write, tmp_path, classes):
    for k in range(5):
        write(f"{k:06d}", np.ones((8, 12), np.uint8))
    folder = open_images(tmp_path / "set", classes)
    assert [list(part) for part in folder.split(0.4)] == [[0, 1, 2], [3, 4]]
    assert [list(part) for part in folder.split(0.01)] == [[0, 1, 2, 3], [4]]
    with pytest.raises(InputError, match="5 images, and 5 of them are held out"):
        folder.split(0.95)
