import numpy as np
import pytest

from elite_pipeline.config import SimulateDrive
from elite_pipeline.simulation.drive import drive_world, velodyne_pose
from elite_pipeline.simulation.lidar import Lidar, scan
from elite_pipeline.simulation.ranges import CITY_RANGES, DRIVE_RANGES, RANDOM_RANGES
from elite_pipeline.simulation.scene import Scene
from elite_pipeline.simulation.site import EGO_SPEED
from elite_pipeline.simulation.world import THINGS, build_world

LENGTH = 24.0


def world(seed, ranges=DRIVE_RANGES, length=LENGTH):
    return build_world(np.random.default_rng(seed), ranges, length, length / EGO_SPEED)


@pytest.mark.parametrize("ranges", [DRIVE_RANGES, RANDOM_RANGES, CITY_RANGES], ids=["drive", "random", "city"])
@pytest.mark.parametrize("seed", range(20))
def test_any_seed_gives_a_valid_world(seed, ranges):
    built = world(seed, ranges)
    triangles = len(built.material)
    assert np.isfinite(built.standing.vertices).all()
    assert built.standing.triangles.max() < len(built.standing.vertices)
    assert len(built.standing.triangles) + sum(len(m.mesh.triangles) for m in built.movers) == triangles
    assert {len(a) for a in (built.uv, built.semantic, built.tint, built.object)} == {triangles}
    assert built.object.max() + 1 == len(built.instance) == len(built.detail)
    assert built.tint.min() >= 0
    assert built.tint.max() <= 1
    assert np.isfinite(built.uv).all()


def test_one_instance_per_thing_and_none_for_stuff():
    built = world(3)
    raw = np.zeros(len(built.instance), np.int64)
    raw[built.object] = built.semantic
    things = np.isin(raw, sorted(THINGS))
    assert (built.instance[~things] == 0).all()
    assert len(np.unique(built.instance[things])) == things.sum()
    assert built.instance[things].min() == 1


def test_moving_things_move_at_their_speed():
    built = world(5)
    assert {raw for m in built.movers for raw in np.unique(m.mesh.semantic)} >= {252, 253, 254, 255}
    for mover in built.movers:
        before, after = (mover.pose(time, built.road, built.ground)[:3, 3] for time in (1.0, 1.5))
        if min(before[2], after[2]) > -100:
            # In a bend, a lane is longer or shorter than the centreline.
            assert np.linalg.norm(after - before) == pytest.approx(abs(mover.speed) * 0.5, rel=0.25)


@pytest.mark.parametrize("ranges", [DRIVE_RANGES, CITY_RANGES], ids=["drive", "city"])
@pytest.mark.parametrize("seed", range(8))
def test_nothing_drives_through_the_ego_vehicle(seed, ranges):
    length = 400.0
    built = world(seed, ranges, length=length)
    for time in np.arange(0, length / EGO_SPEED, 0.25):
        for mover in built.movers:
            along = abs(mover.at(time) - EGO_SPEED * time)
            half = np.ptp(mover.mesh.vertices[:, 1]) / 2
            assert along > 8 or abs(mover.d - built.lane) > 0.9 + half


@pytest.mark.parametrize("ranges", [DRIVE_RANGES, CITY_RANGES], ids=["drive", "city"])
@pytest.mark.parametrize("seed", range(8))
def test_nothing_stands_in_the_traffic_lanes(seed, ranges):
    length = 150.0
    built = world(seed, ranges, length=length)
    built = type(built)(**{**vars(built), "movers": built.movers[:1]})
    scene = Scene(built)
    s = np.arange(0.0, length, 0.5)
    for lane in (built.lane, -built.lane):
        eyes = built.road.place(s, np.full_like(s, lane), np.full_like(s, 3.2))
        ahead = np.diff(eyes, axis=0)
        hits = scene.cast(eyes[:-1], ahead - np.array([0, 0, 0.2]))
        near = hits.distance < 8
        assert set(hits.semantic[near]) <= {40, 60, *THINGS}
        down = scene.cast(eyes, np.broadcast_to([0.0, 0, -1], eyes.shape))
        assert set(down.semantic) <= {40, 60, 252, 253, 254, 255, 257, 258, 70}  # 70: a tree may reach over the road


def test_random_ranges_are_wider_than_drive_ranges():
    for name, (low, high) in ((n, v) for n, v in vars(DRIVE_RANGES).items() if isinstance(v, tuple)):
        wide_low, wide_high = getattr(RANDOM_RANGES, name)
        assert wide_low <= low
        assert high <= wide_high
        assert wide_high - wide_low > high - low, name


def test_rare_classes_are_more_frequent_in_city_than_in_streets(classes):
    """Points of the rarest classes of `streets`, over three scans of four places each."""
    counts = {}
    for name in ("streets", "city"):
        counts[name] = np.zeros(len(classes), int)
        for sequence in ("00", "01", "02", "03"):
            settings = SimulateDrive(
                seed=3, frames=6, spacing=8.0, beams=32, columns=256, image_width=8, image_height=8, world=name
            )
            built, rng = drive_world(sequence, settings)
            scene = Scene(built)
            for time in (0.5, 3.0, 5.5):
                scene.set_time(time)
                turn = scan(scene, Lidar(32, 256), velodyne_pose(built, time), rng)
                counts[name] += np.bincount(classes.of_raw(turn.semantic), minlength=len(classes))
    more = {name: counts["city"][k] / max(1, counts["streets"][k]) for k, name in enumerate(classes.names)}
    assert more["traffic-sign"] > 5
    assert more["bicycle"] > 1.5
    assert more["pole"] > 1.2
    assert more["trunk"] > 1.2
    assert (counts["city"][1:] > 0.001 * counts["city"].sum()).all()
