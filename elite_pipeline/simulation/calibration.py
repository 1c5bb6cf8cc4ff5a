"""KITTI's sensor geometry: sequence 00's calibration, for any image size."""

from dataclasses import dataclass

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

    projection: camera name -> (3, 4) float64, pixels of `width` x `height` images from the camera-0 frame.
    camera0_from_velodyne: (4, 4) float64, metres.
    """

    width: int
    height: int
    projection: dict[str, np.ndarray]
    camera0_from_velodyne: np.ndarray

    def camera0_from_camera(self, name: str) -> np.ndarray:
        """(4, 4): where the camera `name` is; it looks as camera 0 does, from beside it."""
        matrix = self.projection[name]
        result = np.eye(4)
        result[:3, 3] = -np.linalg.solve(matrix[:, :3], matrix[:, 3])
        return result

    def text(self) -> str:
        """The content of `calib.txt`."""
        matrices = {**self.projection, "Tr": self.camera0_from_velodyne[:3]}
        return "".join(f"{name}: {numbers(matrix)}\n" for name, matrix in matrices.items())


def kitti_calibration(width: int, height: int) -> Calibration:
    """KITTI's calibration for images of `width` x `height`: u and v scale with them, and so do the rows of each P."""
    scale = np.array([[width / WIDTH], [height / HEIGHT], [1.0]])
    projection = {name: np.column_stack([_K, column]) * scale for name, column in _LAST_COLUMNS.items()}
    return Calibration(width, height, projection, _TR)


def numbers(matrix: np.ndarray) -> str:
    """The entries of a matrix, row by row, as KITTI's text files hold them."""
    return " ".join(f"{value:.12e}" for value in matrix.ravel())
