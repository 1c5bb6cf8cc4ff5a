"""Coarse classes of two class tables: every class is in one place, and faults name the file and the key."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from elite_pipeline.datasets.classes import FOLDER, class_table, packaged
from elite_pipeline.datasets.coarse_classes import coarse_classes
from elite_pipeline.errors import InputError

PACKAGED = "semantickitti_to_nuscenes"


@pytest.fixture
def content():
    return yaml.safe_load((FOLDER / f"{PACKAGED}.yaml").read_text())


def test_the_packaged_table():
    assert PACKAGED not in packaged()
    coarse = coarse_classes(PACKAGED)
    assert (coarse.name, len(coarse.classes), coarse.classes.absent) == (PACKAGED, 12, "counts as zero")
    kitti, nuscenes = map(class_table, ("semantickitti", "nuscenes"))
    names = np.array(coarse.classes.names)
    of_kitti = dict(zip(kitti.names, names[coarse.of(kitti, "x")], strict=True))
    of_nuscenes = dict(zip(nuscenes.names, names[coarse.of(nuscenes, "x")], strict=True))
    assert (of_kitti["bicyclist"], of_kitti["motorcyclist"], of_kitti["person"]) == (
        "bicycle",
        "motorcycle",
        "pedestrian",
    )
    assert (of_kitti["parking"], of_kitti["trunk"], of_kitti["pole"]) == ("driveable_surface", "vegetation", "manmade")
    assert (of_kitti["unlabeled"], of_nuscenes["ignore"], of_nuscenes["barrier"]) == ("ignore",) * 3
    assert (of_nuscenes["trailer"], of_nuscenes["other_flat"]) == ("other_vehicle", "other_flat")
    assert coarse.classes.colours[1] == nuscenes.colours[nuscenes.names.index("car")]


def test_another_class_table_is_refused(classes):
    other = replace(classes, name="my.yaml", names=("x", *classes.names[1:]))
    with pytest.raises(
        InputError, match=r"models/a has the class table my\.yaml, but .* are for semantickitti and nusc"
    ):
        coarse_classes(PACKAGED).of(other, "models/a")


FAULTS = {
    "no tables": (lambda c: c.pop("tables"), "needs the keys tables, classes and left_out"),
    "one table": (lambda c: c["tables"].pop(), r"tables: \['semantickitti'\] are not the names of two"),
    "no classes": (lambda c: c["classes"].clear(), r"classes: \{\} is not a mapping"),
    "one list": (lambda c: c["classes"].update(car=["car"]), r"classes: car: \['car'\] is not a list of two lists"),
    "forgotten": (lambda c: c["left_out"][1].remove("barrier"), "nuscenes: 'barrier' is listed 0 times"),
    "twice": (lambda c: c["left_out"][0].append("car"), "semantickitti: 'car' is listed 2 times"),
    "unknown": (lambda c: c["left_out"][1].append("tram"), "nuscenes: 'tram' is listed 1 times"),
    "no such table": (lambda c: c["tables"].__setitem__(0, "kitti"), "kitti: there is no such class table"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_its_key(fault, content, tmp_path):
    change, message = FAULTS[fault]
    change(content)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=message):
        coarse_classes(str(tmp_path / "mine.yaml"))


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(InputError, match=f"there is no such table of coarse classes .* one of {PACKAGED}, or the path"):
        coarse_classes("a_to_b")
    (tmp_path / "mine.yaml").write_text("tables: [")
    with pytest.raises(InputError, match=r"mine\.yaml: is not valid YAML"):
        coarse_classes(str(tmp_path / "mine.yaml"))
