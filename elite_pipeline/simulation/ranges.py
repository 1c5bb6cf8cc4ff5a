"""Value ranges of random worlds: for drives, for the city of the comparisons, and wider ones for pre-training."""

from dataclasses import dataclass, field, replace

Range = tuple[float, float]


@dataclass(frozen=True)
class Decks:
    """How often each kind of thing occurs. Worlds shuffle each tuple like a deck of cards and deal from it in turn.

    Numbers are raw ids of things; names are kinds of furniture and of lots (see `lots`).
    """

    lots: tuple[str, ...] = ("garden", "terrace", "garden", "park", "terrace", "car park", "garden", "yard")
    furniture: tuple[str, ...] = (
        *("tree", "tree", "tree", "bush", "lamp", "pole", "sign", "sign", "light"),
        *("sign", "bollard", "bin", "bike", "bike", "motorcycle", "person"),
    )
    furniture_apart: tuple[float, float] = (3.6, 5.2)
    """Range of the distance between one piece of furniture and the next, metres."""
    parked: tuple[int, ...] = (10, 10, 10, 15, 10, 10, 20, 10, 10, 15, 10, 10, 18, 10, 10)
    yard: tuple[int, ...] = (20, 10, 18, 15, 11)
    oncoming: tuple[int, ...] = (10, 32, 10, 18, 10, 32, 10, 13, 32)
    riders: tuple[int, ...] = (31,)
    """Riders at the edge of the road."""
    riders_apart: tuple[float, float] = (18.0, 45.0)
    walkers_apart: tuple[float, float] = (9.0, 34.0)
    """Range of the distance between one rider or walker and the next, metres."""
    group: int = 3
    """Largest number of bicycles in one row, and of motorcycles in one parking place."""
    sign_height: tuple[float, float] = (2.1, 2.6)
    """Height of the middle of a sign, metres."""


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
    decks: Decks = field(default_factory=Decks)


DRIVE_RANGES = Ranges()
"""Ranges of the demo's drives, `world: streets`."""

CITY_RANGES = replace(
    DRIVE_RANGES,
    road_half_width=(3.6, 6.0),
    verge_width=(0.9, 3.0),
    sidewalk_width=(1.6, 4.0),
    setback=(0.5, 12.0),
    lot_length=(11.0, 30.0),
    junction_spacing=(55.0, 130.0),
    turn=(5.0, 45.0),
    slope=(0.0, 0.04),
    storeys=(1.0, 6.99),
    tree_height=(4.0, 12.0),
    decks=Decks(
        lots=("garden", "yard", "park", "terrace", "yard", "garden", "terrace", "car park", "park", "yard"),
        furniture=(
            *("tree",) * 6,
            *("bush", "lamp", "lamp", "pole", "pole", "pole", "light", "bollard", "bin"),
            *("sign",) * 4,
            *("board",) * 4,
            *("bike",) * 5,
            *("motorcycle", "motorcycle", "person", "person", "person"),
        ),
        furniture_apart=(1.8, 2.7),
        parked=(10, 11, 15, 10, 10, 20, 10, 15, 11, 10, 15, 15, 10, 18, 10, 20),
        yard=(20, 11, 10, 11, 18, 15, 11),
        oncoming=(10, 32, 10, 18, 10, 10, 13, 32),
        riders=(31, 31, 32),
        riders_apart=(8.0, 22.0),
        walkers_apart=(6.0, 22.0),
        group=7,
        sign_height=(0.9, 2.5),
    ),
)
"""Ranges of `world: city`: more kinds of streets than `DRIVE_RANGES`, and rare things often enough to be measured.

Signs, two-wheelers, poles and trunks are more frequent than on real streets.
"""

WORLDS = {"streets": DRIVE_RANGES, "city": CITY_RANGES}
"""`world:` of a simulated data set -> the ranges of its places."""

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
