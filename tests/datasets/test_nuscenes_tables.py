"""nuScenes' tables: what is kept of them, the motion between scan and image, all faults, and bounded memory."""

import json
import re
import tracemalloc

import made_up_nuscenes
import numpy as np
import pytest
from made_up_nuscenes import CAMERAS, RIG, SCENES, token
from scipy.spatial.transform import Rotation

from elite_pipeline.datasets import json_stream
from elite_pipeline.datasets.json_stream import stream
from elite_pipeline.datasets.nuscenes_tables import read_records, read_tables
from elite_pipeline.errors import InputError

FRAME = "1532402927647951"
LIDAR = token("scene-0103", 0, "LIDAR_TOP", False)
"""The token of the first scan, whose frame is `FRAME`."""


@pytest.fixture
def made(nuscenes_classes):
    """The made-up tables."""
    return made_up_nuscenes.tables(categories=nuscenes_classes.raw_names)


@pytest.fixture
def read(tmp_path, nuscenes_classes):
    """A function (tables, scenes, cameras, indent) that writes tables of v1.0-mini, reads them, and returns records."""

    def read(made, scenes=SCENES, cameras=CAMERAS, indent=0):
        made_up_nuscenes.write_tables(tmp_path / "v1.0-mini", made, indent)
        read_tables(tmp_path, scenes, cameras, nuscenes_classes, tmp_path / "tables")
        assert not (tmp_path / "tables.partial").exists()
        assert sorted(path.stem for path in (tmp_path / "tables").iterdir()) == sorted(scenes)
        return {scene: read_records(tmp_path / f"tables/{scene}.parquet") for scene in scenes}

    return read


def row_of(made, table, name):
    """Returns the row of a table with this token."""
    return next(row for row in made[table] if row["token"] == name)


def test_records_of_each_scene(made, read):
    records = read(made)
    assert [list(records[scene]) for scene in SCENES] == [
        ["1532402927647951", "1532402928147251", "1532402928646551"],
        ["1532403027647951", "1532403028147251", "1532403028646551"],
    ]
    record = records["scene-0103"][FRAME]
    log = "n015-2018-07-24-11-22-45+0800"
    assert record["version"] == "v1.0-mini"
    assert (record["token"], record["timestamp"]) == (LIDAR, 1532402927647951)
    assert record["scan"] == f"samples/LIDAR_TOP/{log}__LIDAR_TOP__{FRAME}.pcd.bin"
    assert record["labels"] == f"lidarseg/v1.0-mini/{LIDAR}_lidarseg.bin"
    assert record["panoptic"] == f"panoptic/v1.0-mini/{LIDAR}_panoptic.npz"
    assert record["images"].keys() == record["intrinsics"].keys() == record["camera_from_lidar"].keys() == RIG.keys()
    assert record["images"]["CAM_BACK"] == f"samples/CAM_BACK/{log}__CAM_BACK__1532402927637551.jpg"
    assert (
        record["intrinsics"]["CAM_BACK"]
        == row_of(made, "calibrated_sensor", token("scene-0103", "CAM_BACK"))["camera_intrinsic"]
    )


def moved(points, row, back=False):
    """Returns points (N, 3) moved by the motion of a row; back: by its inverse. Scipy has x, y, z, w."""
    w, x, y, z = row["rotation"]
    rotation = Rotation.from_quat([x, y, z, w])
    if back:
        return rotation.inv().apply(points - row["translation"])
    return rotation.apply(points) + row["translation"]


@pytest.mark.parametrize("channel", RIG)
def test_camera_from_lidar_goes_through_both_poses(made, read, channel):
    """Step by step: sensor, ego at the scan, world, ego at the image, camera."""
    records = read(made)
    ours = np.random.default_rng(0).uniform(-50, 50, (200, 3))
    for scene in SCENES:
        for k, record in enumerate(records[scene].values()):
            points = np.stack([-ours[:, 1], ours[:, 0], ours[:, 2]], axis=1)
            points = moved(points, row_of(made, "calibrated_sensor", token(scene, "LIDAR_TOP")))
            world = moved(points, row_of(made, "ego_pose", token(scene, k, "LIDAR_TOP", False)))
            points = moved(world, row_of(made, "ego_pose", token(scene, k, channel, False)), back=True)
            points = moved(points, row_of(made, "calibrated_sensor", token(scene, channel)), back=True)
            matrix = np.array(record["camera_from_lidar"][channel])
            assert matrix.dtype == np.float64
            np.testing.assert_allclose(ours @ matrix[:3, :3].T + matrix[:3, 3], points, atol=1e-9)
            matrix = np.array(record["world_from_lidar"])
            np.testing.assert_allclose(ours @ matrix[:3, :3].T + matrix[:3, 3], world, atol=1e-9)


