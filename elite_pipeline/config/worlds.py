"""Settings of simulated drives and of simulated images."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import StrictBool, model_validator

from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Count, Fraction, Natural, NonNegative, Positive

Look = Literal["first", "second"]
"""What a simulated world looks like in the camera (see `simulation.appearance`)."""


class Deviation(Section):
    """Standard deviations of a rigid motion's error: along each axis, and of the rotation about each axis."""

    metres: NonNegative = 0.0
    degrees: NonNegative = 0.0


class PoseNoise(Section):
    """Errors of the vehicle's poses.

    jitter: of each pose by itself. drift: of a random walk, after 100 m of driving.
    """

    jitter: Deviation = Deviation()
    drift: Deviation = Deviation()


class SensorNoise(Section):
    """Errors of a real rig that the pipeline does not know of. The true values are written to `truth/`.

    calibration: of the pose of each camera. camera_time: standard deviation of the shutter's time, seconds.
    labels: share of the points whose label is wrong.
    """

    calibration: Deviation = Deviation()
    camera_time: NonNegative = 0.0
    poses: PoseNoise = PoseNoise()
    labels: Fraction = 0.0


class SimulateDrive(Section):
    """The drives of a simulated data set: the number of frames, their sizes, the world, and the errors of its sensors.

    apart: distance between neighbouring cameras of the surround rig, metres. scan_seconds: duration of one turn of the
    LiDAR; 0: an instant.
    """

    seed: Natural
    frames: Count
    spacing: Positive
    beams: Count
    columns: Count
    image_width: Count
    image_height: Count
    surround: StrictBool = False
    apart: NonNegative = 0.0
    world: Literal["streets", "city"] = "streets"
    appearance: Look = "first"
    scan_seconds: NonNegative = 0.0
    noise: SensorNoise | None = None

    @model_validator(mode="after")
    def _one_camera_has_no_distance(self) -> Self:
        if self.apart and not self.surround:
            raise ValueError(
                "apart is the distance between cameras, and there is only one. Set surround: true, or apart: 0.0"
            )
        return self


NUSCENES_CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
)
"""The channels of nuScenes' cameras."""


def refuse_other_rigs(drive: SimulateDrive, channels: Iterable[str]) -> None:
    """Raise `ValueError` with all faults where a simulated nuScenes is to have another rig than nuScenes.

    channels: of the cameras that the data set names.
    """
    faults = []
    if drive.beams != 32:
        faults.append(f"nuScenes' LiDAR has 32 beams. Set simulate_drive.beams: 32, not {drive.beams}")
    if 9 * drive.image_width != 16 * drive.image_height:
        faults.append(
            f"nuScenes' images are 16:9, and simulate_drive's {drive.image_width} x {drive.image_height} are not. Set"
            " 1600 x 900, or 400 x 225"
        )
    if not drive.surround:
        faults.append("nuScenes' cameras look all around. Set simulate_drive.surround: true")
    if drive.apart:
        faults.append("the places of nuScenes' cameras are fixed. Remove simulate_drive.apart")
    if strange := sorted(set(channels) - set(NUSCENES_CAMERAS)):
        faults.append(f"cameras names channels {strange}. Those of nuScenes are {', '.join(NUSCENES_CAMERAS)}")
    if faults:
        raise ValueError("; ".join(faults))


class SimulateImages(Section):
    """Labelled images of random places: their number, seed, size and appearance."""

    seed: Natural
    worlds: Count
    views_per_world: Count
    image_width: Count
    image_height: Count
    appearance: Look = "first"
