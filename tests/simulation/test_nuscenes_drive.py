"""A simulated scene in nuScenes' layout: files, tables, rays in columns, and points that lie where the images say."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from elite_pipeline.config import Dataset, SensorNoise, SimulateDrive
from elite_pipeline.config.validation import validate
from elite_pipeline.config.worlds import NUSCENES_CAMERAS, Deviation, PoseNoise, refuse_other_rigs
from elite_pipeline.errors import InputError
from elite_pipeline.simulation.drive import drive_world
from elite_pipeline.simulation.nuscenes_drive import write_nuscenes_drive
from elite_pipeline.simulation.nuscenes_rig import (
    CATEGORIES,
    EGO,
    LIDAR,
    ColumnLidar,
    NuScenesIds,
    lidar_mount,
    pose_of,
    quaternion,
    rig_cameras,
)
from elite_pipeline.simulation.raw_ids import simulated_classes

SETTINGS = SimulateDrive(
    seed=5,
    frames=2,
    spacing=4.0,
    beams=32,
    columns=240,
    image_width=160,
    image_height=90,
    surround=True,
    scan_seconds=0.05,
)
NOISE = {
    "calibration": {"calibration": Deviation(metres=0.02, degrees=0.3)},
    "camera_time": {"camera_time": 0.02},
    "poses": {"poses": PoseNoise(jitter=Deviation(metres=0.05), drift=Deviation(metres=1.0))},
    "labels": {"labels": 0.05},
}
BIN = CATEGORIES.index("movable_object.pushable_pullable")
STATIC = [CATEGORIES.index(name) for name in CATEGORIES if name.startswith(("flat", "static.manmade"))]


def write(root, frames=2, **noise):
    folder = root / "sequences" / "scene-0103"
    update = {"frames": frames, "noise": SensorNoise(**noise) if noise else None}
    write_nuscenes_drive(folder, folder.name, SETTINGS.model_copy(update=update))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("nuscenes"))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A drive with errors of every kind but the shutters' times, so that its images are those of `written`."""
    chosen = {key: value for kind in ("calibration", "poses", "labels") for key, value in NOISE[kind].items()}
    return write(tmp_path_factory.mktemp("noisy"), **chosen)


def tables(folder):
    return json.loads((folder / "tables.json").read_text())


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Frames:
    """Reads a scene by its tables alone, as the reference describes the format."""

    def __init__(self, folder, truth=False):
        self.folder, self.root = folder, folder.parents[1]
        self.rows = tables(folder / "truth" if truth else folder)
        self.by_token = {name: {row["token"]: row for row in rows} for name, rows in self.rows.items()}

    def keyframes(self):
        """Yields {channel: row of sample_data} of each sample."""
        for sample in self.rows["sample"]:
            rows = [row for row in self.rows["sample_data"] if row["sample_token"] == sample["token"]]
            yield {self.channel(row): row for row in rows}

    def channel(self, row):
        mount = self.by_token["calibrated_sensor"][row["calibrated_sensor_token"]]
        return self.by_token["sensor"][mount["sensor_token"]]["channel"]

    def mount(self, row):
        return self._pose("calibrated_sensor", row["calibrated_sensor_token"])

    def ego(self, row):
        return self._pose("ego_pose", row["ego_pose_token"])

    def _pose(self, table, token):
        found = self.by_token[table][token]
        return pose_of(found["translation"], found["rotation"])

    def points(self, scan):
        return np.fromfile(self.root / scan["filename"], np.float32).reshape(-1, 5)

    def labels(self, scan):
        return np.fromfile(self.folder / "lidarseg" / f"{scan['token']}_lidarseg.bin", np.uint8)

    def camera_from_lidar(self, scan, image, moving=True):
        ego = self.ego(image if moving else scan)
        return np.linalg.inv(ego @ self.mount(image)) @ self.ego(scan) @ self.mount(scan)

    def pixels(self, scan, image, moving=True):
        """(N, 2) pixels and (N,) depths of all points."""
        matrix = self.camera_from_lidar(scan, image, moving)
        place = self.points(scan)[:, :3].astype(float) @ matrix[:3, :3].T + matrix[:3, 3]
        mount = self.by_token["calibrated_sensor"][image["calibrated_sensor_token"]]
        pixel = place @ np.array(mount["camera_intrinsic"]).T
        return pixel[:, :2] / pixel[:, 2:], place[:, 2]


