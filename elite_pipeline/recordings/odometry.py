"""Poses from the scans alone, by kiss-icp (Vizzo et al., RA-L 2023), for drives without recorded poses."""

from collections.abc import Iterable

import numpy as np

from elite_pipeline.config import EstimatePoses
from elite_pipeline.recordings.overlap import OWN, ScanSurfaces, align, likeness

FIRST_STEPS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 25, -1, -2)
"""Distances ahead that are tried between the first two scans, metres."""


def estimate(scans: Iterable[np.ndarray], settings: EstimatePoses) -> np.ndarray:
    """(F, 4, 4) float64 world_from_lidar, metres. The world is the LiDAR frame of the first scan.

    scans: (N, 3 or more) float32 each, x forward, y left, z up, metres, in the order of time. The motion of the LiDAR
    during a scan is not corrected, because the formats have no time for each point.
    Where scans have too little in common, poses are wrong: see `pose_check`.
    """
    from kiss_icp.config import KISSConfig
    from kiss_icp.config.config import AdaptiveThresholdConfig, DataConfig, MappingConfig, RegistrationConfig
    from kiss_icp.kiss_icp import KissICP

    odometry = KissICP(
        # Every value is given, because kiss-icp takes those that are not from the environment.
        KISSConfig(
            out_dir="",
            data=DataConfig(max_range=settings.max_range, min_range=OWN, deskew=False),
            mapping=MappingConfig(voxel_size=settings.voxel_size, max_points_per_voxel=20),
            # One thread, so that sums have one order and poses repeat.
            registration=RegistrationConfig(max_num_iterations=500, convergence_criterion=0.0001, max_num_threads=1),
            adaptive_threshold=AdaptiveThresholdConfig(fixed_threshold=None, initial_threshold=2.0, min_motion_th=0.1),
        )
    )
    poses, before = [], None
    for scan in scans:
        if len(poses) == 0:
            before = ScanSurfaces.of(scan)
        elif len(poses) == 1 and before is not None:
            # kiss-icp begins at rest. Where scans are some metres apart it would stay there: rings on the ground look
            # the same from everywhere.
            odometry.last_delta = first_motion(before, ScanSurfaces.of(scan))
        odometry.register_frame(scan[:, :3].astype(np.float64), np.zeros(0))
        poses.append(odometry.last_pose.copy())
    return np.stack(poses)


def first_motion(a: ScanSurfaces, b: ScanSurfaces) -> np.ndarray:
    """(4, 4) float64 a_from_b: the motion from scan `a` to the next scan `b` under which they are most alike."""
    found = []
    for ahead in FIRST_STEPS:
        start = np.eye(4)
        start[0, 3] = ahead
        found.append(align(a, b, start))
    return max(found, key=lambda a_from_b: likeness(a, b, a_from_b))