def test_only_wanted_scenes_and_cameras_are_kept(made, read):
    records = read(made, ["scene-0916"], {"ahead": "CAM_FRONT"})
    assert all(record["images"].keys() == {"CAM_FRONT"} for record in records["scene-0916"].values())
    whole = read(made)["scene-0916"]
    for frame, record in records["scene-0916"].items():
        assert record["camera_from_lidar"]["CAM_FRONT"] == whole[frame]["camera_from_lidar"]["CAM_FRONT"]


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_the_layout_of_the_files_does_not_matter(made, read, indent, monkeypatch):
    expected = read(made)
    monkeypatch.setattr(json_stream, "CHUNK", 997)  # so that every kind of place is a border of two chunks
    assert read(made, indent=indent) == expected


def test_a_keyframe_without_an_image_has_a_calibration_without_motion(made, read):
    name = token("scene-0103", 1, "CAM_BACK", False)
    made["sample_data"].remove(row_of(made, "sample_data", name))
    expected = read(made | {"ego_pose": [*made["ego_pose"]]})["scene-0103"]
    record = expected["1532402928147251"]
    assert record["images"].keys() == RIG.keys() - {"CAM_BACK"}
    points = np.random.default_rng(0).uniform(-50, 50, (20, 3))
    found = np.array(record["camera_from_lidar"]["CAM_BACK"])
    turned = np.stack([-points[:, 1], points[:, 0], points[:, 2]], axis=1)
    turned = moved(turned, row_of(made, "calibrated_sensor", token("scene-0103", "LIDAR_TOP")))
    turned = moved(turned, row_of(made, "calibrated_sensor", token("scene-0103", "CAM_BACK")), back=True)
    np.testing.assert_allclose(points @ found[:3, :3].T + found[:3, 3], turned, atol=1e-9)


def test_a_camera_that_never_took_an_image_has_no_calibration(made, read):
    made["sample_data"] = [row for row in made["sample_data"] if "CAM_BACK__" not in row["filename"]]
    record = read(made)["scene-0103"][FRAME]
    assert record["images"].keys() == record["intrinsics"].keys() == RIG.keys() - {"CAM_BACK"}


def test_a_release_without_labels_is_unlabelled(made, read, tmp_path):
    made["category"] = [{key: row[key] for key in ("token", "name", "description")} for row in made["category"]]
    for lidarseg in ([], None):
        made["lidarseg"] = lidarseg
        made["panoptic"] = []
        if lidarseg is None:
            for name in ("lidarseg", "panoptic"):
                del made[name]
                (tmp_path / f"v1.0-mini/{name}.json").unlink()
        record = read(made)["scene-0103"][FRAME]
        assert record["labels"] is record["panoptic"] is None


def test_a_scene_comes_from_the_first_of_the_versions(made, tmp_path, nuscenes_classes):
    whole = made_up_nuscenes.tables(["scene-0103", "scene-0001"], "v1.0-trainval", {0: "noise"})
    made_up_nuscenes.write_tables(tmp_path / "v1.0-mini", made)
    made_up_nuscenes.write_tables(tmp_path / "v1.0-trainval", whole)
    wanted = ["scene-0103", "scene-0916", "scene-0001"]
    read_tables(tmp_path, wanted, CAMERAS, nuscenes_classes, tmp_path / "tables")
    versions = [{r["version"] for r in read_records(tmp_path / f"tables/{s}.parquet").values()} for s in wanted]
    assert versions == [{"v1.0-trainval"}, {"v1.0-mini"}, {"v1.0-trainval"}]
    (tmp_path / "v1.0-mini/scene.json").write_text("[")
    # Does not need the other version.
    read_tables(tmp_path, ["scene-0001"], CAMERAS, nuscenes_classes, tmp_path / "tables")
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["scene-0001.parquet"]


def change(table, row, /, **values):
    """Returns a function that changes a row of the tables."""
    return lambda made: row_of(made, table, row).update(values)


def without(table, key):
    """Returns a function that removes a key from all rows of a table."""
    return lambda made: [row.pop(key) for row in made[table]]


