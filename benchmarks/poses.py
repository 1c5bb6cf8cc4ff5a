"""What the check of poses says of right and wrong poses, and how far poses by kiss-icp are from the truth.

    python benchmarks/poses.py [<rig> ...]

Drives of several LiDARs are simulated, without images. Writes benchmarks/results/poses.json if all rigs are measured.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from elite_pipeline.config import EstimatePoses, SimulateDrive
from elite_pipeline.recordings.odometry import estimate
from elite_pipeline.recordings.overlap import ScanSurfaces, fit
from elite_pipeline.recordings.pose_check import APART, POOR
from elite_pipeline.simulation.calibration import kitti_calibration
from elite_pipeline.simulation.drive import drive_world, velodyne_pose
from elite_pipeline.simulation.lidar import Lidar, scan
from elite_pipeline.simulation.scene import Scene
from elite_pipeline.simulation.site import EGO_SPEED

RESULT = Path("benchmarks/results/poses.json")
DRIVES = ("00", "01")
RIGS = {  # beams, columns, metres between scans, scans
    "64 beams, 1 m": (64, 1024, 1.0, 12),
    "64 beams, 4 m": (64, 1024, 4.0, 12),
    "32 beams, 3 m": (32, 512, 3.0, 12),
    "32 beams, 10 m": (32, 1024, 10.0, 8),
    "16 beams, 2 m": (16, 512, 2.0, 12),
    "16 beams, 5 m": (16, 256, 5.0, 10),
    "16 beams, 20 m": (16, 256, 20.0, 4),
}


def simulated(rig: str, sequence: str) -> tuple[list[np.ndarray], np.ndarray]:
    """(scans, (F, 4, 4) world_from_lidar) of a drive."""
    beams, columns, spacing, frames = RIGS[rig]
    size = {"beams": beams, "columns": columns, "image_width": 32, "image_height": 16}
    world, rng = drive_world(sequence, SimulateDrive(seed=5, frames=frames, spacing=spacing, **size))
    scene, lidar, scans, poses = Scene(world), Lidar(beams=beams, columns=columns), [], []
    for time in np.arange(frames) * spacing / EGO_SPEED:
        scene.set_time(time)
        poses.append(velodyne_pose(world, time))
        scans.append(scan(scene, lidar, poses[-1], rng).points)
    return scans, np.stack(poses)


def noisy(poses: np.ndarray, metres: float, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """`poses` with noise whose length and angle have these root mean squares."""
    noise = np.tile(np.eye(4), (len(poses), 1, 1))
    noise[:, :3, 3] = metres * rng.normal(size=(len(poses), 3)) / 3**0.5
    noise[:, :3, :3] = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=(len(poses), 3)) / 3**0.5).as_matrix()
    return poses @ noise


def wrong(poses: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Name -> poses, right and wrong."""
    velodyne_from_camera0 = np.linalg.inv(kitti_calibration(32, 16).camera0_from_velodyne)
    return {
        "right": poses,
        "camera 0 taken for the LiDAR": poses @ velodyne_from_camera0,
        "inverted": np.linalg.inv(poses),
        "no motion": np.tile(np.eye(4), (len(poses), 1, 1)),
        **{f"noise of {metres} m": noisy(poses, metres, 0, rng) for metres in (0.05, 0.2, 0.5)},
        **{f"noise of {degrees} degrees": noisy(poses, 0, degrees, rng) for degrees in (0.1, 0.5, 2)},
    }


def drift(found: np.ndarray, poses: np.ndarray) -> tuple[float, float]:
    """(error of the last position as a share of the way, median error of a step in metres) of estimated poses."""
    true = np.linalg.inv(poses[0]) @ poses
    way = np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum()
    step = np.linalg.inv(np.linalg.inv(true[:-1]) @ true[1:]) @ (np.linalg.inv(found[:-1]) @ found[1:])
    end = np.linalg.norm(found[-1, :3, 3] - true[-1, :3, 3])
    return float(end / way), float(np.median(np.linalg.norm(step[:, :3, 3], axis=1)))


def main() -> None:
    """Print two tables in Markdown."""
    rigs, rng = sys.argv[1:] or list(RIGS), np.random.default_rng(0)
    errors: dict[str, list[float]] = {}
    print("| drive | drift | median error of a step, m |\n|---|---:|---:|")
    drifts = {}
    for rig, sequence in ((rig, sequence) for rig in rigs for sequence in DRIVES):
        scans, poses = simulated(rig, sequence)
        drifts[f"{rig}, {sequence}"] = share, step = drift(estimate(scans, EstimatePoses()), poses)
        print(f"| {rig}, {sequence} | {share:.2%} | {step:.3f} |", flush=True)
        if RIGS[rig][2] > APART:
            continue
        surfaces = [ScanSurfaces.of(points) for points in scans]
        for name, judged in wrong(poses, rng).items():
            motion = np.linalg.inv(judged[:-1]) @ judged[1:]
            pairs = zip(surfaces[:-1], surfaces[1:], motion, strict=True)
            errors.setdefault(name, []).extend(fit(*pair).error for pair in pairs)
    print(f"\n| poses | pairs | median error, m | 95 % are below | largest | above {POOR} m |")
    print("|---|---:|---:|---:|---:|---:|")
    table = {}
    for name, found in errors.items():
        middle, high, worst = np.quantile(found, (0.5, 0.95, 1), method="higher").tolist()
        table[name] = {"pairs": len(found), "median": middle, "q95": high, "max": worst}
        table[name]["poor"] = float((np.array(found) > POOR).mean())
        print(f"| {name} | {len(found)} | {middle:.3f} | {high:.3f} | {worst:.3f} | {table[name]['poor']:.0%} |")
    if rigs == list(RIGS):
        # JSON has no infinity: null is a pair without any overlap.
        finite = {name: {k: v if np.isfinite(v) else None for k, v in row.items()} for name, row in table.items()}
        RESULT.write_text(json.dumps({"errors": finite, "drift": drifts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
