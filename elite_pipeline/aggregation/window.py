"""The frames of a place: those within a distance along the drive, or within a number of frames."""

from collections.abc import Callable, Iterable

import numpy as np

from elite_pipeline.aggregation.place import Place

Enter = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""Frame index -> its voxels (n,) int64, ascending and distinct, and their values (n, C) int32."""


def travelled(world_from_lidar: np.ndarray) -> np.ndarray:
    """Returns (F,) float64 metres along the drive up to each frame. world_from_lidar: (F, 4, 4)."""
    steps = np.linalg.norm(np.diff(world_from_lidar[:, :3, 3], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def within(travelled_metres: np.ndarray, f: int, distance: float, frames: int) -> range:
    """Returns the frames g around f with |travelled g - travelled f| <= `distance` metres and |g - f| <= `frames`."""
    here = travelled_metres[f]
    first = int(np.searchsorted(travelled_metres, here - distance, "left"))
    last = int(np.searchsorted(travelled_metres, here + distance, "right")) - 1
    return range(max(first, f - frames), min(last, f + frames) + 1)


def move(place: Place, wanted: Iterable[int], enter: Enter) -> None:
    """Changes the frames in the window of `place` to `wanted`. enter: see `Enter`; it is called for new frames only."""
    inside, wanted = set(place.inside), set(wanted)
    for frame in sorted(inside - wanted):
        place.remove(frame)
    for frame in sorted(wanted - inside):
        place.add(frame, *enter(frame))