def test_layout_names_and_sizes(written):
    frames = Frames(written)
    assert {path.name for path in written.iterdir()} == {
        *("samples", "lidarseg", "panoptic", "truth", "tables.json", "simulated.json")
    }
    assert {path.name for path in (written / "samples").iterdir()} == {LIDAR, *NUSCENES_CAMERAS}
    start = None
    for number, keyframe in enumerate(frames.keyframes()):
        scan = keyframe[LIDAR]
        start = start or scan["timestamp"]
        assert scan["timestamp"] == start + number * 500_000
        assert len(str(scan["timestamp"])) == 16
        points, labels = frames.points(scan), frames.labels(scan)
        assert len(points) == len(labels) == 32 * SETTINGS.columns
        assert np.isfinite(points).all()
        assert np.array_equal(points[:, 3], points[:, 3].round())
        assert (points[:, 3] >= 0).all()
        assert (points[:, 3] <= 255).all()
        panoptic = np.load(written / "panoptic" / f"{scan['token']}_panoptic.npz")["data"]
        assert panoptic.dtype == np.uint16
        assert np.array_equal(panoptic // 1000, labels)
        things = (labels >= 1) & (labels <= 23) & (labels != BIN)
        assert ((panoptic % 1000 > 0) == things).all()
        for channel in NUSCENES_CAMERAS:
            row = keyframe[channel]
            path = frames.root / row["filename"]
            assert path.name == f"n000-2030-01-02-04-36-40+0000__{channel}__{row['timestamp']}.jpg"
            assert row["timestamp"] - scan["timestamp"] == rig_cameras(160, 90)[channel].trigger
            assert Image.open(path).size == (row["width"], row["height"]) == (160, 90)
            for kind in ("semantic", "instance"):
                truth = np.array(Image.open(written / "truth" / channel / kind / f"{scan['timestamp']}.png"))
                assert truth.shape == (90, 160)
                assert truth.max() < (len(CATEGORIES) if kind == "semantic" else 1000)
            visible = np.load(written / "truth" / channel / "visible" / f"{scan['timestamp']}.npy")
            assert visible.shape == labels.shape
            assert visible.dtype == bool


def test_every_token_leads_somewhere_and_files_are_named_once(written):
    frames, ends = Frames(written), {"prev", "next"}
    known = {row["token"] for rows in frames.rows.values() for row in rows}
    for rows in frames.rows.values():
        assert len({row["token"] for row in rows}) == len(rows)
        for row in rows:
            for key, value in row.items():
                if key.endswith("token") or key in ends:
                    assert (key in ends and value == "") or (len(value) == 32 and value in known), (key, value)
    named = {row["filename"] for row in frames.rows["sample_data"]}
    assert named == {str(path.relative_to(frames.root)) for path in (written / "samples").rglob("*.*")}
    scene, samples = frames.rows["scene"][0], frames.rows["sample"]
    assert scene["name"] == "scene-0103"
    assert scene["nbr_samples"] == len(samples) == 2
    assert (scene["first_sample_token"], scene["last_sample_token"]) == (samples[0]["token"], samples[1]["token"])
    assert samples[0]["next"] == samples[1]["token"]
    assert [row["token"] for row in frames.rows["lidarseg"]] == [k[LIDAR]["token"] for k in frames.keyframes()]
    assert {row["ego_pose_token"] for row in frames.rows["sample_data"]} == {
        row["token"] for row in frames.rows["ego_pose"]
    }


def test_the_rig_is_the_real_one_scaled():
    cameras = rig_cameras(1600, 900)
    assert tuple(cameras) == NUSCENES_CAMERAS
    assert cameras["CAM_BACK"].intrinsics[0] == pytest.approx([809.220991, 0, 829.2196])
    half = rig_cameras(800, 450)["CAM_BACK"].intrinsics
    assert half[:2] * 2 == pytest.approx(cameras["CAM_BACK"].intrinsics[:2])
    yaw = {name: np.degrees(np.arctan2(c.mount[1, 2], c.mount[0, 2])) for name, c in cameras.items()}
    expected = [0.3, -56.4, -110.8, 179.9, 108.6, 55.2]
    assert [yaw[name] for name in NUSCENES_CAMERAS] == pytest.approx(expected, abs=0.06)
    assert lidar_mount()[:3, :3] == pytest.approx(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), abs=0.03)
    w, *rest = quaternion(pose_of((0, 0, 0), (0.5, -0.5, 0.5, -0.5)))
    assert np.sign(w) * np.array([w, *rest]) == pytest.approx([0.5, -0.5, 0.5, -0.5])


