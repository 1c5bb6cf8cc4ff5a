"""Errors of the rig: wrong values in the recording, right ones in truth/, and the same world."""

from itertools import pairwise

import numpy as np
import pytest

from elite_pipeline.config import SensorNoise, SimulateDrive
from elite_pipeline.config.worlds import Deviation, PoseNoise
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.simulation.calibration import kitti_calibration, surround_calibration
from elite_pipeline.simulation.drive import write_drive
from elite_pipeline.simulation.noise import misjudged_calibration, misjudged_poses

CLASSES = class_table("semantickitti")
PLAIN = SimulateDrive(seed=7, frames=3, spacing=3.0, beams=16, columns=256, image_width=96, image_height=32)
KINDS = {
    "calibration": {"calibration": Deviation(metres=0.02, degrees=0.3)},
    "camera_time": {"camera_time": 0.02},
    "poses": {"poses": PoseNoise(jitter=Deviation(metres=0.05), drift=Deviation(metres=1.0))},
    "labels": {"labels": 0.05},
}


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    """Files of the drive without noise (`plain`), with noise of size zero (`none`), and with each kind alone."""
    folder, written = tmp_path_factory.mktemp("noise"), {}
    settings = {"plain": None, "none": SensorNoise(), **{kind: SensorNoise(**keys) for kind, keys in KINDS.items()}}
    for name, noise in settings.items():
        write_drive(folder / name, "01", PLAIN.model_copy(update={"noise": noise}))
        written[name] = files(folder / name)
        written[name].pop("simulated.json")
    return written


def labels(drive, folder):
    return [np.frombuffer(drive[f"{folder}/{frame:06d}.label"], np.uint32) for frame in range(3)]


def same_numbers(one, other):
    """Whether two text files hold the same numbers; the last digits differ after a multiplication by the identity."""
    values = [[float(word) for word in text.decode().split() if ":" not in word] for text in (one, other)]
    return np.allclose(*values, atol=1e-6)


def test_without_noise_nothing_is_added(drives):
    assert not [name for name in drives["plain"] if name.startswith("truth/") and not name.startswith("truth/image_2")]
    assert "truth/image_2/times.txt" not in drives["plain"]


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_the_world_and_the_truth_do_not_depend_on_noise(drives, kind):
    plain, drive = drives["plain"], drives[kind]
    right = {"calib.txt": "truth/calib.txt", "poses.txt": "truth/poses.txt"}
    right |= {f"labels/{frame:06d}.label": f"truth/labels/{frame:06d}.label" for frame in range(3)}
    assert set(drive) == {*plain, *right.values(), "truth/image_2/times.txt"}
    for name, content in plain.items():
        if kind != "camera_time" or "image_2" not in name:
            assert drive[right.get(name, name)] == content, name


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("none", set()),
        ("calibration", {"calib.txt"}),
        ("poses", {"poses.txt"}),
        ("labels", {f"labels/{frame:06d}.label" for frame in range(3)}),
    ],
)
def test_each_kind_changes_its_own_files_only(drives, kind, changed):
    different = {name for name, content in drives["plain"].items() if drives[kind][name] != content}
    for name in {"calib.txt", "poses.txt"} - changed:
        assert same_numbers(drives[kind][name], drives["plain"][name])
        different.discard(name)
    assert different == changed


def test_shutter_times_shift_the_image(drives):
    drive = drives["camera_time"]
    nominal = np.array(drive["times.txt"].split(), float)
    shutter = np.array(drive["truth/image_2/times.txt"].split(), float)
    assert 0.002 < np.abs(shutter - nominal).max() < 0.1
    assert np.abs(shutter - nominal).min() > 0
    assert drive["image_2/000001.png"] != drives["plain"]["image_2/000001.png"]
    assert drive["times.txt"] == drives["plain"]["times.txt"]


def test_the_stated_share_of_the_labels_is_wrong_in_patches(drives):
    wrong, right = (np.concatenate(labels(drives["labels"], folder)) for folder in ("labels", "truth/labels"))
    kinds = [CLASSES.of_raw(values & 0xFFFF) for values in (wrong, right)]
    errors = kinds[0] != kinds[1]
    assert 0.04 < errors.mean() < 0.07
    assert len(set(kinds[1][errors])) > 4  # classes that lose points
    points = np.concatenate(
        [np.frombuffer(drives["plain"][f"velodyne/{frame:06d}.bin"], np.float32).reshape(-1, 4) for frame in range(3)]
    )
    frame = np.repeat(np.arange(3), [len(values) for values in labels(drives["labels"], "labels")])
    near = []  # share of the nearest neighbours of a wrong point that are wrong too
    for number in range(3):
        own, place = errors[frame == number], points[frame == number, :3]
        for row in np.flatnonzero(own)[::7]:
            away = np.square(place - place[row]).sum(1)
            away[row] = np.inf
            near.append(own[np.argmin(away)])
    assert np.mean(near) > 0.6  # were the errors independent, it would be 0.05


def test_drift_grows_and_jitter_does_not():
    still = np.tile(np.eye(4), (201, 1, 1))
    still[:, 0, 3] = np.arange(201) * 0.5
    rng = np.random.default_rng(0)
    drift, jitter = PoseNoise(drift=Deviation(metres=1.0)), PoseNoise(jitter=Deviation(metres=0.1))
    errors = np.array([misjudged_poses(rng, still, drift)[:, :3, 3] - still[:, :3, 3] for _ in range(60)])
    spread = errors.std(axis=(0, 2))
    assert spread[0] == 0
    assert spread[50] == pytest.approx(0.5, rel=0.25)  # 25 m
    assert spread[200] == pytest.approx(1.0, rel=0.25)  # 100 m
    errors = np.array([misjudged_poses(rng, still, jitter)[:, :3, 3] - still[:, :3, 3] for _ in range(10)])
    assert errors[:, :100].std() == pytest.approx(0.1, rel=0.15)
    assert errors[:, 100:].std() == pytest.approx(0.1, rel=0.15)


def test_calibration_errors_move_pixels_by_their_angle():
    right = kitti_calibration(1241, 376)
    point = np.array([2.0, 1.0, 30.0, 1.0])
    u, _, depth = right.projection["P2"] @ point
    moved = []
    for seed in range(200):
        wrong = misjudged_calibration(np.random.default_rng(seed), right, Deviation(degrees=0.1))
        a, _, b = wrong.projection["P2"] @ point
        moved.append(a / b - u / depth)
        assert np.array_equal(wrong.camera0_from_velodyne, right.camera0_from_velodyne)
    assert np.std(moved) == pytest.approx(718.856 * np.radians(0.1), rel=0.15)


def test_cameras_stand_apart():
    rig = surround_calibration(512, 160, apart=1.2)
    centres = {name: rig.camera0_from_camera(name)[:3, 3] for name in ("P2", "P0", "P1", "P3")}
    ring = [centres[name] for name in ("P2", "P0", "P1", "P3", "P2")]
    for one, other in pairwise(ring):
        assert np.linalg.norm(one - other) == pytest.approx(1.2)
    together = surround_calibration(512, 160)
    ahead = rig.camera0_from_camera("P2")[:3, 3] - together.camera0_from_camera("P2")[:3, 3]
    np.testing.assert_allclose(ahead, [0, 0, 1.2 / np.sqrt(2)], atol=1e-9)
    left = rig.camera0_from_camera("P0")[:3, 3] - together.camera0_from_camera("P0")[:3, 3]
    np.testing.assert_allclose(left, [-1.2 / np.sqrt(2), 0, 0], atol=1e-9)
