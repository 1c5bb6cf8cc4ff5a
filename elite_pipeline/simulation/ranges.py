"""Value ranges of random worlds: for the drives of the demo, and wider ones for pre-training."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """Closed intervals from which a world draws its values uniformly. Lengths are in metres, angles in degrees."""

    road_half_width: Range = (3.7, 4.8)
    parking_width: Range = (2.2, 2.6)
    verge_width: Range = (1.0, 2.2)
    sidewalk_width: Range = (1.6, 3.0)
    curb_height: Range = (0.06, 0.15)
    setback: Range = (0.6, 9.0)
    lot_length: Range = (13.0, 26.0)
    junction_spacing: Range = (70.0, 120.0)
    turn: Range = (14.0, 40.0)
    """Largest angle between the road and its mean direction."""
    slope: Range = (0.0, 0.03)
    """Largest slope of the road, metres of height per metre of length."""
    storeys: Range = (1.0, 4.99)
    storey_height: Range = (2.8, 3.4)
    tree_height: Range = (4.5, 10.0)
    facade_saturation: Range = (0.05, 0.45)
    paint_saturation: Range = (0.0, 0.75)
    any_hue: bool = False
    """Whether facades, plants and ground may have any hue, not only the usual ones."""
    sun_elevation: Range = (22.0, 60.0)
    sunlight: Range = (0.55, 1.0)
    """Share of the sun in the light at noon. The rest comes from the sky."""
    fog_distance: Range = (350.0, 1200.0)
    exposure: Range = (0.88, 1.15)
    white_balance: Range = (-0.05, 0.05)
    noise: Range = (0.006, 0.016)
    """Standard deviation of pixel noise, as a fraction of full scale."""
    camera_height: Range = (1.65, 1.65)
    camera_pitch: Range = (0.0, 0.0)
    camera_yaw: Range = (0.0, 0.0)
    camera_lateral: Range = (0.0, 0.0)
    horizontal_fov: Range = (81.6, 81.6)


DRIVE_RANGES = Ranges()
"""Ranges of the demo's drives."""

RANDOM_RANGES = Ranges(
    road_half_width=(3.4, 7.5),
    parking_width=(2.0, 5.0),
    verge_width=(0.5, 5.0),
    sidewalk_width=(1.2, 5.0),
    curb_height=(0.0, 0.3),
    setback=(0.3, 16.0),
    lot_length=(9.0, 40.0),
    junction_spacing=(45.0, 160.0),
    turn=(0.0, 60.0),
    slope=(0.0, 0.06),
    storeys=(1.0, 8.99),
    storey_height=(2.5, 4.2),
    tree_height=(3.0, 15.0),
    facade_saturation=(0.0, 0.9),
    paint_saturation=(0.0, 1.0),
    any_hue=True,
    sun_elevation=(10.0, 80.0),
    sunlight=(0.0, 1.0),
    fog_distance=(90.0, 2000.0),
    exposure=(0.65, 1.45),
    white_balance=(-0.14, 0.14),
    noise=(0.002, 0.03),
    camera_height=(1.1, 2.8),
    camera_pitch=(-7.0, 7.0),
    camera_yaw=(-40.0, 40.0),
    camera_lateral=(-2.5, 2.5),
    horizontal_fov=(55.0, 105.0),
)
"""Ranges of the worlds for pre-training. Every range is wider than in `DRIVE_RANGES`."""