def test_rays_come_in_columns_and_turn_clockwise_from_the_left():
    lidar = ColumnLidar(columns=1084)
    rays = lidar.directions().reshape(1084, 32, 3)
    elevation = np.degrees(np.arcsin(rays[..., 2]))
    assert elevation == pytest.approx(np.tile(-30.67 + 1.333 * np.arange(32), (1084, 1)), abs=1e-3)
    azimuth = np.unwrap(np.arctan2(rays[:, 0, 1], rays[:, 0, 0]))
    assert np.degrees(azimuth[0]) == pytest.approx(-177, abs=1e-3)
    assert np.degrees(np.diff(azimuth)) == pytest.approx(np.full(1083, -360 / 1084), abs=1e-3)
    ahead = rays[:, 0, 1].argmax()
    times = lidar.times(7.0, 0.05)
    assert times[0] == pytest.approx(6.95)
    assert times[-1] == pytest.approx(7.0, abs=1e-4)
    # Cameras are triggered when the beam sweeps the centre of their view.
    assert times[ahead] - 7.0 == pytest.approx(rig_cameras(1600, 900)["CAM_FRONT"].trigger / 1e6, abs=3e-3)


def test_points_of_a_scan_are_on_their_rays(written):
    lidar, frames = ColumnLidar(columns=SETTINGS.columns), Frames(written)
    for keyframe in frames.keyframes():
        points = frames.points(keyframe[LIDAR])
        assert np.array_equal(points[:, 4], np.tile(np.arange(32), SETTINGS.columns))
        distance = np.linalg.norm(points[:, :3], axis=1)
        far = distance > 20  # beside these, the compensated motion of up to 0.4 m is small
        cosine = np.einsum("ij,ij->i", points[:, :3], lidar.directions()) / np.maximum(distance, 1e-9)
        assert far.sum() > 500
        assert np.degrees(np.arccos(cosine[far].clip(-1, 1))).max() < 1.5


