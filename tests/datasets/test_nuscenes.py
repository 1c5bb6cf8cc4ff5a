"""The nuScenes reader: points in our axes, labels, instances, images and calibration, each from the right file."""

import re
import shutil
from collections import Counter

import made_up_nuscenes
import numpy as np
import pytest
from made_up_nuscenes import CAMERAS, POINTS, RIG, SCENES
from PIL import Image

from elite_pipeline.datasets import open_recording
from elite_pipeline.datasets.classes import IGNORE, UNKNOWN, ClassTable
from elite_pipeline.datasets.nuscenes import NuScenes
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.poses import rigid

FRAME = "1532402927647951"


@pytest.fixture
def opened(nuscenes, tmp_path, nuscenes_classes):
    """A function (scene, cameras) that opens a scene of the made-up data set."""
    NuScenes.read_tables(nuscenes, SCENES, CAMERAS, nuscenes_classes, tmp_path / "tables")

    def opened(scene="scene-0103", cameras=CAMERAS):
        records = NuScenes.records(tmp_path / f"tables/{scene}.parquet")
        return open_recording(nuscenes, scene, "nuscenes", nuscenes_classes, cameras, records)

    return opened


@pytest.fixture
def recording(opened):
    """The first scene."""
    return opened()


CHALLENGE = (
    "ignore barrier bicycle bus car construction_vehicle motorcycle pedestrian traffic_cone trailer truck"
    " driveable_surface other_flat sidewalk terrain manmade vegetation"
)
OFFICIAL = [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]


def test_the_class_table_is_that_of_the_challenge(nuscenes_classes):
    table = nuscenes_classes
    assert table.names == tuple(CHALLENGE.split())
    assert [table.training_ids[raw] for raw in range(32)] == OFFICIAL
    assert table.things == tuple(range(1, 11))
    assert table.colours[:5] == ((0, 0, 0), (112, 128, 144), (220, 20, 60), (255, 127, 80), (255, 158, 0))
    assert table.colours[7:9] == ((0, 0, 230), (47, 79, 79))
    assert table.colours[11:] == (
        *((0, 207, 191), (175, 0, 75), (75, 0, 75)),
        *((112, 180, 60), (222, 184, 135), (0, 175, 0)),
    )
    assert sorted(table.raw_names) == list(range(32))
    assert table.raw_names[0] == "noise"
    assert (table.raw_names[12], table.raw_names[25]) == ("movable_object.trafficcone", "flat.other")
    assert (table.of_raw(np.arange(32, 256, dtype=np.uint8)) == UNKNOWN).all()
    again = ClassTable.from_json(table.to_json(), "x")
    assert again == table
    assert again.raw_names == table.raw_names


def test_points_are_turned_to_our_axes(recording):
    stored = np.fromfile(recording.scan_path(FRAME), np.float32).reshape(-1, 5)
    assert recording.frames() == ["1532402927647951", "1532402928147251", "1532402928646551"]
    points = recording.points(FRAME)
    assert (points.shape, points.dtype) == ((POINTS, 4), np.float32)
    assert points.flags.c_contiguous
    np.testing.assert_array_equal(points[:, 0], stored[:, 1])
    np.testing.assert_array_equal(points[:, 1], -stored[:, 0])
    np.testing.assert_array_equal(points[:, 2], stored[:, 2])
    assert stored[:, 3].max() > 255
    assert stored[:, 3].min() < 0
    np.testing.assert_array_equal(points[:, 3], np.clip(stored[:, 3], 0, 255) / np.float32(255))
    assert (np.linalg.norm(points[:, :3], axis=1) < recording.nearest).sum() >= POINTS // 10


def test_labels_instances_images(recording, nuscenes):
    raw = np.fromfile(recording.label_path(FRAME), np.uint8)
    labels = recording.labels(FRAME, POINTS)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [OFFICIAL[k] for k in raw]
    assert (labels[raw == 31] == IGNORE).all()
    instances = recording.instances(FRAME, POINTS)
    assert instances.dtype == np.uint16
    np.testing.assert_array_equal(instances, np.arange(POINTS) % 7)
    assert not recording.moving(FRAME, POINTS).any()
    assert recording.has_labels(FRAME)
    assert recording.has_image(FRAME, "CAM_BACK")
    image = recording.image(FRAME, "CAM_BACK")
    assert (image.shape, image.dtype) == ((90, 160, 3), np.uint8)
    assert recording.image_path(FRAME, "CAM_BACK").is_relative_to(nuscenes / "samples/CAM_BACK")
    assert recording.truth(FRAME, "CAM_BACK") is None


