"""Errors of a real rig: calibration, time of the shutter, poses and labels.

They have random numbers of their own. A drive with errors therefore shows the same world as the drive without.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from elite_pipeline.config.worlds import Deviation, PoseNoise
from elite_pipeline.simulation.calibration import Calibration
from elite_pipeline.simulation.lidar import Scan
from elite_pipeline.simulation.raw_ids import simulated_classes
from elite_pipeline.simulation.site import MOVING

_CONFUSED = {10: 20, 11: 15, 13: 18, 15: 11, 18: 20, 20: 18, 30: 31, 31: 30, 32: 31}
"""Raw id of a thing -> raw id that an annotator may take it for."""

_WHOLE = 0.25
"""Share of the wrong labels that lie on wholly mistaken things. The others lie where labels bleed over a boundary."""

_STILL = {moving: raw for raw, moving in MOVING.items()}


def moved_a_little(rng: np.random.Generator, deviation: Deviation) -> np.ndarray:
    """A random rigid motion (4, 4) near the identity."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(np.radians(rng.normal(0, deviation.degrees, 3))).as_matrix()
    motion[:3, 3] = rng.normal(0, deviation.metres, 3)
    return motion


def misjudged_calibration(rng: np.random.Generator, calibration: Calibration, deviation: Deviation) -> Calibration:
    """The calibration with an error in the pose of each camera. `Tr`, and so the poses of the LiDAR, stay right."""
    wrong = {}
    for name, matrix in calibration.projection.items():
        camera_from_camera0 = np.linalg.solve(calibration.intrinsics, matrix)
        error = moved_a_little(rng, deviation)
        camera_from_camera0 = error[:3, :3] @ camera_from_camera0
        camera_from_camera0[:, 3] += error[:3, 3]
        wrong[name] = calibration.intrinsics @ camera_from_camera0
    return replace(calibration, projection=wrong)


def misjudged_poses(rng: np.random.Generator, poses: np.ndarray, noise: PoseNoise) -> np.ndarray:
    """Poses world_from_lidar (F, 4, 4) with drift and jitter; the first pose does not drift.

    Drift is a random walk: the error of each motion from one frame to the next grows with the square root of its
    length, to the deviation `noise.drift` after 100 m. Jitter is independent from frame to frame.
    """
    drifted = [poses[0]]
    for before, after in pairwise(poses):
        motion = np.linalg.inv(before) @ after
        share = np.sqrt(np.linalg.norm(motion[:3, 3]) / 100)
        step = Deviation(metres=noise.drift.metres * share, degrees=noise.drift.degrees * share)
        drifted.append(drifted[-1] @ motion @ moved_a_little(rng, step))
    return np.stack([pose @ moved_a_little(rng, noise.jitter) for pose in drifted])


def misjudged_labels(rng: np.random.Generator, turns: list[Scan], poses: np.ndarray, share: float) -> list[np.ndarray]:
    """The labels of the scans as uint32 (instance id << 16 | raw id), of which `share` are of a wrong class.

    poses: (F, 4, 4) world_from_lidar. The errors are those of people who label a whole drive at once. They are the same
    in all scans of a place: patches of 0.2 to 0.8 m at boundaries get the label from beyond the boundary, and some
    things are taken for a similar thing.
    """
    label = np.concatenate([turn.semantic | turn.instance.astype(np.uint32) << 16 for turn in turns])
    truth, goal = label.copy(), round(share * len(label))
    place = np.concatenate([t.points[:, :3] @ p[:3, :3].T + p[:3, 3] for t, p in zip(turns, poses, strict=True)])
    of_raw = simulated_classes().of_raw
    kind = of_raw(truth & 0xFFFF)
    wrong = np.zeros(len(label), bool)
    ids, points = np.unique(truth >> 16, return_counts=True)
    for instance in rng.permutation(ids[(ids > 0) & (points <= 0.5 * _WHOLE * goal)]):
        if wrong.sum() >= _WHOLE * goal:
            break
        rows = np.flatnonzero(truth >> 16 == instance)
        label[rows], wrong[rows] = _mistaken(int(truth[rows[0]])), True
    tree = KDTree(place)
    # One point of each half metre of the place: points are dense near the vehicle, errors are everywhere.
    _, seeds = np.unique(np.floor(2 * place).astype(np.int64), axis=0, return_index=True)
    for row in rng.permutation(seeds):
        if wrong.sum() >= goal:
            break
        radius = rng.uniform(0.2, 0.8)
        near = np.array(tree.query_ball_point(place[row], 2 * radius))
        other = near[(kind[near] != kind[row]) & ~wrong[near]]
        if wrong[row] or not len(other):
            continue
        source = other[np.argmin(np.square(place[other] - place[row]).sum(1))]
        patch = near[(kind[near] == kind[row]) & ~wrong[near]]
        # The patch lies around the point beyond the boundary, so that it touches the boundary.
        patch = patch[np.square(place[patch] - place[source]).sum(1) < radius**2]
        label[patch], wrong[patch] = truth[source], True
    return np.split(label, np.cumsum([len(turn.points) for turn in turns])[:-1])


def _mistaken(label: int) -> int:
    """The label of a thing that is taken for another. It keeps its instance id, and whether it moves."""
    raw = label & 0xFFFF
    other = _CONFUSED[_STILL.get(raw, raw)]
    return (label & ~0xFFFF) | (MOVING[other] if raw in _STILL else other)
