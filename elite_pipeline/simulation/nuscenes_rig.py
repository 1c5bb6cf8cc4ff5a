"""nuScenes' sensors: six cameras and the LiDAR of car n015, and the raw ids of nuScenes-lidarseg."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.simulation.lidar import Lidar
from elite_pipeline.simulation.world import World

LIDAR = "LIDAR_TOP"

_WIDTH = 1600
"""Width of the images, pixels, that `_CAMERAS` holds for."""

_CAMERAS = {
    "CAM_FRONT": (
        (1266.417203, 816.267020, 491.507066),
        (1.70079118954, 0.0159456324149, 1.51095763913),
        (0.4998015430569128, -0.5030316162024876, 0.4997798114386805, -0.49737083824542755),
        -35_491,
    ),
    "CAM_FRONT_RIGHT": (
        (1260.847445, 807.968245, 495.334427),
        (1.5508477543, -0.493404796419, 1.49574800619),
        (0.2060347966337182, -0.2026940577919598, 0.6824507824531167, -0.6713610884174485),
        -27_612,
    ),
    "CAM_BACK_RIGHT": (
        (1259.513741, 807.252905, 501.195799),
        (1.0148780988, -0.480568219723, 1.56239545128),
        (0.12280980120078765, -0.132400842670559, -0.7004305821388234, 0.690496031265798),
        -20_058,
    ),
    "CAM_BACK": (
        (809.220991, 829.219600, 481.778424),
        (0.0283260309358, 0.00345136761476, 1.57910346144),
        (0.5037872666382278, -0.49740249788611096, -0.4941850223835201, 0.5045496097725578),
        -10_426,
    ),
    "CAM_BACK_LEFT": (
        (1256.741481, 792.112574, 492.775747),
        (1.03569100218, 0.484795032713, 1.59097014818),
        (0.6924185592174665, -0.7031619420114925, -0.11648342771943819, 0.11203317912370753),
        -528,
    ),
    "CAM_FRONT_LEFT": (
        (1272.597947, 826.615493, 479.751654),
        (1.52387798135, 0.494631336551, 1.50932822144),
        (0.6757265034669446, -0.6736266522251881, 0.21214015046209478, -0.21122827103904068),
        -43_107,
    ),
}
"""Channel -> focal length and principal point (pixels), place in the ego frame (metres), rotation ego_from_camera as a
quaternion (w, x, y, z), and when the camera is triggered (microseconds after the scan's time stamp).

Source: log n015-2018-07-24-11-22-45+0800; the times are those of one keyframe of it.
"""

_LIDAR_MOUNT = (
    (0.943713, 0.0, 1.84023),
    (0.7077955119163518, -0.006492242056004365, 0.010646214713995808, -0.7063073142877817),
)
"""Place of the LiDAR in the ego frame, metres, and rotation ego_from_lidar as a quaternion (w, x, y, z)."""


@dataclass(frozen=True)
class RigCamera:
    """A camera of the rig.

    intrinsics: (3, 3), pixels of `width` x `height` images. mount: (4, 4) ego_from_camera. trigger: microseconds from
    the scan's time stamp to the image's; negative: before the scan's.
    """

    width: int
    height: int
    intrinsics: np.ndarray
    mount: np.ndarray
    trigger: int


def rig_cameras(width: int, height: int) -> dict[str, RigCamera]:
    """Channel -> camera, for images of `width` x `height` pixels, which must be 16:9."""
    scale, cameras = width / _WIDTH, {}
    for channel, ((focal, u, v), place, rotation, trigger) in _CAMERAS.items():
        intrinsics = np.array([[focal * scale, 0, u * scale], [0, focal * scale, v * scale], [0, 0, 1]])
        cameras[channel] = RigCamera(width, height, intrinsics, pose_of(place, rotation), trigger)
    return cameras


def lidar_mount() -> np.ndarray:
    """Pose (4, 4) ego_from_lidar. In the sensor's frame, x is to the right, y forward and z up."""
    return pose_of(*_LIDAR_MOUNT)


def pose_of(translation: tuple[float, ...], rotation: tuple[float, ...]) -> np.ndarray:
    """The rigid motion (4, 4) of a translation, metres, and a quaternion (w, x, y, z)."""
    w, x, y, z = rotation
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_quat((x, y, z, w)).as_matrix(), translation
    return pose


def quaternion(pose: np.ndarray) -> list[float]:
    """The rotation of `pose` (4, 4) as a quaternion (w, x, y, z)."""
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    return [w, x, y, z]


@dataclass(frozen=True)
class ColumnLidar(Lidar):
    """nuScenes' LIDAR_TOP, a Velodyne HDL-32E: 32 beams, which fire together, column by column.

    In the sensor's frame, x is to the right, y forward and z up. The turn begins at the left of the vehicle and goes
    clockwise, seen from above. It ends at the time stamp.
    """

    beams: int = 32
    nearest: float = 1.0
    range_noise: float = 0.02

    def directions(self) -> np.ndarray:
        """Ray directions (columns * beams, 3) float32, unit vectors, sensor's frame, column by column from ring 0."""
        elevation = np.radians(-30.67 + 1.333 * np.arange(self.beams))
        azimuth = np.radians(-177.0) - np.arange(self.columns)[:, None] * (2 * np.pi / self.columns)
        x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
        return np.stack(np.broadcast_arrays(x, y, np.sin(elevation)), -1).reshape(-1, 3).astype(np.float32)

    def column(self, ray: np.ndarray) -> np.ndarray:
        return ray // self.beams

    def times(self, time: float, seconds: float) -> np.ndarray:
        """When each column is measured, (columns,) seconds, in a turn of `seconds` that ends at `time`."""
        return time + seconds * (np.arange(self.columns) / self.columns - 1)

    def roof(self) -> np.ndarray:
        """(columns * beams, 3) float32: where the rays hit the vehicle's own roof, metres, sensor's frame.

        nan: they do not. The roof is a horizontal rectangle below the sensor. All of it is within 1 m.
        """
        rays = self.directions()
        points = rays * (-0.3 / np.minimum(rays[:, 2:], -1e-6))
        x, y, _ = points.T
        missed = (np.abs(x) > 0.55) | (y > 0.2) | (y < -0.45)
        return np.where(missed[:, None], np.nan, points).astype(np.float32)


CATEGORIES = tuple(name for _, name in sorted(class_table("nuscenes").raw_names.items()))
"""Names of the categories by raw id, which is the `index` in category.json."""

EGO = CATEGORIES.index("vehicle.ego")

_CATEGORY = {
    "noise": (0, 1),
    "vehicle.car": (10, 252),
    # Riders belong to what they ride.
    "vehicle.bicycle": (11, 31, 253),
    "vehicle.motorcycle": (15, 32, 255),
    "vehicle.bus.rigid": (13, 257),
    "vehicle.truck": (18, 258),
    "vehicle.trailer": (20, 259),
    "human.pedestrian.adult": (30, 254),
    "flat.driveable_surface": (40, 44, 60),
    "flat.sidewalk": (48,),
    "flat.other": (49,),
    "flat.terrain": (72,),
    "static.manmade": (50, 51, 52, 80, 81),
    "static.vegetation": (70, 71),
    # Wheeled bins.
    "movable_object.pushable_pullable": (99,),
}
"""Category -> the simulator's raw ids (`raw_ids`) of it. Tractors, of the class other-vehicle, are `_TRACTOR`."""

_TRACTOR = CATEGORIES.index("vehicle.construction")


class NuScenesIds:
    """The ids of a world's surfaces in nuScenes' files."""

    def __init__(self, world: World) -> None:
        self._raw = np.full(1 << 9, len(CATEGORIES), np.uint8)
        for category, simulated in _CATEGORY.items():
            self._raw[list(simulated)] = CATEGORIES.index(category)
        tractors = world.instance[np.array(world.kind) == "tractor"]
        things = int(world.instance.max()) + 1
        self._tractor, self._number = np.zeros(things, bool), np.zeros(things, np.uint16)
        self._tractor[tractors] = True
        # Panoptic labels have room for 999 instances of a category.
        objects = np.flatnonzero(world.instance)
        semantic = world.semantic[np.searchsorted(world.object, objects)]
        category = self.raw(semantic, world.instance[objects])
        for one in np.unique(category):
            same = world.instance[objects[category == one]]
            self._number[same] = np.arange(1, len(same) + 1)

    def raw(self, semantic: np.ndarray, instance: np.ndarray) -> np.ndarray:
        """Raw ids of nuScenes, uint8, of the simulator's raw ids and instance ids (same shapes)."""
        raw = self._raw[semantic]
        raw[np.isin(semantic, _CATEGORY["vehicle.trailer"]) & self._tractor[instance]] = _TRACTOR
        return raw

    def number(self, instance: np.ndarray) -> np.ndarray:
        """Instance ids from 1, uint16, unique within a category, of the simulator's instance ids; 0 stays 0."""
        return self._number[instance]

    def panoptic(self, raw: np.ndarray, instance: np.ndarray) -> np.ndarray:
        """Panoptic labels, uint16, of raw ids of nuScenes and the simulator's instance ids."""
        return (1000 * raw.astype(np.uint16) + self.number(instance)).astype(np.uint16)