def test_cameras_have_their_own_names_and_calibration(opened):
    recording = opened(cameras={"ahead": "CAM_FRONT", "behind": "CAM_BACK"})
    ahead, behind = (recording.camera(name, FRAME) for name in ("ahead", "behind"))
    assert (ahead.name, behind.name) == ("ahead", "behind")
    f, cx, cy = np.array(RIG["CAM_FRONT"][0]) / 10
    np.testing.assert_allclose(ahead.intrinsics, [[f, 0, cx], [0, f, cy], [0, 0, 1]])
    assert ahead.camera_from_lidar.dtype == np.float64
    assert recording.camera("ahead", "1532402928147251").crc32() != ahead.crc32()


def test_times_and_poses(recording):
    times, poses = recording.timestamps(), recording.poses()
    assert times.dtype == poses.dtype == np.float64
    assert times.tolist() == [0.0, 0.4993, 0.9986]
    assert poses.shape == (3, 4, 4)
    assert rigid(poses).all()
    assert recording.times_path().parts[-2:] == ("v1.0-mini", "sample_data.json")
    assert recording.poses_path().parts[-2:] == ("v1.0-mini", "ego_pose.json")


def panoptic_path(recording):
    """Returns the file of the instances of the first frame."""
    return recording.root / recording.record(FRAME)["panoptic"]


FAULTS = {
    "truncated point": (lambda r: r.scan_path(FRAME), 19, "19 bytes are not a multiple of 4: truncated"),
    "truncated scan": (lambda r: r.scan_path(FRAME), 36, "36 bytes are not a positive multiple of 20 "),
    "empty scan": (lambda r: r.scan_path(FRAME), 0, "0 bytes are not a positive multiple of 20 "),
    "no scan": (lambda r: r.scan_path(FRAME), None, "missing, but sample_data.json names it. Unpack the archive"),
    "too few labels": (lambda r: r.label_path(FRAME), POINTS - 1, f"{POINTS - 1} labels for the {POINTS} points of "),
    "one label": (lambda r: r.label_path(FRAME), 1, f"1 labels for the {POINTS} points of "),
    "no labels": (lambda r: r.label_path(FRAME), None, "missing, but lidarseg.json names it"),
    "no image": (lambda r: r.image_path(FRAME, "CAM_BACK"), None, "missing, but sample_data.json names it"),
    "truncated image": (lambda r: r.image_path(FRAME, "CAM_BACK"), 900, "unreadable image ("),
    "no panoptic file": (panoptic_path, None, "missing, but panoptic.json names it"),
    "truncated panoptic file": (panoptic_path, 100, "no .npz file with an array `data`"),
    "empty panoptic file": (panoptic_path, 0, "no .npz file with an array `data`"),
}


def read_all(recording):
    """Reads all files of the first frame."""
    points = recording.points(FRAME)
    recording.labels(FRAME, len(points))
    recording.instances(FRAME, len(points))
    recording.image(FRAME, "CAM_BACK")


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_and_missing_files_are_refused(recording, fault):
    path_of, size, message = FAULTS[fault]
    path = path_of(recording)
    read_all(recording)
    content = path.read_bytes()
    path.unlink()
    if size is not None:
        path.write_bytes(content[:size])
    with pytest.raises(InputError, match="^" + re.escape(f"{path}: {message}")):
        read_all(recording)
    assert recording.has_labels(FRAME)
    assert recording.has_image(FRAME, "CAM_BACK")


def test_raw_ids_above_31_are_refused(recording):
    np.full(POINTS, 32, np.uint8).tofile(recording.label_path(FRAME))
    with pytest.raises(InputError, match=r"_lidarseg\.bin: raw label ids \[32\] are not in the class table nuscenes"):
        recording.labels(FRAME, POINTS)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.zeros(POINTS, np.uint16)}, "no .npz file with an array `data`"),
        ({"data": np.zeros(POINTS - 1, np.uint16)}, f"{POINTS - 1} labels for the {POINTS} points"),
        ({"data": np.zeros(POINTS, np.int64)}, "`data` has 1 dimensions and int64, not one uint16 per point"),
        ({"data": np.zeros((POINTS, 1), np.uint16)}, "`data` has 2 dimensions and uint16"),
        ({"data": np.array([None] * POINTS)}, "no .npz file with an array `data`"),
    ],
)
def test_other_panoptic_arrays_are_refused(recording, arrays, message):
    np.savez(recording.root / recording.record(FRAME)["panoptic"], **arrays)
    with pytest.raises(InputError, match=re.escape(message)):
        recording.instances(FRAME, POINTS)


