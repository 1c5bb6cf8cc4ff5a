"""read_tables, index_frames and project_points on a data set in nuScenes' layout; the real keyframe."""

import json
import shutil

import made_up_nuscenes
import numpy as np
import pytest
from made_up_nuscenes import CAMERAS, POINTS, RIG, SCENES, token

from elite_pipeline.datasets.nuscenes import NuScenes
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index, projection
from elite_pipeline.stages import index_frames, project_points, read_tables
from elite_pipeline.store import Projection

LAYOUT = ['format="nuscenes"', 'classes="nuscenes"', f"cameras={json.dumps(CAMERAS)}"]
NEEDS = ["missing_images=false", "labels=true", "images=true"]


def read(data, out, scenes=SCENES):
    words = [*LAYOUT, f"sequences={json.dumps(scenes)}"]
    read_tables.main(["--data", str(data), "--out", str(out), *words])


def build_index(data, out, needs=(), scene="scene-0103"):
    words = ["--data", str(data), "--sequence", scene, "--tables", str(out.parent / "tables"), "--out", str(out)]
    index_frames.main([*words, *LAYOUT, *[*NEEDS, *needs]])
    return index.read(out)


@pytest.fixture
def indexed(nuscenes, tmp_path):
    """The path of the index of the first scene. The tables are gone: nothing later may need them."""
    read(nuscenes, tmp_path / "tables")
    build_index(nuscenes, tmp_path / "index.parquet")
    shutil.rmtree(nuscenes / "v1.0-mini")
    shutil.rmtree(tmp_path / "tables")
    return tmp_path / "index.parquet"


def test_the_index_holds_the_records(nuscenes, indexed):
    known = index.read(indexed)
    assert known.frames == ["1532402927647951", "1532402928147251", "1532402928646551"]
    assert known.points.tolist() == [POINTS] * 3
    assert known.labelled.all()
    assert (known.class_points.sum(axis=1) == POINTS).all()
    assert {camera: sizes.tolist() for camera, sizes in known.sizes.items()} == dict.fromkeys(RIG, [[90, 160]] * 3)
    np.testing.assert_allclose(known.times, [0, 0.4993, 0.9986])
    recording = known.source.open(nuscenes)
    assert recording.frames() == known.frames
    assert recording.record(known.frames[1])["token"] == token("scene-0103", 1, "LIDAR_TOP", False)
    np.testing.assert_array_equal(recording.poses(), known.poses)
    assert recording.image(known.frames[2], "CAM_FRONT").shape == (90, 160, 3)


def test_points_are_projected_with_the_camera_of_each_frame(nuscenes, indexed, projection_settings, tmp_path):
    words = ["--data", str(nuscenes), "--frames", str(indexed), "--out", str(tmp_path / "projection.zarr")]
    project_points.main([*words, *projection_settings])
    store, recording = Projection(tmp_path / "projection.zarr"), index.read(indexed).source.open(nuscenes)
    assert store.cameras == sorted(RIG)
    seen = 0
    for f, frame in enumerate(store.frames):
        points = recording.points(frame)
        for c, name in enumerate(store.cameras):
            rows = store.rows(f, c)
            point, pixel = store.read("point", rows), store.read("pixel", rows)
            assert (np.linalg.norm(points[point, :3], axis=1) >= 1).all()
            camera, seen = recording.camera(name, frame), seen + len(point)
            inside = points[point, :3] @ camera.camera_from_lidar[:3, :3].T + camera.camera_from_lidar[:3, 3]
            expected = inside @ camera.intrinsics.T
            np.testing.assert_allclose(pixel, expected[:, :2] / expected[:, 2:], atol=0.01)
    assert seen > 100


def test_all_faults_of_a_scene_are_in_one_report(nuscenes, tmp_path, nuscenes_classes):
    read(nuscenes, tmp_path / "tables")
    records = NuScenes.records(tmp_path / "tables/scene-0103.parquet")
    recording = NuScenes(nuscenes, "scene-0103", nuscenes_classes, CAMERAS, records)
    first, second, third = recording.frames()
    recording.image_path(first, "CAM_BACK").unlink()
    recording.scan_path(second).unlink()
    recording.label_path(third).write_bytes(b"\0")
    (nuscenes / recording.record(first)["panoptic"]).write_bytes(b"")
    with pytest.raises(InputError) as error:
        build_index(nuscenes, tmp_path / "index.parquet")
    text = str(error.value)
    assert "scene-0103, has 4 faults:" in text
    assert f"{recording.image_path(first, 'CAM_BACK')}: missing, but sample_data.json names it" in text
    assert f"{recording.scan_path(second)}: missing, but sample_data.json names it" in text
    assert f"{recording.label_path(third)}: 1 labels for the {POINTS} points" in text
    assert "_panoptic.npz: no .npz file with an array `data`" in text


