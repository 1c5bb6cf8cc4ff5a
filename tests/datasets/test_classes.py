"""Class tables: the packaged table equals semantic-kitti-api's, errors name file and key, and tables are compared."""

import json
import re

import numpy as np
import pytest
import yaml

from elite_pipeline.datasets.classes import IGNORE, UNKNOWN, ClassTable, class_table, packaged, table_path
from elite_pipeline.errors import InputError


def test_the_packaged_table_equals_semantic_kitti_apis(classes):
    assert packaged() == ["nuscenes", "semantickitti"]
    assert (len(classes), classes.name, IGNORE) == (20, "semantickitti", 0)
    assert len(classes.training_ids) == 34  # as many as the official learning_map
    assert classes.names[:3] == ("unlabeled", "car", "bicycle")
    assert (classes.names[9], classes.names[18], classes.names[19]) == ("road", "pole", "traffic-sign")
    assert classes.evaluated == list(classes.names[1:])
    assert classes.raw_ids == (0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
    moving = {252: "car", 253: "bicyclist", 254: "person", 255: "motorcyclist", 258: "truck"}
    moving |= dict.fromkeys((256, 257, 259), "other-vehicle")
    assert {raw: classes.names[classes.training_ids[raw]] for raw in moving} == moving
    assert [classes.names[classes.training_ids[raw]] for raw in (60, 13, 16)] == ["road", *["other-vehicle"] * 2]
    assert all(classes.training_ids[raw] == IGNORE for raw in (0, 1, 52, 99))


def test_colours_are_rgb_where_the_file_has_bgr(classes):
    assert classes.palette.shape == (20, 3)
    assert classes.palette.dtype == np.uint8
    colour = dict(zip(classes.names, map(tuple, classes.palette.tolist()), strict=True))
    assert colour["unlabeled"] == (0, 0, 0)
    assert colour["car"] == (100, 150, 245)
    assert colour["road"] == (255, 0, 255)
    assert colour["sidewalk"] == (75, 0, 75)
    assert colour["building"] == (255, 200, 0)
    assert colour["traffic-sign"] == (255, 0, 0)


def test_things_are_the_first_eight_classes(classes):
    assert classes.things == tuple(range(1, 9))


def test_raw_ids_become_training_ids_and_back(classes):
    raw = np.array([[252, 259, 60], [99, 2, 65535]])
    for kind in (np.uint16, np.uint32, np.int64):
        found = classes.of_raw(raw.astype(kind))
        assert found.dtype == np.uint8
        assert found.tolist() == [[1, 5, 9], [0, UNKNOWN, UNKNOWN]]
    written = classes.to_raw(np.array([[19, 1], [0, 5]], np.uint8))
    assert written.dtype == np.dtype("<u4")
    assert written.tolist() == [[81, 10], [0, 20]]
    np.testing.assert_array_equal(classes.of_raw(classes.to_raw(np.arange(20))), np.arange(20))
    everything = classes.of_raw(np.arange(1 << 16))
    assert {raw: int(k) for raw, k in enumerate(everything) if k != UNKNOWN} == dict(classes.training_ids)
    assert classes.of_raw(raw[:0].astype(np.uint16)).shape == (0, 3)


def test_known_marks_the_classes_of_a_list(classes):
    assert np.flatnonzero(classes.known(["road", "car", "tram"])).tolist() == [1, 9]
    assert not classes.known([]).any()


def test_a_table_survives_json(classes):
    text = json.dumps(classes.to_json())
    again = ClassTable.from_json(json.loads(text), "x")
    assert again == classes
    assert json.dumps(again.to_json()) == text
    assert classes.to_json()["colours"][1] == "#6496f5"
    np.testing.assert_array_equal(again.of_raw(np.arange(1 << 16)), classes.of_raw(np.arange(1 << 16)))
    np.testing.assert_array_equal(again.palette, classes.palette)


@pytest.mark.parametrize("values", [None, [], ["car"], {}, "names", {"colours": ["#12345"]}, {"colours": [3]}])
def test_json_without_a_valid_table_is_refused(values, classes):
    whole = classes.to_json()
    values = whole | values if isinstance(values, dict) and values else values
    with pytest.raises(InputError, match=r"cache/00\.zarr: holds no class table .*Make it again"):
        ClassTable.from_json(values, "cache/00.zarr")


@pytest.mark.parametrize("key", ["name", "names", "raw_ids", "training_ids", "colours", "things"])
def test_json_that_lacks_a_key_is_refused(key, classes):
    values = classes.to_json()
    del values[key]
    with pytest.raises(InputError, match=f"x: holds no class table .*{key}"):
        ClassTable.from_json(values, "x")


@pytest.fixture
def content():
    """The content of a correct table of three classes."""
    return {
        "labels": {0: "nothing", 7: "rails", 9: "tram", 300: "moving tram"},
        "color_map": {0: [0, 0, 0], 7: [1, 2, 3], 9: [255, 128, 0]},
        "learning_map": {0: 0, 7: 1, 9: 2, 300: 2},
        "learning_map_inv": {0: 0, 1: 7, 2: 9},
        "learning_ignore": {0: True, 1: False, 2: False},
        "things": ["tram"],
    }


@pytest.fixture
def write(tmp_path):
    """A function that writes a table's content to a file and returns the path."""

    def write(content):
        (tmp_path / "depot.yaml").write_text(yaml.safe_dump(content))
        return str(tmp_path / "depot.yaml")

    return write


def test_a_users_own_table(content, write, tmp_path):
    path = write(content)
    assert table_path(path) == tmp_path / "depot.yaml"
    assert table_path("semantickitti").name == "semantickitti.yaml"
    table = class_table(path)
    assert table == ClassTable(
        name=path,
        names=("nothing", "rails", "tram"),
        raw_ids=(0, 7, 9),
        training_ids={0: 0, 7: 1, 9: 2, 300: 2},
        colours=((0, 0, 0), (3, 2, 1), (0, 128, 255)),
        things=(2,),
    )
    assert table.of_raw(np.array([300, 9, 8])).tolist() == [2, 2, UNKNOWN]
    assert class_table(write({key: content[key] for key in content if key != "things"})).things == ()
    assert class_table(write(content | {"things": []})).things == ()
    named = class_table(write(content | {"raw_names": {9: "vehicle.tram"}}))
    assert named.raw_names == {9: "vehicle.tram"}
    assert ClassTable.from_json(json.loads(json.dumps(named.to_json())), "x") == named
    values = table.to_json()
    assert values.pop("raw_names") == {}
    assert ClassTable.from_json(values, "x") == table  # tables of older versions name none


def without(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


FAULTS = {
    "no labels": (lambda c: {"labels": None}, "labels: missing"),
    "empty learning_map": (lambda c: {"learning_map": {}}, "learning_map: missing"),
    "list of colours": (lambda c: {"color_map": [[0, 0, 0]]}, "color_map: missing, or not a mapping with ids as keys"),
    "names for ids": (lambda c: {"learning_map_inv": {"tram": 9}}, "learning_map_inv: missing, or not a mapping"),
    "gap": (
        lambda c: {"learning_map_inv": {0: 0, 2: 9}, "learning_map": without(c["learning_map"], 7)},
        "learning_map_inv: its keys must be the training ids 0, 1, 2, ... without gaps",
    ),
    "only one class": (
        lambda c: {"learning_map_inv": {0: 0}, "learning_map": {0: 0}},
        "learning_map_inv: its keys must be the training ids 0, 1, 2, ... without gaps",
    ),
    "too many classes": (
        lambda c: {"learning_map_inv": {k: k for k in range(256)}},
        "learning_map_inv: its keys must be the training ids 0, 1, 2, ... without gaps, up to 254",
    ),
    "unknown training id": (
        lambda c: {"learning_map": c["learning_map"] | {300: 3}},
        "learning_map: maps raw id 300 to training id 3, which learning_map_inv lacks",
    ),
    "inverse of another class": (
        lambda c: {"learning_map_inv": {0: 0, 1: 7, 2: 7}},
        "learning_map_inv: maps 2 to 7, but learning_map maps that to another class",
    ),
    "inverse of no class": (
        lambda c: {"learning_map_inv": {0: 0, 1: 7, 2: 8}},
        "learning_map_inv: maps 2 to 8, but learning_map maps that to another class",
    ),
    "no name": (
        lambda c: {"labels": without(c["labels"], 9)},
        "labels: has no name for raw id 9, to which learning_map_inv maps 2",
    ),
    "no colour": (
        lambda c: {"color_map": without(c["color_map"], 7)},
        "color_map: raw id 7 needs [blue, green, red], 0 to 255 each, but has None",
    ),
    "two numbers": (
        lambda c: {"color_map": c["color_map"] | {9: [1, 2]}},
        "color_map: raw id 9 needs [blue, green, red]",
    ),
    "value above 255": (lambda c: {"color_map": c["color_map"] | {9: [1, 2, 256]}}, "but has [1, 2, 256]"),
    "another class ignored": (
        lambda c: {"learning_ignore": {0: True, 1: False, 2: True}},
        "learning_ignore: must be true for 0 and false for all others",
    ),
    "nothing ignored": (
        lambda c: {"learning_ignore": {0: False, 1: False, 2: False}},
        "learning_ignore: must be true for 0 and false for all others",
    ),
    "duplicate name": (
        lambda c: {"labels": c["labels"] | {7: "tram"}},
        "labels: several training ids have the name 'tram'",
    ),
    "name of an unknown raw id": (
        lambda c: {"raw_names": {9: "tram", 10: "bus"}},
        "raw_names: names raw id 10, which learning_map lacks",
    ),
    "number as a raw name": (lambda c: {"raw_names": {9: 9}}, "raw_names: 9 is not a name"),
    "list of raw names": (lambda c: {"raw_names": ["tram"]}, "raw_names: missing, or not a mapping with ids as keys"),
    "unknown thing": (
        lambda c: {"things": ["tram", "moving tram"]},
        "things: 'moving tram' is not a class; the classes are rails, tram",
    ),
    "ignored class as a thing": (lambda c: {"things": ["nothing"]}, "things: 'nothing' is not a class"),
    "17 bits, labels": (
        lambda c: {"labels": c["labels"] | {65536: "x"}},
        "labels: raw id 65536 does not fit into 16 bits",
    ),
    "17 bits, learning_map": (
        lambda c: {"learning_map": c["learning_map"] | {65536: 1}},
        "learning_map: raw id 65536 does not fit into 16 bits",
    ),
    "negative": (lambda c: {"color_map": c["color_map"] | {-1: [0, 0, 0]}}, "color_map: raw id -1 does not fit"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_file_and_key(content, write, fault):
    change, message = FAULTS[fault]
    path = write(content | change(content))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        class_table(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("key", ["labels", "color_map", "learning_map", "learning_map_inv", "learning_ignore"])
def test_every_section_is_needed(content, write, key):
    path = write(without(content, key))
    with pytest.raises(InputError, match=rf"depot\.yaml: {key}: missing, .*See elite_pipeline/datasets/classes/"):
        class_table(path)


@pytest.mark.parametrize("values", ["tram", 3, ["tram", 2], {"tram": 1}, None])
def test_things_must_be_a_list_of_names(content, write, values):
    path = write(content | {"things": values})
    if values is None:  # `things:` without a value
        assert class_table(path).things == ()
        return
    with pytest.raises(InputError, match=r"depot\.yaml: things: "):
        class_table(path)


@pytest.mark.parametrize("key", ["learning_map", "learning_map_inv"])
def test_ids_must_be_whole_numbers(content, write, key):
    path = write(content | {key: content[key] | {0: [0]}})
    with pytest.raises(InputError, match=rf"depot\.yaml: {key}: "):
        class_table(path)


def test_missing_files_and_files_that_are_not_yaml_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"no such class table \(No such file.* one of nuscenes, semantickitti, or the path"
    ):
        class_table(str(tmp_path / "depot.yaml"))
    with pytest.raises(InputError, match=r"semantickity: there is no such class table"):
        class_table("semantickity")
    with pytest.raises(InputError, match=r"no such class table \(Is a directory\)"):
        class_table(str(tmp_path))
    for text in (b"labels: [1, 2", b"labels: {0: \xff}", b"labels: !!python/object:os.system {}"):
        (tmp_path / "depot.yaml").write_bytes(text)
        with pytest.raises(InputError, match=r"depot\.yaml: is not valid YAML \(.*\)\. Correct it"):
            class_table(str(tmp_path / "depot.yaml"))
    for text in ("", "tram", "- tram"):
        (tmp_path / "depot.yaml").write_text(text)
        with pytest.raises(InputError, match=r"depot\.yaml: labels: missing"):
            class_table(str(tmp_path / "depot.yaml"))


def table(**changes):
    values = {
        "name": "a",
        "names": ("nothing", "rails", "tram"),
        "raw_ids": (0, 7, 9),
        "training_ids": {0: 0, 7: 1, 9: 2, 300: 2},
        "colours": ((0, 0, 0),) * 3,
        "things": (2,),
    }
    return ClassTable(**values | changes)


DIFFERENCES = [
    ({"names": ("nothing", "tram", "rails")}, "training id 1 is 'rails' in the first and 'tram' in the second"),
    (
        {"names": ("nothing", "rails"), "raw_ids": (0, 7), "training_ids": {0: 0, 7: 1}},
        "the first has 3 classes and the second 2",
    ),
    ({"training_ids": {0: 0, 7: 1, 9: 2}}, "raw id 300 is 'tram' in the first and nothing in the second"),
    ({"training_ids": {0: 0, 7: 2, 9: 2, 300: 1}}, "raw id 7 is 'rails' in the first and 'tram' in the second"),
    (
        {"training_ids": {0: 0, 7: 1, 8: 0, 9: 2, 300: 2}},
        "raw id 8 is nothing in the first and 'nothing' in the second",
    ),
    ({"raw_ids": (0, 7, 300)}, "'tram' is written as 9 by the first and as 300 by the second"),
]


@pytest.mark.parametrize(("changes", "difference"), DIFFERENCES)
def test_the_error_names_both_tables_and_their_first_difference(changes, difference):
    with pytest.raises(InputError) as error:
        table().check_same(table(name="b", **changes), "00.parquet", "model/config.json")
    start = "00.parquet has the class table a and model/config.json has the class table b, but they differ: "
    assert str(error.value).startswith(start + difference + ". ")
    assert "Give both the same `classes:` in config.yaml" in str(error.value)


def test_names_and_colours_of_tables_may_differ(classes):
    table().check_same(table(name="b", colours=((1, 1, 1),) * 3), "x", "y")
    classes.check_same(ClassTable.from_json(classes.to_json(), "x"), "x", "y")