def test_what_the_tables_do_not_name_is_missing(nuscenes, tmp_path, nuscenes_classes):
    made = made_up_nuscenes.tables(categories=nuscenes_classes.raw_names)
    made["sample_data"] = [row for row in made["sample_data"] if "CAM_BACK__1532402927637551" not in row["filename"]]
    made["sample_data"] = [row for row in made["sample_data"] if "CAM_FRONT__" not in row["filename"]]
    made["lidarseg"] = made["panoptic"] = []
    made_up_nuscenes.write_tables(nuscenes / "v1.0-mini", made)
    NuScenes.read_tables(nuscenes, SCENES, CAMERAS, nuscenes_classes, tmp_path / "tables")
    records = NuScenes.records(tmp_path / "tables/scene-0103.parquet")
    recording = NuScenes(nuscenes, "scene-0103", nuscenes_classes, CAMERAS, records)
    assert not recording.has_labels(FRAME)
    assert recording.label_path(FRAME) == nuscenes / "v1.0-mini/lidarseg.json"
    assert not recording.instances(FRAME, POINTS).any()
    assert [recording.has_image(frame, "CAM_BACK") for frame in recording.frames()] == [False, True, True]
    assert "(not in v1.0-mini's sample_data.json)" in str(recording.image_path(FRAME, "CAM_BACK"))
    recording.camera("CAM_BACK", FRAME)
    with pytest.raises(InputError, match=r"sample_data\.json: has no keyframe of CAM_FRONT in scene-0103"):
        recording.camera("CAM_FRONT", FRAME)


def test_without_records_there_are_no_frames(nuscenes, nuscenes_classes):
    recording = NuScenes(nuscenes, "scene-0103", nuscenes_classes, CAMERAS)
    assert recording.frames() == []
    assert recording.scan_path("*").parent == nuscenes / "samples/LIDAR_TOP"
    assert recording.poses_path() == nuscenes / "v1.0-*/ego_pose.json"


def test_places_and_parts(nuscenes):
    assert NuScenes.place(nuscenes, "scene-0103") == nuscenes
    assert NuScenes.parts(nuscenes, "scene-0103", {"ahead": "CAM_FRONT"}) == []  # shared by all scenes
    (nuscenes / "sequences/scene-0103").mkdir(parents=True)
    assert NuScenes.place(nuscenes, "scene-0103") == nuscenes / "sequences/scene-0103"


def test_dense_truth_of_simulated_scenes(nuscenes, tmp_path, nuscenes_classes):
    made, folder = made_up_nuscenes.tables(categories=nuscenes_classes.raw_names), "sequences/scene-0103"
    for row in made["sample_data"]:
        row["filename"] = f"{folder}/{row['filename']}"
    made_up_nuscenes.write_tables(nuscenes / "v1.0-mini", made)
    (nuscenes / folder).mkdir(parents=True)
    shutil.move(nuscenes / "samples", nuscenes / folder)
    raw = np.random.default_rng(0).choice([0, 17, 24, 30], (90, 160)).astype(np.uint8)
    path = nuscenes / folder / f"truth/CAM_BACK/semantic/{FRAME}.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(raw).save(path)
    NuScenes.read_tables(nuscenes, ["scene-0103"], CAMERAS, nuscenes_classes, tmp_path / "tables")
    records = NuScenes.records(tmp_path / "tables/scene-0103.parquet")
    recording = NuScenes(nuscenes, "scene-0103", nuscenes_classes, {"back": "CAM_BACK"}, records)
    read = recording.truth(FRAME, "back")
    assert read is not None
    assert read.tolist() == np.array(OFFICIAL)[raw].tolist()
    assert recording.image(FRAME, "back").shape == (90, 160, 3)


def test_real_labels_of_a_real_scan(nuscenes_pair, nuscenes_classes):
    (scan,), (labels,) = nuscenes_pair.glob("*.pcd.bin"), nuscenes_pair.glob("*_lidarseg.bin")
    records = {FRAME: {"scan": scan.name, "labels": labels.name, "panoptic": None, "images": {}}}
    recording = NuScenes(nuscenes_pair, "scene", nuscenes_classes, {}, records)
    points = recording.points(FRAME)
    found, raw = recording.labels(FRAME, 40), np.fromfile(labels, np.uint8)
    assert points.shape == (40, 4)
    assert found.tolist() == [OFFICIAL[k] for k in raw]
    assert dict(Counter(found.tolist())) == {4: 2, 11: 15, 14: 1, 15: 12, 16: 1, 0: 9}
    near = np.linalg.norm(points[:, :3], axis=1) < recording.nearest
    assert near.sum() == 7
    assert set(raw[near]) == {31}
