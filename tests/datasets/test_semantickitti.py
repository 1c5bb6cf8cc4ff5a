"""The SemanticKITTI reader, on files in the real format."""

import shutil

import numpy as np
import pytest

from elite_pipeline.errors import InputError


def test_reads_points_labels_instances_images(drive, open_drive):
    recording = open_drive(drive)
    assert recording.frames() == ["000000", "000001", "000002"]
    points = recording.points("000000")
    assert points.shape == (500, 4)
    assert points.dtype == np.float32
    assert set(recording.labels("000000", 500)) <= {0, 1, 9, 11, 13, 15}
    assert set(recording.instances("000000", 500)) == {7}
    assert recording.image("000001", "image_2").shape == (40, 80, 3)
    assert recording.truth("000001", "image_2") is None


def test_camera_holds_the_whole_projection_matrix(drive, open_drive):
    camera = open_drive(drive).camera("image_2", "000000")
    point = np.array([10.0, 1.0, -0.5, 1.0])
    p2 = np.array([[100, 0, 40, 10], [0, 100, 20, -1], [0, 0, 1, 0.01]])
    tr = np.array([[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
    np.testing.assert_allclose(camera.intrinsics @ (camera.camera_from_lidar @ point)[:3], p2 @ tr @ point, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 0\n", "no line 'Tr"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n", "line 1: P2 has 11 numbers"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: nan 0 0 0 0 1 0 0 0 0 1 0\n", "line 2: Tr has non-finite"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 x\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n", "line 1: expected 12 numbers, found text"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: 2 0 0 0 0 2 0 0 0 0 2 0\n", "Tr is not a rigid motion"),
    ],
)
def test_broken_calibration_is_refused(drive, open_drive, text, message):
    (drive / "calib.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        open_drive(drive).camera("image_2", "000000")


def test_blank_lines_and_unknown_keys_in_calibration_are_ignored(drive, open_drive):
    with (drive / "calib.txt").open("a") as file:
        file.write("\ncalib_time: 09-Jan-2012 13:57:47\n\n")
    open_drive(drive).camera("image_2", "000000")


def test_real_frames(sample, open_drive):
    recording = open_drive(sample / "sequences/00", {"image_2": "P2", "image_0": "P0"})
    points = recording.points("000000")
    assert len(points) == 124_668
    assert (recording.labels("000000", len(points)) == 9).sum() == 35_281
    assert recording.image("000000", "image_0").shape == (376, 1241, 3)


NAMES = {"left": "Cam_L", "rear-view": "K 2"}


@pytest.fixture
def depot(drive, tmp_path):
    """`drive` with other names: sequence depot_1, frames 17.5 and b-2, cameras and matrices as in `NAMES`."""
    folder = tmp_path / "sequences" / "depot_1"
    for part, suffix in (("velodyne", "bin"), ("labels", "label")):
        (folder / part).mkdir(parents=True)
        for old, new in (("000000", "17.5"), ("000001", "b-2")):
            (drive / part / f"{old}.{suffix}").rename(folder / part / f"{new}.{suffix}")
    for camera, old in zip(NAMES, ("000000", "000001"), strict=True):
        (folder / camera).mkdir()
        (drive / "image_2" / f"{old}.png").rename(folder / camera / "b-2.png")
    matrices = (drive / "calib.txt").read_text().replace("P0:", "Cam_L:").replace("P2:", "K 2:")
    (folder / "calib.txt").write_text(matrices)
    return folder


def test_any_names_work(depot, open_drive, tmp_path, classes):
    recording = open_drive(depot, NAMES)
    assert (recording.sequence, recording.classes, recording.cameras) == ("depot_1", classes, NAMES)
    assert recording.frames() == ["17.5", "b-2"]
    assert recording.points("17.5").shape == (500, 4)
    assert recording.labels("b-2", 500).any()
    assert [recording.has_image(frame, "left") for frame in recording.frames()] == [False, True]
    assert recording.image("b-2", "rear-view").shape == (40, 80, 3)
    left, rear = (recording.camera(name, "b-2") for name in NAMES)
    assert (left.name, rear.name) == ("left", "rear-view")
    np.testing.assert_array_equal(left.intrinsics, [[100, 0, 40], [0, 100, 20], [0, 0, 1]])
    np.testing.assert_allclose(rear.camera_from_lidar[2, 3] - left.camera_from_lidar[2, 3], 0.01)
    assert left.crc32() != rear.crc32()
    assert recording.place(tmp_path, "depot_1") == depot
    for file in ("times.txt", "poses.txt"):
        (depot / file).touch()
    parts = recording.parts(tmp_path, "depot_1", NAMES)
    names = ("velodyne", "labels", "calib.txt", "times.txt", "poses.txt", "left", "rear-view")
    assert parts == [depot / part for part in names]
    assert recording.parts(tmp_path, "depot_2", NAMES) == []


def test_the_error_of_a_missing_matrix_lists_the_existing_ones(drive, open_drive):
    with pytest.raises(InputError, match=r"calib\.txt: has no line 'P7: \.\.\.', only P0, P1, P2, P3, Tr\. Add"):
        open_drive(drive, {"image_2": "P7"}).camera("image_2", "000000")


@pytest.mark.parametrize("name", ["Tr", "P2"])
def test_duplicate_lines_are_refused(drive, open_drive, name):
    with (drive / "calib.txt").open("a") as file:
        file.write(f"{name}: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(InputError, match=rf"calib\.txt, line 6: second line of {name}"):
        open_drive(drive).camera("image_2", "000000")


def test_duplicate_lines_of_unused_matrices_are_ignored(drive, open_drive):
    with (drive / "calib.txt").open("a") as file:
        file.write("P3: not read\n")
    open_drive(drive).camera("image_2", "000000")


@pytest.fixture
def simulated(simulated_drive, tmp_path):
    """A copy of the files of `simulated_drive` that these tests read."""
    folder = tmp_path / "sequences" / "07"
    (folder / "velodyne").mkdir(parents=True)
    for file in ("calib.txt", "poses.txt", "times.txt"):
        shutil.copy(simulated_drive / file, folder)
    for scan in (simulated_drive / "velodyne").iterdir():
        shutil.copy(scan, folder / "velodyne")
    return folder


def test_timestamps_and_poses_of_a_simulated_drive(simulated, open_drive):
    recording = open_drive(simulated)
    times, poses = recording.timestamps(), recording.poses()
    assert (times.shape, times.dtype) == ((4,), np.float64)
    np.testing.assert_array_equal(times, np.loadtxt(simulated / "times.txt"))
    assert (np.diff(times) > 0).all()
    assert (poses.shape, poses.dtype) == ((4, 4, 4), np.float64)
    words = next(line for line in (simulated / "calib.txt").read_text().splitlines() if line.startswith("Tr:")).split()
    tr = np.vstack([np.array(words[1:], float).reshape(3, 4), (0, 0, 0, 1)])
    for found, line in zip(poses, np.loadtxt(simulated / "poses.txt"), strict=True):
        np.testing.assert_allclose(found, np.vstack([line.reshape(3, 4), (0, 0, 0, 1)]) @ tr, rtol=1e-12)
    # The world frame is that of the first camera. The car drives forward: x of the LiDAR points along z of the camera.
    np.testing.assert_allclose(poses[0], tr, atol=1e-9)
    moved = poses[-1][:3, 3] - poses[0][:3, 3]
    assert moved[2] > 15
    assert abs(moved[1]) < 1


def test_the_poses_put_the_ground_of_all_frames_into_one_plane(simulated_drive, open_drive):
    """Road points near the sensor, transformed by the pose of each frame, lie in one plane: y down in camera 0."""
    recording = open_drive(simulated_drive)
    places = []
    for frame, pose in zip(recording.frames(), recording.poses(), strict=True):
        points = recording.points(frame)
        road = points[recording.labels(frame, len(points)) == 9]
        road = road[np.hypot(road[:, 0], road[:, 1]) < 8]
        places.append((pose @ np.c_[road[:, :3], np.ones(len(road))].T)[:3].T)
    x, y, z = np.concatenate(places).T
    assert z.max() - z.min() > 25
    columns = np.c_[x, z, np.ones(len(x))]
    plane = np.linalg.lstsq(columns, y, rcond=None)[0]
    assert np.abs(y - columns @ plane).std() < 0.05
    assert np.abs(plane[:2]).max() < 0.02
    assert 1.4 < plane[2] < 1.9  # camera 0 is mounted at 1.65 m


def test_times_and_poses_are_none_without_files(drive, open_drive):
    assert open_drive(drive).timestamps() is None
    assert open_drive(drive).poses() is None


@pytest.mark.parametrize(("file", "method"), [("times.txt", "timestamps"), ("poses.txt", "poses")])
def test_faults_of_times_and_poses_are_reported(simulated, open_drive, file, method):
    lines = (simulated / file).read_text().splitlines()
    last = lines[-1].split()
    count = {"times.txt": 1, "poses.txt": 12}[file]
    for faulty, message in (
        (lines[:-1], rf"{file}: 3 lines for 4 scans"),
        ([*lines, lines[-1]], rf"{file}: 5 lines for 4 scans"),
        ([*lines[:-1], " ".join(["here", *last[1:]])], rf"{file}, line 4: expected {count} numbers"),
        (
            [*lines[:-1], " ".join([*last, "0"])],
            rf"{file}, line 4: the line has {count + 1} numbers instead of {count}",
        ),
        ([*lines[:-1], ""], rf"{file}, line 4: the line has 0 numbers instead of {count}"),
        ([*lines[:-1], " ".join(["nan", *last[1:]])], rf"{file}, line 4: the line has non-finite numbers"),
    ):
        (simulated / file).write_text("\n".join(faulty) + "\n")
        with pytest.raises(InputError, match=message):
            getattr(open_drive(simulated), method)()
    (simulated / file).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=rf"{file}: is missing or not text"):
        getattr(open_drive(simulated), method)()


def test_poses_need_the_calibration(simulated, open_drive):
    (simulated / "calib.txt").write_text("P2: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(InputError, match=r"calib\.txt: has no line 'Tr: \.\.\.'"):
        open_drive(simulated).poses()
    (simulated / "calib.txt").write_text("P2: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: 2 0 0 0 0 2 0 0 0 0 2 0\n")
    with pytest.raises(InputError, match=r"calib\.txt: Tr is not a rigid motion"):
        open_drive(simulated).poses()


def test_raw_ids_that_the_table_lacks_are_reported(drive, open_drive):
    path = drive / "labels/000001.label"
    raw = np.fromfile(path, np.uint32)
    raw[5], raw[6] = 77, 78 | (3 << 16)
    raw.tofile(path)
    with pytest.raises(InputError, match=r"000001\.label: raw label ids \[77, 78\] .* class table semantickitti"):
        open_drive(drive).labels("000001", 500)
