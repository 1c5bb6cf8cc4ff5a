import numpy as np
import pytest
from PIL import Image

from elite_pipeline.config import SimulateDrive
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.recordings.projection import project
from elite_pipeline.simulation import drive

CLASSES = class_table("semantickitti")
SETTINGS = SimulateDrive(seed=7, frames=3, spacing=6.0, beams=32, columns=512, image_width=310, image_height=94)

BRIGHTNESS = [
    [121.6, 116.0, 141.0, 197.0, 169.5, 118.1, 98.2],
    [93.9, 133.7, 126.5, 147.5, 111.2, 86.0, 112.9],
    [110.5, 100.7, 108.9, 97.4, 84.1, 84.5, 103.2],
    [157.0, 140.4, 106.1, 95.5, 72.5, 89.3, 125.9],
]
PER_CLASS = [146, 959, 25, 23, 118, 594, 111, 147, 14, 5362, 1594, 1067, 510, 2399, 109, 1155, 119, 797, 126, 17]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drive") / "sequences" / "01"
    drive.write_drive(folder, "01", SETTINGS)
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_old_drives_stay_as_they_were(written):
    """Figures of this drive, noted before the world, the sensors and the appearance got keys (commit 84d347b).

    The bytes were the same then. The tolerances allow for other processors, whose last digits differ.
    """
    image = np.array(Image.open(written / "image_2" / "000001.png")).astype(float)
    blocks = image[:92, :308].reshape(4, 23, 7, 44, 3).mean((1, 3, 4))
    np.testing.assert_allclose(blocks, BRIGHTNESS, atol=0.5)
    points = np.fromfile(written / "velodyne" / "000001.bin", np.float32).reshape(-1, 4)
    labels = np.fromfile(written / "labels" / "000001.label", np.uint32) & 0xFFFF
    assert len(points) == pytest.approx(sum(PER_CLASS), abs=15)
    np.testing.assert_allclose(points.mean(0), [0.168, 0.317, -1.267, 0.186], atol=0.02)
    assert np.abs(np.bincount(CLASSES.of_raw(labels), minlength=20) - PER_CLASS).max() <= 5


