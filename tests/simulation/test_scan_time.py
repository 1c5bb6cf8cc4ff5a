"""A scan that takes time: standing things stay where they are, moving things are smeared."""

import numpy as np
import pytest

from elite_pipeline.config import SimulateDrive
from elite_pipeline.simulation.drive import AHEAD, Instant, drive_world, rig, velodyne_pose
from elite_pipeline.simulation.lidar import Lidar, column_times
from elite_pipeline.simulation.scene import Scene
from elite_pipeline.simulation.site import MOVING

TIME = 2.0
SETTINGS = SimulateDrive(
    seed=17, frames=8, spacing=3.0, beams=32, columns=512, image_width=64, image_height=24, world="city"
)


@pytest.fixture(scope="module")
def scene():
    return Scene(drive_world("41", SETTINGS)[0])


def scanned(scene, seconds, seed=0):
    settings = SETTINGS.model_copy(update={"scan_seconds": seconds})
    frame = Instant(scene, rig(settings), AHEAD, TIME, np.array([TIME]))
    return frame.turn(settings, np.random.default_rng(seed))


def test_a_turn_begins_and_ends_behind_the_vehicle():
    times = column_times(Lidar(32, 512), 5.0, 0.1)
    assert times[0] == 5.0  # straight ahead
    assert times[128] == pytest.approx(5.025)  # to the left
    assert times[255] == pytest.approx(5.05, abs=2e-4)
    assert times[256] == pytest.approx(4.95)
    assert times[384] == pytest.approx(4.975)


def test_standing_things_are_where_they_are(scene):
    """Rays from the reference pose to the points of standing things end at these points."""
    turn = scanned(scene, 0.1)
    still = ~np.isin(turn.semantic, list(MOVING.values()))
    pose = velodyne_pose(scene.world, TIME)
    towards = turn.surface[still] @ pose[:3, :3].T
    scene.set_time(TIME)
    reached = scene.distance(pose[:3, 3], towards)
    error = np.abs(reached - 1) * np.linalg.norm(towards, axis=1)
    assert np.percentile(error, 75) < 0.01  # the others are hidden from there by something nearer
    assert len(turn.points) > 0.95 * len(scanned(scene, 0.0).points)


def test_moving_things_are_where_the_laser_met_them(scene):
    """Each point of a moving thing lies on its surface at the time of its own column, and not at the reference time."""
    turn, world = scanned(scene, 0.1), scene.world
    times = column_times(Lidar(32, 512), TIME, 0.1)[turn.ray % 512]
    reference = velodyne_pose(world, TIME)
    place = turn.surface @ reference[:3, :3].T + reference[:3, 3]
    shifts = {}
    first = len(world.instance) - len(world.movers)
    for number, mover in enumerate(world.movers):
        rows = np.flatnonzero(turn.instance == world.instance[first + number])
        if len(rows) < 30:
            continue
        low, high = mover.mesh.vertices.min(0) - 0.05, mover.mesh.vertices.max(0) + 0.05

        def inside(when, rows=rows, mover=mover, low=low, high=high):
            pose = np.stack([np.linalg.inv(mover.pose(t, world.road, world.ground)) for t in when])
            own = np.einsum("nij,nj->ni", pose[:, :3, :3], place[rows]) + pose[:, :3, 3]
            return ((own >= low) & (own <= high)).all(1).mean()

        assert inside(times[rows]) > 0.99
        shifts[number] = abs(mover.speed) * np.abs(times[rows] - TIME).mean()
    assert len(shifts) > 3
    assert max(shifts.values()) > 0.1  # metres: some of them are smeared


def test_oncoming_vehicle_is_displaced_along_its_way(scene):
    """Beside the vehicle on the left, the laser comes 25 ms later: oncoming things have moved on by then."""
    instant, turn = scanned(scene, 0.0), scanned(scene, 0.1)
    world, displaced = scene.world, []
    first = len(world.instance) - len(world.movers)
    for number, mover in enumerate(world.movers):
        instance = world.instance[first + number]
        before, after = (t.surface[t.instance == instance] for t in (instant, turn))
        if mover.speed < -6 and min(len(before), len(after)) > 60 and before[:, 1].mean() > 2:
            angle = np.arctan2(before[:, 1].mean(), before[:, 0].mean())
            displaced.append((after[:, 0].mean() - before[:, 0].mean(), mover.speed * 0.1 * angle / (2 * np.pi)))
    assert displaced
    for found, expected in displaced:
        assert found == pytest.approx(expected, abs=0.25)