def test_the_roof_and_missing_returns_are_near_the_sensor(written):
    frames = Frames(written)
    for keyframe in frames.keyframes():
        points, labels = frames.points(keyframe[LIDAR]), frames.labels(keyframe[LIDAR])
        distance = np.linalg.norm(points[:, :3], axis=1)
        ego = labels == EGO
        assert 0.1 < ego.mean() < 0.4
        assert distance[~ego].min() > 1.0
        assert distance[ego].max() < 1.5
        assert (distance[ego] < 1).mean() > 0.95
        roof = ego & (points[:, 2] < -0.2)
        assert 0.04 < roof.mean() < 0.15
        assert points[roof, 4].max() < 12  # low beams
        # The others have range 0 and move back with the vehicle: the earlier in the turn, the further.
        missing = np.flatnonzero(ego & ~roof)
        behind = -8.0 * 0.05 * (1 - missing // 32 / SETTINGS.columns)
        assert points[missing, 1] == pytest.approx(behind, abs=0.02)
        assert points[missing, 0] == pytest.approx(np.zeros(len(missing)), abs=0.02)


def test_points_lie_where_the_images_say_only_with_both_ego_poses(written):
    frames, agreement = Frames(written), {True: [], False: []}
    for keyframe in frames.keyframes():
        scan = keyframe[LIDAR]
        labels = frames.labels(scan)
        for channel in NUSCENES_CAMERAS:
            name = scan["timestamp"]
            truth = np.array(Image.open(written / "truth" / channel / "semantic" / f"{name}.png"))
            visible = np.load(written / "truth" / channel / "visible" / f"{name}.npy")
            for moving, values in agreement.items():
                pixel, depth = frames.pixels(scan, keyframe[channel], moving)
                inside = (depth > 0) & ((pixel >= 0) & (pixel < (160, 90))).all(1)
                shown = visible & np.isin(labels, STATIC)
                if moving:
                    assert inside[visible].all()
                rows = np.flatnonzero(shown & inside)
                column, row = pixel[rows].astype(int).T
                inner = maximum_filter(truth, 3)[row, column] == minimum_filter(truth, 3)[row, column]
                same = truth[row, column] == labels[rows]
                values.append(np.column_stack([same, inner, np.full(len(same), len(values))]))
    right, wrong = (np.concatenate(agreement[moving]) for moving in (True, False))
    assert len(right) > 3000
    assert right[right[:, 1] == 1, 0].mean() > 0.99
    assert right[:, 0].mean() > wrong[:, 0].mean() > 0.9
    # CAM_FRONT_LEFT and CAM_FRONT_RIGHT look to the side, long before the scan.
    sides = [k for k in range(12) if NUSCENES_CAMERAS[k % 6] in ("CAM_FRONT_LEFT", "CAM_FRONT_RIGHT")]
    errors = [1 - values[np.isin(values[:, 2], sides), 0].mean() for values in (right, wrong)]
    assert errors[1] > 1.5 * errors[0]


def test_errors_change_tables_and_labels_and_all_else_has_the_same_bytes(written, noisy):
    plain, found = files(written), files(noisy)
    moved = {name: f"truth/{name}" for name in plain if name.startswith(("lidarseg/", "panoptic/", "tables.json"))}
    assert set(found) == {*plain, *moved.values()}
    for name, content in plain.items():
        if name != "simulated.json":
            assert found[moved.get(name, name)] == content, name
    right, wrong = Frames(noisy, truth=True), Frames(noisy)
    shares = []
    for ours, theirs in zip(right.keyframes(), wrong.keyframes(), strict=True):
        labels = np.fromfile(noisy / "truth/lidarseg" / f"{ours[LIDAR]['token']}_lidarseg.bin", np.uint8)
        shares.append((labels != wrong.labels(theirs[LIDAR])).mean())
        assert 0.01 < np.linalg.norm(right.ego(ours[LIDAR])[:3, 3] - wrong.ego(theirs[LIDAR])[:3, 3]) < 2
        for channel in NUSCENES_CAMERAS:
            # The errors of the poses cancel, those of the mounts do not.
            matrices = [f.camera_from_lidar(k[LIDAR], k[channel]) for f, k in ((right, ours), (wrong, theirs))]
            mounts = [f.mount(k[channel]) for f, k in ((right, ours), (wrong, theirs))]
            assert mounts[1] @ matrices[1] == pytest.approx(mounts[0] @ matrices[0], abs=1e-6)
            assert 1e-3 < np.abs(mounts[0] - mounts[1]).max() < 0.1
    assert 0.02 < np.mean(shares) < 0.07


def test_late_shutters_are_in_the_truth_only(tmp_path):
    late = write(tmp_path, frames=1, **NOISE["camera_time"])
    right, said = Frames(late, truth=True), Frames(late)
    for ours, theirs in zip(right.keyframes(), said.keyframes(), strict=True):
        assert right.ego(ours[LIDAR]) == pytest.approx(said.ego(theirs[LIDAR]), abs=1e-9)
        away = [np.linalg.norm(right.ego(ours[c])[:3, 3] - said.ego(theirs[c])[:3, 3]) for c in NUSCENES_CAMERAS]
        assert 0.01 < max(away) < 0.6


def test_every_raw_id_has_a_category_and_tractors_are_no_trailers():
    kinds, known = {}, [raw for raw in simulated_classes().training_ids if raw not in (16, 256)]  # no trams
    for number in range(2):
        world, _ = drive_world(f"{number:02d}", SETTINGS.model_copy(update={"frames": 8, "world": "city"}))
        ids = NuScenesIds(world)
        assert (ids.raw(np.array(known), np.zeros(len(known), int)) < len(CATEGORIES)).all()
        things = np.flatnonzero(world.instance)
        raw = world.semantic[np.searchsorted(world.object, things)]
        category = ids.raw(raw, world.instance[things])
        labels = ids.panoptic(category, world.instance[things])
        assert len(np.unique(labels)) == len(things)
        assert (labels % 1000 > 0).all()
        for thing, one in zip(things, category, strict=True):
            kinds.setdefault(world.kind[thing], set()).add(CATEGORIES[one])
    assert kinds == {
        "bicycle": {"vehicle.bicycle"},
        "bicyclist": {"vehicle.bicycle"},
        "bus": {"vehicle.bus.rigid"},
        "car": {"vehicle.car"},
        "motorcycle": {"vehicle.motorcycle"},
        "motorcyclist": {"vehicle.motorcycle"},
        "pedestrian": {"human.pedestrian.adult"},
        "person": {"human.pedestrian.adult"},
        "tractor": {"vehicle.construction"},
        "trailer": {"vehicle.trailer"},
        "truck": {"vehicle.truck"},
    }


def test_a_data_set_with_another_rig_is_refused():
    drive = SETTINGS.model_dump(mode="json")
    values = {"format": "nuscenes", "simulate_drive": drive, "cameras": {"CAM_BACK": "CAM_BACK"}, "train": "mini_train"}
    values |= {"val": "mini_val", "label_images": {"labeller": "sparse"}}
    assert validate(Dataset, values, "x").val == ["scene-0103", "scene-0916"]
    values["simulate_drive"] = {**drive, "beams": 64}
    with pytest.raises(InputError, match="nuScenes' LiDAR has 32 beams"):
        validate(Dataset, values, "x")
    validate(Dataset, {**values, "format": "semantickitti", "train": ["00"], "val": ["01"]}, "x")


def test_another_rig_is_refused():
    refuse_other_rigs(SETTINGS, NUSCENES_CAMERAS[:2])
    changes = {"beams": 64, "image_height": 100, "surround": False}
    with pytest.raises(ValueError, match=r"beams: 32.*16:9.*160 x 100.*surround: true.*'CAM_TOP'"):
        refuse_other_rigs(SETTINGS.model_copy(update=changes), ["CAM_FRONT", "CAM_TOP"])
    with pytest.raises(ValueError, match="apart"):
        refuse_other_rigs(SETTINGS.model_copy(update={"apart": 1.0}), NUSCENES_CAMERAS)