def test_layout_sizes_and_types(written):
    assert sorted(p.name for p in written.iterdir()) == sorted(
        ["velodyne", "labels", "image_2", "truth", "calib.txt", "poses.txt", "times.txt", "simulated.json"]
    )
    for name in ("000000", "000001", "000002"):
        points = np.fromfile(written / "velodyne" / f"{name}.bin", np.float32).reshape(-1, 4)
        labels = np.fromfile(written / "labels" / f"{name}.label", np.uint32)
        visible = np.load(written / "truth" / "image_2" / "visible" / f"{name}.npy")
        assert len(points) == len(labels) == len(visible) > 5000
        assert visible.dtype == bool
        assert np.isfinite(points).all()
        assert set(np.unique(labels & 0xFFFF)) <= set(CLASSES.training_ids)
        image = np.array(Image.open(written / "image_2" / f"{name}.png"))
        assert image.shape == (94, 310, 3)
        assert image.dtype == np.uint8
        for truth in ("semantic", "instance"):
            values = np.array(Image.open(written / "truth" / "image_2" / truth / f"{name}.png"))
            assert values.shape == (94, 310)
            assert values.dtype == np.uint16
            if truth == "semantic":
                assert set(np.unique(values)) <= set(CLASSES.training_ids)
    assert len(list(written.rglob("*"))) == 8 + 4 + 6 * 3
    calibration = (written / "calib.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in calibration] == ["P0", "P1", "P2", "P3", "Tr"]
    assert all(len(line.split()) == 13 for line in calibration)
    poses = np.loadtxt(written / "poses.txt").reshape(-1, 3, 4)
    np.testing.assert_allclose(poses[0], np.eye(4)[:3], atol=1e-9)
    times = np.loadtxt(written / "times.txt")
    steps = np.linalg.norm(np.diff(poses[:, :, 3], axis=0), axis=1)
    np.testing.assert_allclose(steps, 6.0, rtol=0.08)
    assert poses[2, 2, 3] > 10  # forward is z in camera 0
    assert times[0] == 0
    assert (np.diff(times) > 0).all()


def test_truth_images_agree_with_labels_of_visible_points(written):
    rows = dict(line.split(":") for line in (written / "calib.txt").read_text().splitlines())
    p2, tr = (np.array(rows[key].split(), float).reshape(3, 4) for key in ("P2", "Tr"))
    projection = p2 @ np.vstack([tr, [0, 0, 0, 1]])
    agree, total = 0, 0
    for path in sorted((written / "velodyne").iterdir()):
        points = np.fromfile(path, np.float32).reshape(-1, 4).astype(float)
        raw = np.fromfile(written / "labels" / f"{path.stem}.label", np.uint32) & 0xFFFF
        truth = CLASSES.of_raw(np.array(Image.open(written / "truth" / "image_2" / "semantic" / f"{path.stem}.png")))
        visible = np.load(written / "truth" / "image_2" / "visible" / f"{path.stem}.npy")
        points[:, 3] = 1
        u, v, depth = projection @ points.T
        assert (depth[visible] > 0).all()
        column, row = (u[visible] / depth[visible]).astype(int), (v[visible] / depth[visible]).astype(int)
        assert column.min() >= 0
        assert column.max() < truth.shape[1]
        assert row.min() >= 0
        assert row.max() < truth.shape[0]
        padded = np.pad(truth, 1, mode="edge")
        shifts = [padded[1 + dr : 95 + dr, 1 + dc : 311 + dc] for dr in (-1, 0, 1) for dc in (-1, 0, 1)]
        inner = np.all([shift == truth for shift in shifts], axis=0)[row, column]
        same = truth[row, column] == CLASSES.of_raw(raw[visible])
        agree, total = agree + same[inner].sum(), total + inner.sum()
    assert total > 500
    assert agree / total > 0.97


def test_surround_cameras_look_in_four_directions_and_agree_with_point_labels(tmp_path, open_drive):
    """The drive is read like a real recording. A visible point has the label of the pixel that it falls on."""
    folder = tmp_path / "sequences" / "01"
    drive.write_drive(folder, "01", SETTINGS.model_copy(update={"frames": 1, "surround": True}))
    headings = {"image_2": 0, "image_0": 90, "image_1": 180, "image_3": -90}
    recording = open_drive(folder, {name: f"P{name[-1]}" for name in headings})
    points, labels = recording.points("000000"), recording.labels("000000", len(recording.points("000000")))
    seen = np.zeros(len(points), dtype=int)
    for name, heading in headings.items():
        camera = recording.camera(name, "000000")
        point, pixel, depth = project(points, camera, (94, 310), min_depth=0.5)
        visible = np.load(folder / f"truth/{name}/visible/000000.npy")
        kept = visible[point]
        assert kept.mean() > 0.9
        truth = recording.truth("000000", name)
        agree = truth[pixel[kept, 1].astype(int), pixel[kept, 0].astype(int)] == labels[point[kept]]
        assert agree.mean() > 0.9
        mean = points[point, :2].mean(axis=0)
        assert abs((np.degrees(np.arctan2(mean[1], mean[0])) - heading + 180) % 360 - 180) < 25
        assert (depth > 0).all()
        seen[point] += 1
    assert seen.max() <= 2
    assert (seen > 0).mean() > 0.3


def test_same_seed_and_sequence_give_the_same_bytes_and_others_differ(written, tmp_path):
    drive.write_drive(tmp_path / "again", "01", SETTINGS)
    assert files(tmp_path / "again") == files(written)
    short = SETTINGS.model_copy(update={"frames": 1})
    drive.write_drive(tmp_path / "other", "02", short)
    drive.write_drive(tmp_path / "reseeded", "01", short.model_copy(update={"seed": 8}))
    first, other, reseeded = (
        np.array(Image.open(folder / "image_2" / "000000.png")).astype(int)
        for folder in (written, tmp_path / "other", tmp_path / "reseeded")
    )
    assert np.abs(first - other).mean() > 10
    assert np.abs(first - reseeded).mean() > 10


def test_killed_writer_leaves_no_finished_folder(tmp_path, monkeypatch):
    folder = tmp_path / "04"
    write_scan = drive._write_scan

    def killed_at_the_second(partial, name, *rest):
        if name == "000001":
            raise KeyboardInterrupt
        write_scan(partial, name, *rest)

    monkeypatch.setattr(drive, "_write_scan", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        drive.write_drive(folder, "04", SETTINGS)
    assert not folder.exists()
    assert (tmp_path / "04.partial").exists()

    monkeypatch.undo()
    (tmp_path / "04.partial" / "velodyne" / "999999.bin").touch()
    drive.write_drive(folder, "04", SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["04"]
    assert not (folder / "velodyne" / "999999.bin").exists()


def test_every_class_occurs_and_moving_things_have_moving_ids():
    settings = SETTINGS.model_copy(update={"frames": 4, "beams": 64})
    counts, raws, complete = np.zeros(len(CLASSES), int), set(), 0
    for sequence in range(6):
        world, rng = drive.drive_world(f"{sequence:02d}", settings)
        scene, own = drive.Scene(world), np.zeros(len(CLASSES), int)
        for frame in range(settings.frames):
            time = frame * settings.spacing / drive.EGO_SPEED
            scene.set_time(time)
            turn = drive.scan(scene, drive.Lidar(64, 512), drive.velodyne_pose(world, time), rng)
            own += np.bincount(CLASSES.of_raw(turn.semantic), minlength=len(CLASSES))
            raws |= set(np.unique(turn.semantic).tolist())
            assert (turn.instance[np.isin(turn.semantic, (40, 48, 50, 70))] == 0).all()
            assert (turn.instance[np.isin(turn.semantic, (10, 252, 254))] > 0).all()
        counts += own
        complete += (own[1:] > 0).all()
    assert (counts[1:] > 50).all(), dict(zip(CLASSES.names, counts.tolist(), strict=True))
    assert complete >= 4
    assert raws >= {252, 253, 254, 255, 258}
