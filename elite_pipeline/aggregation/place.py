"""The voxels of a place, with sums over the frames of a sliding window.

A frame that enters the window adds to the sums of its voxels, and a frame that leaves subtracts the same numbers. Sums
are integers. So they depend only on the frames in the window, not on the way to them: a resumed run ends in the same
bytes, and nothing drifts along a drive of any length.
"""

from dataclasses import dataclass

import numpy as np

BITS = 21
"""Bits of a voxel's index along one axis: 2 million voxels, which is 200 km at 0.1 m."""


@dataclass(frozen=True)
class Contribution:
    """What one frame says of its voxels."""

    slot: np.ndarray
    """(n,) int32: the places of its voxels in the sums."""
    values: np.ndarray
    """(n, C) int32."""


def voxel_keys(points: np.ndarray, voxel_size: float) -> np.ndarray:
    """Returns (N,) int64, one number per voxel. points: (N, 3) float, metres, in one fixed frame for all scans."""
    index = np.floor(points * (1 / voxel_size)).astype(np.int64) + (1 << BITS - 1)
    return (index[:, 0] << 2 * BITS) | (index[:, 1] << BITS) | index[:, 2]


def placed(points: np.ndarray, first_from_lidar: np.ndarray) -> np.ndarray:
    """Returns (N, 3) float64 metres: points (N, 3 or more) of a scan in the LiDAR frame of the first scan.

    first_from_lidar: (4, 4) float64.
    """
    # Not by `@`: BLAS may start threads for it, which takes longer and may round differently elsewhere.
    x, y, z = np.ascontiguousarray(points[:, :3].T, np.float64)
    return np.stack([row[0] * x + row[1] * y + row[2] * z + row[3] for row in first_from_lidar[:3]], axis=1)


class Place:
    """Sums of C integers per voxel over the frames that are in the window."""

    def __init__(self, channels: int) -> None:
        self._keys = np.zeros(0, np.int64)  # sorted
        self._slots = np.zeros(0, np.int32)  # where the voxel of each key is in the arrays below
        self._sums = np.zeros((0, channels), np.int32)
        self._frames = np.zeros(0, np.int32)
        self._free = np.zeros(0, np.int32)
        self._inside: dict[int, Contribution] = {}

    @property
    def inside(self) -> list[int]:
        """The frames in the window."""
        return list(self._inside)

    def __len__(self) -> int:
        """Number of voxels."""
        return len(self._keys)

    def add(self, frame: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Frame `frame` enters: `values` (n, C) int32 are added to voxels `keys` (n,) int64, distinct and ascending."""
        slot = self._slots_of(keys)
        new = slot < 0
        slot[new] = self._new_slots(keys[new])
        self._sums[slot] += values
        self._frames[slot] += 1
        self._inside[frame] = Contribution(slot, values)

    def remove(self, frame: int) -> None:
        """Frame `frame` leaves. Voxels that no frame in the window saw are forgotten."""
        gone = self._inside.pop(frame)
        self._sums[gone.slot] -= gone.values
        self._frames[gone.slot] -= 1
        empty = gone.slot[self._frames[gone.slot] == 0]
        if len(empty):
            kept = self._frames[self._slots] > 0
            self._keys, self._slots = self._keys[kept], self._slots[kept]
            self._free = np.concatenate([self._free, empty])

    def at(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Looks voxels up. keys: (n,) int64; ascending keys are found faster.

        Returns (rows (m,) int64 of `keys` that are known, sums (m, C) int32, frames (m,) int32 that saw the voxel).
        """
        slot = self._slots_of(keys)
        rows = np.flatnonzero(slot >= 0)
        slot = slot[rows]
        return rows, self._sums[slot], self._frames[slot]

    def _slots_of(self, keys: np.ndarray) -> np.ndarray:
        """(n,) int32: the slot of each key, -1 where it is not known."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int32)
        position = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[position] == keys, self._slots[position], np.int32(-1))

    def _new_slots(self, keys: np.ndarray) -> np.ndarray:
        """Makes room for `keys`, which are new, and returns their slots."""
        if (short := len(keys) - len(self._free)) > 0:
            have = len(self._sums)
            more = max(short, have // 2, 1024)
            self._sums = np.concatenate([self._sums, np.zeros((more, self._sums.shape[1]), np.int32)])
            self._frames = np.concatenate([self._frames, np.zeros(more, np.int32)])
            self._free = np.concatenate([self._free, np.arange(have, have + more, dtype=np.int32)])
        slots, self._free = self._free[: len(keys)], self._free[len(keys) :]
        where = np.searchsorted(self._keys, keys)
        self._keys = np.insert(self._keys, where, keys)
        self._slots = np.insert(self._slots, where, slots)
        return slots


def summed(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct `keys` (N,), ascending, and the sums of the rows of `values` (N, C) int32 for each."""
    if not len(keys):
        return keys, values
    order = np.argsort(keys)
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    return keys[first], np.add.reduceat(values[order], first, axis=0, dtype=np.int32)