def test_a_keyframe_without_an_image_is_skipped_if_images_may_be_missing(nuscenes, tmp_path, projection_settings):
    made = made_up_nuscenes.tables()
    made["sample_data"] = [row for row in made["sample_data"] if "CAM_BACK__1532402927637551" not in row["filename"]]
    made["lidarseg"] = []
    made_up_nuscenes.write_tables(nuscenes / "v1.0-mini", made)
    read(nuscenes, tmp_path / "tables")
    with pytest.raises(InputError) as error:
        build_index(nuscenes, tmp_path / "index.parquet")
    assert "has 2 faults" in str(error.value)
    assert "v1.0-mini/lidarseg.json: missing. Copy it, or take the sequence out of the split." in str(error.value)
    assert "samples/CAM_BACK/(not in v1.0-mini's sample_data.json) 1532402927647951: missing." in str(error.value)
    known = build_index(nuscenes, tmp_path / "index.parquet", ["missing_images=true", "labels=false"])
    assert known.sizes["CAM_BACK"].tolist() == [[0, 0], [90, 160], [90, 160]]
    assert not known.labelled.any()
    words = ["--data", str(nuscenes), "--frames", str(tmp_path / "index.parquet"), "--out", str(tmp_path / "p.zarr")]
    project_points.main([*words, *projection_settings])
    store = Projection(tmp_path / "p.zarr")
    assert [len(store.read("point", store.rows(f, store.cameras.index("CAM_BACK")))) > 0 for f in range(3)] == [
        *(False, True, True)
    ]


def test_scenes_that_are_not_there_are_named(nuscenes, tmp_path):
    with pytest.raises(InputError, match=r"1 of 2 scenes are not in its tables, which are v1\.0-mini: scene-0001\."):
        read(nuscenes, tmp_path / "tables", ["scene-0001", "scene-0103"])
    read(nuscenes, tmp_path / "tables", ["scene-0103"])
    with pytest.raises(InputError, match=r"scene-0916\.parquet: is no readable file of records"):
        build_index(nuscenes, tmp_path / "index.parquet", scene="scene-0916")


SEEN = {
    **{"CAM_FRONT": 3053, "CAM_FRONT_RIGHT": 3076, "CAM_BACK_RIGHT": 3369},
    **{"CAM_BACK": 4820, "CAM_BACK_LEFT": 4089, "CAM_FRONT_LEFT": 3696},
}
"""Camera -> points of the real keyframe in its image, as nuScenes' devkit counts them."""


def real_tables(known):
    """Returns the tables of one scene with one keyframe, the real one. known: the content of calibration.json."""
    made = made_up_nuscenes.tables(["scene-0061"])
    made = {name: [] for name in made} | {"sensor": made["sensor"]}
    made["scene"].append({"token": "scene", "name": "scene-0061"})
    made["sample"].append({"token": known["sample_token"], "scene_token": "scene"})
    sensors = {"LIDAR_TOP": known["lidar"] | {"camera_intrinsic": []}, **known["cameras"]}
    for channel, sensor in sensors.items():
        pose = {"rotation": "rotation_wxyz", "translation": "translation"}
        ego = sensor["ego_pose"] if channel == "LIDAR_TOP" else sensor["ego_pose_at_camera"]
        made["ego_pose"].append({"token": channel, **{key: ego[name] for key, name in pose.items()}})
        where = {key: sensor[name] for key, name in pose.items()}
        lens = {"camera_intrinsic": sensor["camera_intrinsic"], "sensor_token": token(channel)}
        made["calibrated_sensor"].append({"token": channel, **where, **lens})
        tokens = {"ego_pose_token": channel, "calibrated_sensor_token": channel, "sample_token": known["sample_token"]}
        about = {"is_key_frame": True, "timestamp": sensor["timestamp_us"]}
        file = {"filename": f"samples/{channel}/{sensor['file']}"}
        made["sample_data"].append({"token": channel, **tokens, **about, **file})
    return made


def test_the_real_keyframe(nuscenes_keyframe, tmp_path, projection_settings):
    known = json.loads((nuscenes_keyframe / "calibration.json").read_text())
    made, root = real_tables(known), tmp_path / "nuscenes"
    made_up_nuscenes.write_tables(root / "v1.0-mini", made)
    for row in made["sample_data"]:
        path = root / row["filename"]
        path.parent.mkdir(parents=True)
        path.symlink_to(nuscenes_keyframe / path.name)
    read(root, tmp_path / "tables", ["scene-0061"])
    frames = build_index(root, tmp_path / "index.parquet", ["labels=false"], "scene-0061")
    recording = frames.source.open(root)
    points = recording.points("1532402927647951")
    assert len(points) == 34_688
    far = np.linalg.norm(points[:, :3], axis=1) >= recording.nearest
    assert (~far).sum() == 8029
    assert 0 <= points[:, 3].min() < points[:, 3].max() <= 1
    seen = np.zeros(len(points), bool)
    for name in RIG:
        camera = recording.camera(name, frames.frames[0])
        ours_from_file = np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        expected = np.array(known["cameras"][name]["lidar2cam"])
        np.testing.assert_allclose(camera.camera_from_lidar @ ours_from_file, expected, atol=1e-5)
        point, pixel, _ = projection.project(points, camera, (900, 1600), 1.0)
        seen[point] = True
        # The devkit leaves out a border of one pixel.
        assert abs(((pixel > 1) & (pixel < (1599, 899))).all(axis=1).sum() - SEEN[name]) <= 2, name
    assert abs(seen[far].mean() - 0.76) < 0.01
    words = ["--data", str(root), "--frames", str(tmp_path / "index.parquet"), "--out", str(tmp_path / "p.zarr")]
    project_points.main([*words, *projection_settings])
