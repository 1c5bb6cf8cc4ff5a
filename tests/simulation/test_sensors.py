import numpy as np
import pytest

from elite_pipeline.config import SimulateDrive
from elite_pipeline.simulation.calibration import kitti_calibration
from elite_pipeline.simulation.camera import photograph, pinhole
from elite_pipeline.simulation.drive import drive_world, seen_by_camera, velodyne_pose
from elite_pipeline.simulation.lidar import Lidar, scan
from elite_pipeline.simulation.scene import Scene

SETTINGS = SimulateDrive(seed=11, frames=4, spacing=6.0, beams=64, columns=512, image_width=620, image_height=188)


@pytest.fixture(scope="module")
def scene():
    return Scene(drive_world("03", SETTINGS)[0])


@pytest.fixture(scope="module")
def turn(scene):
    return scan(scene, Lidar(64, 512), velodyne_pose(scene.world, 0.0), np.random.default_rng(0))


def test_calibration_matches_kitti_and_scales_exactly():
    full, half = kitti_calibration(1241, 376), kitti_calibration(620, 188)
    assert full.projection["P2"][0].tolist() == [718.856, 0, 607.1928, 45.38225]
    np.testing.assert_allclose(full.projection["P2"][1:, 3], [-0.1130887, 0.003779761])
    point = np.array([1.0, 2, 10, 1])
    (u, v, w), (u2, v2, w2) = full.projection["P2"] @ point, half.projection["P2"] @ point
    assert u2 / w2 == pytest.approx(u / w * 620 / 1241)
    assert v2 / w2 == pytest.approx(v / w * 188 / 376)
    centre = full.camera0_from_camera("P2")[:, 3]
    np.testing.assert_allclose(full.projection["P2"] @ centre, 0, atol=1e-9)


def test_rays_pass_through_pixel_centres():
    projection = kitti_calibration(62, 19).projection["P2"]
    rays = pinhole(projection, 62, 19).directions().astype(float)
    u, v, w = projection[:, :3] @ rays.T
    np.testing.assert_allclose((u / w).reshape(19, 62), np.tile(np.arange(62) + 0.5, (19, 1)), atol=1e-4)
    np.testing.assert_allclose((v / w).reshape(19, 62).T, np.tile(np.arange(19) + 0.5, (62, 1)), atol=1e-4)
    np.testing.assert_allclose(rays[:, 2], 1)


def test_scan_is_plausible(turn):
    distance = np.linalg.norm(turn.points[:, :3], axis=1)
    assert turn.points.dtype == np.float32
    assert 0.7 * 64 * 512 < len(distance) <= 64 * 512
    assert 1.5 < distance.min() < 5.0
    assert 50 < distance.max() < 100.5
    assert (turn.points[:, 3] >= 0).all()
    assert (turn.points[:, 3] <= 1).all()
    elevation = np.degrees(np.arcsin(turn.points[:, 2] / distance))
    assert elevation.min() == pytest.approx(-24.8, abs=0.1)
    assert elevation.max() == pytest.approx(2.0, abs=0.1)
    near_road = (turn.semantic == 40) & (distance < 8)
    assert np.median(turn.points[near_road, 2]) == pytest.approx(-1.73, abs=0.06)


def test_range_noise_is_along_the_ray_and_small_on_hard_surfaces(turn):
    error = np.linalg.norm(turn.points[:, :3], axis=1) - np.linalg.norm(turn.surface, axis=1)
    hard = np.isin(turn.semantic, (40, 252, 10))
    assert 0.01 < error[hard].std() < 0.025
    assert error[turn.semantic == 72].std() > error[hard].std()
    across = np.linalg.norm(np.cross(turn.points[:, :3], turn.surface), axis=1) / np.linalg.norm(turn.surface, axis=1)
    assert across.max() < 1e-3


def test_points_lie_in_rings_that_turn_left(turn):
    azimuth = np.arctan2(turn.points[:, 1], turn.points[:, 0]) % (2 * np.pi)
    turns = np.flatnonzero(np.diff(azimuth) < -np.pi)
    assert len(turns) == 63
    assert (np.diff(azimuth) > -1e-3).sum() == len(azimuth) - 1 - 63


def test_remission_of_road_and_sidewalk_overlaps(turn):
    spread = {raw: np.percentile(turn.points[turn.semantic == raw, 3], (10, 90)) for raw in (40, 48)}
    assert spread[40][1] > spread[48][0]
    assert spread[48][1] > spread[40][0]


def test_camera_depth_agrees_with_the_scan(scene, turn):
    calibration = kitti_calibration(620, 188)
    camera = pinhole(calibration.projection["P2"], 620, 188)
    pose = velodyne_pose(scene.world, 0.0)
    world_from_camera = pose @ np.linalg.inv(calibration.camera0_from_velodyne) @ calibration.camera0_from_camera("P2")
    picture = photograph(scene, camera, world_from_camera, np.random.default_rng(0))
    visible = seen_by_camera(scene, turn, pose, calibration, "P2")
    assert visible.sum() > 1000
    homogeneous = np.column_stack([turn.surface, np.ones(len(turn.surface))])
    u, v, depth = calibration.projection["P2"] @ calibration.camera0_from_velodyne @ homogeneous.T
    road = visible & (turn.semantic == 40)
    column, row = (u[road] / depth[road]).astype(int), (v[road] / depth[road]).astype(int)
    seen = picture.depth[np.clip(row, 0, 187), np.clip(column, 0, 619)]
    assert np.median(np.abs(seen - depth[road]) / depth[road]) < 0.02
    hidden = ~visible & (depth > 1) & (u / depth > 1) & (u / depth < 619) & (v / depth > 1) & (v / depth < 187)
    assert hidden.sum() > 20  # the camera and the LiDAR are at different places
    column, row = (u[hidden] / depth[hidden]).astype(int), (v[hidden] / depth[hidden]).astype(int)
    # At the pixel of a hidden point, or at a pixel next to it, the camera sees something nearer.
    nearest = np.min(
        [
            np.where(picture.depth[r, c] > 0, picture.depth[r, c], np.inf)
            for dr in (-1, 0, 1)
            for dc in (-1, 0, 1)
            for r, c in [(np.clip(row + dr, 0, 187), np.clip(column + dc, 0, 619))]
        ],
        axis=0,
    )
    assert (nearest < depth[hidden] - 0.02).mean() > 0.97


def test_wall_in_front_of_the_camera_hides_points_behind_it(scene, turn):
    calibration = kitti_calibration(620, 188)
    pose = velodyne_pose(scene.world, 0.0)
    before = seen_by_camera(scene, turn, pose, calibration, "P2")
    distance = scene.distance
    try:
        scene.distance = lambda origin, directions: np.minimum(
            distance(origin, directions), 5.0 / np.linalg.norm(directions, axis=1)
        )
        after = seen_by_camera(scene, turn, pose, calibration, "P2")
    finally:
        del scene.distance
    far = np.linalg.norm(turn.surface, axis=1) > 6.5
    assert before[far].sum() > 500
    assert not after[far].any()


def test_shadows_fall_away_from_the_sun(scene):
    light = scene.world.light
    above = scene.world.road.place(np.arange(0, 60.0), np.zeros(60), np.full(60, 0.02))
    assert light.to_sun[2] > 0
    lit = scene.lit(above.astype(np.float32), light.to_sun)
    assert lit.dtype == bool
    assert not scene.lit(above.astype(np.float32) - np.float32([0, 0, 1]), light.to_sun).any()  # below the ground
