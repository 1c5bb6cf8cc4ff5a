"""KITTI's sensor geometry: the calibration of sequence 00, scaled to any image size."""

from dataclasses import dataclass, replace

import numpy as np

WIDTH, HEIGHT = 1241, 376
SENSOR_HEIGHT = 1.73
"""Height of the LiDAR above the ground, metres."""

_K = np.array([[718.856, 0, 607.1928], [0, 718.856, 185.2157], [0, 0, 1]])
_LAST_COLUMNS = {
    "P0": (0.0, 0.0, 0.0),
    "P1": (-386.1448, 0.0, 0.0),
    "P2": (45.38225, -0.1130887, 0.003779761),
    "P3": (-337.2877, 2.369057, 0.004915215),
}
_SURROUND = {"P0": 90.0, "P1": 180.0, "P2": 0.0, "P3": -90.0}
"""Camera of the surround rig -> viewing direction in degrees: 0 is straight ahead, positive is to the left."""
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
    """Projection matrices of the cameras and the pose of the LiDAR.

    intrinsics: (3, 3) float64, in pixels of `width` x `height` images. All cameras share it.
    projection: camera name -> (3, 4) float64, from the camera-0 frame to pixels.
    camera0_from_velodyne: (4, 4) float64, metres.
    """

    width: int
    height: int
    intrinsics: np.ndarray
    projection: dict[str, np.ndarray]
    camera0_from_velodyne: np.ndarray

    def camera0_from_camera(self, name: str) -> np.ndarray:
        """Pose (4, 4) of the camera `name` in the camera-0 frame, from P = K [R | t]."""
        camera_from_camera0 = np.eye(4)
        camera_from_camera0[:3] = np.linalg.solve(self.intrinsics, self.projection[name])
        return np.linalg.inv(camera_from_camera0)

    def text(self) -> str:
        """The content of `calib.txt`."""
        matrices = {**self.projection, "Tr": self.camera0_from_velodyne[:3]}
        return "".join(f"{name}: {numbers(matrix)}\n" for name, matrix in matrices.items())


def kitti_calibration(width: int, height: int) -> Calibration:
    """KITTI's calibration for images of `width` x `height` pixels.

    u scales with the width and v with the height. The first two rows of each P scale in the same way.
    """
    scale = np.array([[width / WIDTH], [height / HEIGHT], [1.0]])
    projection = {name: np.column_stack([_K, column]) * scale for name, column in _LAST_COLUMNS.items()}
    return Calibration(width, height, _K * scale, projection, _TR)


def surround_calibration(width: int, height: int, apart: float = 0.0) -> Calibration:
    """`kitti_calibration` with four viewing directions: P2 ahead, P0 left, P1 back, P3 right.

    KITTI's four cameras all look ahead. KITTI's file format can also hold this surround rig: P = K [R | t].

    apart: distance between neighbouring cameras, metres. Each camera is moved in the direction in which it looks, by
    `apart` / sqrt(2) from the place of KITTI's camera 2. With 0, all four share that place.
    """
    ahead = kitti_calibration(width, height)
    projection = {}
    for name, yaw in _SURROUND.items():
        cos, sin = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
        # Camera axes: x right, y down, z ahead. A left turn is therefore a rotation about -y.
        turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        projection[name] = ahead.intrinsics @ turn @ np.linalg.solve(ahead.intrinsics, ahead.projection["P2"])
        projection[name][:, 3] -= ahead.intrinsics[:, 2] * (apart / np.sqrt(2))
    return replace(ahead, projection=projection)


def numbers(matrix: np.ndarray) -> str:
    """The entries of a matrix, row by row, in the format of KITTI's text files."""
    return " ".join(f"{value:.12e}" for value in matrix.ravel())
