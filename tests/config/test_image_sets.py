"""Image sets name a format. A format that cannot label all classes says itself which are unknown."""

import pytest
from small_nuimages import UNKNOWN, write_nuscenes_table

from elite_pipeline.config import ImageSet
from elite_pipeline.config.validation import validate
from elite_pipeline.errors import InputError


@pytest.fixture
def table(tmp_path):
    return str(write_nuscenes_table(tmp_path / "nuscenes.yaml"))


def image_set(**values):
    return validate(ImageSet, values, "config.yaml")


def test_a_folder_is_the_default_and_can_label_all_classes():
    assert image_set().format == "folder"
    assert image_set().unknown == []
    assert image_set(unknown=["bicycle"]).unknown == ["bicycle"]


def test_nuimages_says_which_classes_it_cannot_label(table):
    assert image_set(format="nuimages", classes=table).unknown == UNKNOWN


def test_further_unknown_classes_are_kept_and_the_dump_is_read_again(table):
    known = image_set(format="nuimages", classes=table, unknown=["bicycle", "terrain"])
    assert known.unknown == [*UNKNOWN, "bicycle"]
    assert image_set(**known.model_dump()) == known


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "coco"}, "config.yaml: format: unknown format 'coco'; choose one of folder, nuimages"),
        ({"format": "nuimages"}, r"the class table semantickitti lacks the raw ids \[2, .*classes: nuscenes"),
        ({"unknown": ["submarine"]}, "lists .*submarine.*, which are no classes"),
    ],
)
def test_wrong_image_sets_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        image_set(**values)