FRONT = token("scene-0103", "CAM_FRONT")
FAULTS = {
    "sample.scene_token": (
        change("sample", token("scene-0103", 1), scene_token="ab"),
        r"sample\.json: \w{32} leads to 'ab', which scene\.json lacks",
    ),
    "sample_data.sample_token": (
        change("sample_data", LIDAR, sample_token="ab"),
        r"sample_data\.json: \w{32} leads to 'ab', which sample\.json lacks",
    ),
    "sample_data.ego_pose_token": (
        change("sample_data", LIDAR, ego_pose_token="ab"),
        r"sample_data\.json: \w{32} leads to 'ab', which ego_pose\.json lacks",
    ),
    "sample_data.calibrated_sensor_token": (
        change("sample_data", LIDAR, calibrated_sensor_token="ab"),
        r"sample_data\.json: \w{32} leads to 'ab', which calibrated_sensor\.json lacks",
    ),
    "calibrated_sensor.sensor_token": (
        change("calibrated_sensor", FRONT, sensor_token="ab"),
        r"calibrated_sensor\.json: \w{32} leads to 'ab', which sensor\.json lacks",
    ),
    "camera without calibration": (
        change("calibrated_sensor", FRONT, camera_intrinsic=[]),
        r"calibrated_sensor\.json: \w{32}: CAM_FRONT needs a camera_intrinsic of 3 x 3 finite numbers, but has \[\]",
    ),
    "non-finite intrinsics": (
        change("calibrated_sensor", FRONT, camera_intrinsic=[[1.0, 0, 0], [0, float("nan"), 0], [0, 0, 1]]),
        "CAM_FRONT needs a camera_intrinsic of 3 x 3 finite numbers",
    ),
    "singular intrinsics": (
        change("calibrated_sensor", FRONT, camera_intrinsic=[[0.0] * 3] * 3),
        "CAM_FRONT needs a camera_intrinsic",
    ),
    "no unit quaternion": (
        change("ego_pose", LIDAR, rotation=[0.5, 0.5, 0.5, 0.4]),
        r"ego_pose\.json: \w{32}: rotation \[0\.5, 0\.5, 0\.5, 0\.4\] is no unit quaternion: its length is 0\.9539",
    ),
    "non-finite pose": (
        change("ego_pose", LIDAR, translation=[float("inf"), 0, 0]),
        r"ego_pose\.json: \w{32}: translation \[inf, 0, 0\] is not 3 finite numbers",
    ),
    "short pose": (change("ego_pose", LIDAR, rotation=[1, 0, 0]), "is not 4 finite numbers"),
    "text in a pose": (change("ego_pose", LIDAR, rotation=[1, 0, 0, "0"]), "is not 4 finite numbers"),
    "damaged mounting": (
        change("calibrated_sensor", token("scene-0103", "LIDAR_TOP"), rotation=[2, 0, 0, 0]),
        r"calibrated_sensor\.json: \w{32}: rotation \[2, 0, 0, 0\] is no unit quaternion",
    ),
    "scene without keyframes": (
        lambda made: [r.update(is_key_frame=False) for r in made["sample_data"] if r["token"] == LIDAR],
        r"sample_data\.json: scene-0103 has 2 keyframes of LIDAR_TOP, but 3 samples in sample\.json",
    ),
    "scene without samples": (
        lambda made: made.update(sample=made["sample"][3:], sample_data=made["sample_data"][48:]),
        r"sample_data\.json: scene-0103 has 0 keyframes of LIDAR_TOP, but 0 samples",
    ),
    "two scenes of one name": (
        change("scene", token("scene-0916"), name="scene-0103"),
        r"scene\.json: 2 scenes have the name scene-0103",
    ),
    "two keyframes of one channel": (
        lambda made: made["sample_data"].append(row_of(made, "sample_data", LIDAR) | {"token": "ab"}),
        r"sample_data\.json: sample \w{32} of scene-0103 has two keyframes of LIDAR_TOP: \w{32} and ab",
    ),
    "two keyframes at one time": (
        change("sample_data", token("scene-0103", 1, "LIDAR_TOP", False), timestamp=int(FRAME)),
        rf"sample_data\.json: scene-0103 has several keyframes of LIDAR_TOP at {FRAME}",
    ),
    "categories of the release without labels": (
        without("category", "index"),
        r"category\.json: has no `index`, .* Unpack nuScenes-lidarseg again, after the other archives",
    ),
    "other categories": (
        change("category", token("flat.sidewalk"), index=25),
        r"category\.json: 1 names differ from `raw_names` of the class table: 25 is flat.sidewalk, not flat.other",
    ),
    "another version": (
        without("sample_data", "ego_pose_token"),
        r"sample_data\.json: \w{32}: has no 'ego_pose_token'\. The table is damaged, or of another version",
    ),
    "no is_key_frame": (without("sample_data", "is_key_frame"), r"sample_data\.json: \w{32}: has no 'is_key_frame'"),
    "no poses": (without("ego_pose", "token"), r"ego_pose\.json: a row: has no 'token'"),
    "time in seconds": (
        change("sample_data", LIDAR, timestamp=1532402927.647951),
        r"sample_data\.json: \w{32}: 'timestamp' is 1532402927.647951",
    ),
    "no name": (without("scene", "name"), r"scene\.json: \w{32}: has no 'name'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_its_table(made, read, tmp_path, fault):
    damage, message = FAULTS[fault]
    damage(made)
    scenes = ["scene-0103"] if "one name" in fault else SCENES
    with pytest.raises(
        InputError, match=rf"{re.escape(str(tmp_path))} has \d+ faults? in its tables:\n(.*\n)*.*{message}"
    ):
        read(made, scenes)
    assert not (tmp_path / "tables").exists()
    assert not (tmp_path / "tables.partial").exists()


def test_all_faults_are_in_one_report(made, read):
    for fault in ("sample.scene_token", "no unit quaternion", "camera without calibration", "other categories"):
        FAULTS[fault][0](made)
    for k in range(KEYFRAMES := made_up_nuscenes.KEYFRAMES):
        for channel in RIG:
            change("sample_data", token("scene-0916", k, channel, False), ego_pose_token="cd")(made)
    with pytest.raises(InputError) as error:
        read(made, [*SCENES, "scene-0001"])
    text = str(error.value)
    for fault in ("sample.scene_token", "no unit quaternion", "camera without calibration", "other categories"):
        assert re.search(FAULTS[fault][1], text), fault
    assert (
        "1 of 3 scenes are not in its tables, which are v1.0-mini: scene-0001. Copy the tables that have them" in text
    )
    assert text.count("leads to 'cd'") == 5
    assert f"and {KEYFRAMES * len(RIG) - 5} more: tokens that lead nowhere in ego_pose.json" in text


def test_every_damaged_table_is_in_the_report(made, read, tmp_path, nuscenes_classes):
    read(made)
    for path in (tmp_path / "v1.0-mini").iterdir():
        if path.stem != "scene":
            path.write_text("[{")
    with pytest.raises(InputError) as error:
        read_tables(tmp_path, SCENES, CAMERAS, nuscenes_classes, tmp_path / "tables")
    for table in ("sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "lidarseg", "panoptic"):
        assert f"/{table}.json: is truncated" in str(error.value)
    made_up_nuscenes.write_tables(tmp_path / "v1.0-mini", made)
    for table in ("sample_data", "ego_pose"):
        (tmp_path / f"v1.0-mini/{table}.json").unlink()
    message = r"has 2 faults in its tables:\n.*/sample_data\.json: is missing .*\n.*/ego_pose\.json: is missing"
    with pytest.raises(InputError, match=message):
        read_tables(tmp_path, SCENES, CAMERAS, nuscenes_classes, tmp_path / "tables")


NEEDED = [
    "scene",
    "sample",
    "sample_data",
    "ego_pose",
    "calibrated_sensor",
    "sensor",
    "category",
    "lidarseg",
    "panoptic",
]


@pytest.mark.parametrize("table", NEEDED)
def test_damaged_tables_are_refused(made, read, tmp_path, table, nuscenes_classes):
    read(made)
    path = tmp_path / f"v1.0-mini/{table}.json"
    whole = path.read_text()
    damaged = {
        whole[: len(whole) * 2 // 3]: "is truncated or no JSON array of objects (after ",
        whole.rstrip("]"): "it ends within an object, or before the closing bracket",
        "": "it begins with ''",
        "version https://git-lfs": "it begins with 'version https://git-",
        "[1, 2]": "found '1, 2]' in place of an object",
        whole + "x": "it goes on after the closing bracket",
        whole.replace("},", "}", 1): "after an object",
    }
    for text, message in damaged.items():
        path.write_text(text)
        with pytest.raises(InputError, match=re.escape(message)) as error:
            read_tables(tmp_path, SCENES, CAMERAS, nuscenes_classes, tmp_path / "tables")
        assert f"v1.0-mini/{table}.json: is truncated" in str(error.value)
        assert "1 fault in its tables" in str(error.value)
    path.write_bytes(b"[\xff")
    with pytest.raises(InputError, match=f"{table}.json: is truncated or no JSON"):
        read_tables(tmp_path, SCENES, CAMERAS, nuscenes_classes, tmp_path / "tables")
    path.unlink()
    if table not in ("lidarseg", "panoptic"):
        with pytest.raises(InputError, match=f"{table}.json: is missing or unreadable"):
            read_tables(tmp_path, SCENES, CAMERAS, nuscenes_classes, tmp_path / "tables")


def test_tables_that_are_not_needed_may_be_missing(made, read, tmp_path):
    expected = read(made)
    for path in (tmp_path / "v1.0-mini").iterdir():
        if path.stem not in NEEDED:
            path.unlink()
    assert read({name: made[name] for name in NEEDED}) == expected


def test_missing_versions_are_named(made, read, tmp_path, nuscenes_classes):
    (tmp_path / "v2.0").mkdir()
    with pytest.raises(InputError, match=r"has none of the folders v1\.0-trainval, .*, only v2\.0\. Link the folder"):
        read_tables(tmp_path, SCENES, CAMERAS, nuscenes_classes, tmp_path / "tables")
    missing = [f"scene-{k:04d}" for k in range(1, 10)]
    message = "9 of 10 scenes are not in its tables, which are v1.0-mini: scene-0001, .*, scene-0005, and 4 more"
    with pytest.raises(InputError, match=message):
        read(made, [*missing, "scene-0103"])


def test_unknown_cameras_are_refused(made, read):
    with pytest.raises(InputError, match=r"sensor\.json: has no camera CAM_TOP, only CAM_BACK, .* Correct `cameras:`"):
        read(made, cameras={"top": "CAM_TOP"})
    with pytest.raises(InputError, match=r"sensor\.json: has no camera RADAR_FRONT"):
        read(made, cameras={"radar": "RADAR_FRONT"})


def test_only_folders_of_its_own_are_replaced(made, read, tmp_path):
    read(made)
    (tmp_path / "tables/notes.txt").touch()
    with pytest.raises(InputError, match=r"tables: has notes\.txt, so read_tables did not write this folder"):
        read(made)


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_damaged_records_are_refused(made, read, tmp_path, content):
    read(made)
    path = tmp_path / "tables/scene-0103.parquet"
    path.unlink()
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"scene-0103\.parquet: is no readable file of records .* run snakemake again"):
        read_records(path)


def test_large_tables_are_read_in_little_memory(tmp_path):
    """8 MB with a peak of a few chunks."""
    path = tmp_path / "sample_data.json"
    text = json.dumps(
        {
            "token": "0" * 32,
            "is_key_frame": False,
            "timestamp": 1532402927647951,
            "filename": "x" * 90,
            "prev": "y" * 32,
        },
        indent=0,
    )
    path.write_text("[\n" + ",\n".join(text.replace("0" * 32, f"{k:032x}") for k in range(30_000)) + "\n]")
    peaks = []
    for load in (lambda: len(json.loads(path.read_text())), lambda: sum(1 for _ in stream(path))):
        tracemalloc.start()
        assert load() == 30_000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] / 3
    assert peaks[1] < 6 * json_stream.CHUNK


def test_large_tables_show_progress(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(json_stream, "LARGE", 1000)
    made_up_nuscenes.write_tables(tmp_path / "v1.0-mini", made)
    assert sum(1 for _ in stream(tmp_path / "v1.0-mini/ego_pose.json")) == len(made["ego_pose"])
    assert "read v1.0-mini/ego_pose.json: " in capsys.readouterr().err


def test_a_damaged_object_is_refused_before_the_end_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 100)
    monkeypatch.setattr(json_stream, "LONGEST", 1000)
    (tmp_path / "x.json").write_text('[{"a": 1}, {"a" 2}, ' + '{"a": 3}, ' * 10_000)
    with pytest.raises(InputError, match=r"x\.json: is truncated or .* \(after 1 records: an object is damaged: Exp"):
        list(stream(tmp_path / "x.json"))
