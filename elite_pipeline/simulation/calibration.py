"""KITTI's sensor geometry: sequence 00's calibration, for any image size."""

from dataclasses import dataclass, replace

import numpy as np

WIDTH, HEIGHT = 1241, 376
SENSOR_HEIGHT = 1.73
"""Metres from the ground to the LiDAR."""

_K = np.array([[718.856, 0, 607.1928], [0, 718.856, 185.2157], [0, 0, 1]])
_LAST_COLUMNS = {
    "P0": (0.0, 0.0, 0.0),
    "P1": (-386.1448, 0.0, 0.0),
    "P2": (45.38225, -0.1130887, 0.003779761),
    "P3": (-337.2877, 2.369057, 0.004915215),
}
_SURROUND = {"P0": 90.0, "P1": 180.0, "P2": 0.0, "P3": -90.0}
"""Degrees to the left of ahead in which each camera of the surround rig looks."""
_TR = np.array(
    [
        [4.276802385584e-04, -9.999672484946e-01, -8.084491683471e-03, -1.198459927713e-02],
        [-7.210626507497e-03, 8.081198471645e-03, -9.999413164504e-01, -5.403984729748e-02],
        [9.999738645903e-01, 4.859485810390e-04, -7.206933692422e-03, -2.921968648686e-01],
        [0, 0, 0, 1],
    ]
)


@dataclass(frozen=True)
class Calibration:
    """Projections and the LiDAR's place.

    intrinsics: (3, 3) float64, pixels of `width` x `height` images; one for all cameras.
    projection: camera name -> (3, 4) float64, pixels from the camera-0 frame.
    camera0_from_velodyne: (4, 4) float64, metres.
    """

    width: int
    height: int
    intrinsics: np.ndarray
    projection: dict[str, np.ndarray]
    camera0_from_velodyne: np.ndarray

    def camera0_from_camera(self, name: str) -> np.ndarray:
        """(4, 4): where the camera `name` is and looks, from P = K [R | t]."""
        camera_from_camera0 = np.eye(4)
        camera_from_camera0[:3] = np.linalg.solve(self.intrinsics, self.projection[name])
        return np.linalg.inv(camera_from_camera0)

    def text(self) -> str:
        """The content of `calib.txt`."""
        matrices = {**self.projection, "Tr": self.camera0_from_velodyne[:3]}
        return "".join(f"{name}: {numbers(matrix)}\n" for name, matrix in matrices.items())


def kitti_calibration(width: int, height: int) -> Calibration:
    """KITTI's calibration for images of `width` x `height`: u and v scale with them, and so do the rows of each P."""
    scale = np.array([[width / WIDTH], [height / HEIGHT], [1.0]])
    projection = {name: np.column_stack([_K, column]) * scale for name, column in _LAST_COLUMNS.items()}
    return Calibration(width, height, _K * scale, projection, _TR)


def surround_calibration(width: int, height: int) -> Calibration:
    """`kitti_calibration` in which only P2 looks ahead, and P0, P1 and P3 to the left, back and to the right.

    KITTI's four cameras all look ahead. A rig that looks around is written in the same files: P = K [R | t].
    """
    ahead = kitti_calibration(width, height)
    projection = {}
    for name, yaw in _SURROUND.items():
        cos, sin = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
        # Camera axes: x right, y down, z ahead; a turn to the left is one about -y.
        turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        projection[name] = ahead.intrinsics @ turn @ np.linalg.solve(ahead.intrinsics, ahead.projection["P2"])
    return replace(ahead, projection=projection)


def numbers(matrix: np.ndarray) -> str:
    """The entries of a matrix, row by row, as KITTI's text files hold them."""
    return " ".join(f"{value:.12e}" for value in matrix.ravel())
