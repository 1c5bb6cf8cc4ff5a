import json

import numpy as np
import pytest
from small_nuimages import UNKNOWN, write_nuscenes_table

from elite_pipeline import simulation
from elite_pipeline.config import SimulateImages
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.nuimages import open_nuimages
from elite_pipeline.errors import InputError
from elite_pipeline.simulation import random_views
from elite_pipeline.simulation.images import write_images
from elite_pipeline.simulation.nuimages_files import BEGIN, NuImagesFiles

SETTINGS = SimulateImages(seed=6, worlds=2, views_per_world=2, image_width=96, image_height=54)
TABLES = [
    *("attribute", "calibrated_sensor", "category", "ego_pose", "log"),
    *("object_ann", "sample", "sample_data", "sensor", "surface_ann"),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return class_table(str(write_nuscenes_table(tmp_path_factory.mktemp("classes") / "nuscenes.yaml")))


@pytest.fixture(scope="module")
def views():
    return [view for world in range(2) for view in random_views(6 + world, 2, 96, 54)]


@pytest.fixture(scope="module", autouse=True)
def render_once(views):
    """Worlds with the seeds 6 and 7 show `views`, which takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        rendered = {6: views[:2], 7: views[2:]}
        patch.setattr(simulation, "random_views", lambda seed, count, *_, **__: rendered[seed][:count])
        yield


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, table, render_once):
    folder = tmp_path_factory.mktemp("data") / "nuimages"
    write_images(folder, SETTINGS, UNKNOWN, table, format="nuimages", held_out=0.3)
    return folder


def rendered(view, table, unknown):
    """The rendered training ids (H, W) of a view, 0 where a class is not labelled."""
    labels = table.of_raw(view.nuscenes)
    labels[np.isin(labels, [table.names.index(name) for name in unknown])] = 0
    return labels


def test_what_is_read_is_what_was_rendered(simulated, views, table):
    images = open_nuimages(simulated, table)
    assert images.split(0.9) == (range(2), range(2, 4))
    assert images.notes == []
    seen = set()
    for k, view in enumerate(views):
        expected = rendered(view, table, UNKNOWN)
        assert np.array_equal(images.labels(k), expected)
        assert np.array_equal(images.class_pixels[k], np.bincount(expected.ravel(), minlength=17)), "no masks overlap"
        assert np.abs(images.image(k).astype(int) - view.rgb).mean() < 6, "a JPEG"
        seen |= set(np.unique(expected).tolist())
    assert {"car", "driveable_surface"} <= {table.names[k] for k in seen}
    assert not seen & {table.names.index(name) for name in UNKNOWN}


def test_all_tables_are_there_and_linked(simulated, views):
    assert sorted(path.name for path in simulated.iterdir()) == ["samples", "simulated.json", "v1.0-train", "v1.0-val"]
    for version, numbers in (("v1.0-train", range(2)), ("v1.0-val", range(2, 4))):
        assert sorted(path.stem for path in (simulated / version).iterdir()) == TABLES
        tables = {name: json.loads((simulated / version / f"{name}.json").read_text()) for name in TABLES}
        by_token = {name: {row["token"]: row for row in rows} for name, rows in tables.items()}
        assert all(len(by_token[name]) == len(tables[name]) for name in TABLES), "tokens are unique"
        assert len(tables["category"]) == 25
        assert [row["timestamp"] for row in tables["sample"]] == [BEGIN + 500_000 * k for k in numbers]
        for number, sample in zip(numbers, tables["sample"], strict=True):
            picture = by_token["sample_data"][sample["key_camera_token"]]
            assert picture["sample_token"] == sample["token"]
            assert (simulated / picture["filename"]).is_file()
            log = by_token["log"][sample["log_token"]]["logfile"]
            assert picture["filename"] == f"samples/CAM_FRONT/{log}__CAM_FRONT__{sample['timestamp']}.jpg"
            assert picture["ego_pose_token"] in by_token["ego_pose"]
            camera = by_token["calibrated_sensor"][picture["calibrated_sensor_token"]]
            assert camera["sensor_token"] in by_token["sensor"]
            assert camera["camera_intrinsic"][0] == [views[number].camera.fx, 0, 48]
        for name in ("object_ann", "surface_ann"):
            assert {row["sample_data_token"] for row in tables[name]} <= by_token["sample_data"].keys()
            assert {row["category_token"] for row in tables[name]} <= by_token["category"].keys()
        kinds = {by_token["category"][row["category_token"]]["name"] for row in tables["surface_ann"]}
        assert kinds == {"flat.driveable_surface"}


def test_boxes_hold_their_masks(simulated, table):
    images = open_nuimages(simulated, table)
    rows = json.loads((simulated / "v1.0-train/object_ann.json").read_text())
    assert rows
    first = json.loads((simulated / "v1.0-train/sample.json").read_text())[0]["key_camera_token"]
    objects = images.labels(0)
    for row in rows:
        if row["sample_data_token"] == first:
            left, top, right, bottom = row["bbox"]
            assert 0 <= left < right <= 96
            assert 0 <= top < bottom <= 54
            objects[top:bottom, left:right] = 0
    assert set(np.unique(objects)) <= {0, table.names.index("driveable_surface")}


def test_further_unknown_classes_have_no_mask(tmp_path, views, table):
    one = SETTINGS.model_copy(update={"views_per_world": 1})
    write_images(tmp_path / "set", one, [*UNKNOWN, "car"], table, format="nuimages")
    labels = open_nuimages(tmp_path / "set", table).labels(0)
    assert np.array_equal(labels, rendered(views[0], table, [*UNKNOWN, "car"]))


def test_a_killed_run_renders_only_what_is_missing(simulated, tmp_path, table, monkeypatch):
    def killed(self, folder):
        raise KeyboardInterrupt

    finish = NuImagesFiles.finish
    monkeypatch.setattr(NuImagesFiles, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        write_images(tmp_path / "set", SETTINGS, UNKNOWN, table, format="nuimages", held_out=0.3)
    monkeypatch.setattr(NuImagesFiles, "finish", finish)
    assert not (tmp_path / "set").exists()
    rows = tmp_path / "set.partial/rows"
    (rows / "000003.json").unlink()
    write, written = NuImagesFiles.write, []
    monkeypatch.setattr(NuImagesFiles, "write", lambda *job: (written.append(job[2]), write(*job)))
    write_images(tmp_path / "set", SETTINGS, UNKNOWN, table, format="nuimages", held_out=0.3)
    assert written == [2, 3], "the views of the last world"
    assert contents(tmp_path / "set") == contents(simulated)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_world_cannot_be_split(table):
    one = SETTINGS.model_copy(update={"worlds": 1})
    with pytest.raises(InputError, match=r"simulate_images.worlds is 1.*Write 2 or more"):
        NuImagesFiles(one, [], table, 0.1)


def test_a_class_table_of_other_raw_ids_is_refused(tmp_path, classes):
    with pytest.raises(InputError, match="learning_map lacks the raw ids"):
        write_images(tmp_path / "set", SETTINGS, [], classes, format="nuimages")
