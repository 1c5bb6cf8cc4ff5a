"""Points -> voxels at every scale of a student, and means over voxels.

Voxels lie in a frame. The axes of "cartesian" are x, y and z in metres. The axes of "cylindrical" are rho in metres,
phi in degrees from -180 to 180, and z in metres. Voxels on the two sides of phi = 180 are not neighbours, as in SLidR's
code.

Each voxel is packed into one int64 key. To find the distinct voxels, it is then enough to sort numbers. This is 46
times as fast as `torch.unique(dim=0)` on rows and gives the same order. Coarse voxels are computed from the finest
voxels, not from the points.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from elite_pipeline.grouping import mean

AXES = {"cartesian": dict.fromkeys("xyz", "m"), "cylindrical": {"range": "m", "azimuth": "deg", "height": "m"}}
"""Frame -> the axes of its voxels and their units."""

Volume = Sequence[tuple[float, float]]
Frame = Literal["cartesian", "cylindrical"]


class Scale:
    """The occupied voxels of one stride, sorted by scan and then by the three axes of the frame."""

    def __init__(
        self, coordinates: Tensor, shape: tuple[int, ...], of_point: Tensor, of_base: Tensor, points: Tensor
    ) -> None:
        self.coordinates = coordinates
        """(V, 4) int32: index of the scan, and index of the voxel along each axis."""
        self.shape = shape
        """Number of voxels of the whole volume along each axis."""
        self.of_point = of_point
        """(N,) int64: index of the voxel of each point."""
        self.of_base = of_base
        """(B,) int64: index of the voxel around each voxel of stride 1."""
        self.points = points
        """(V,) float32: number of points in each voxel."""

    def __len__(self) -> int:
        return len(self.coordinates)


class Pyramid:
    """The voxels of a batch of scans at several strides. (Not a dataclass: Fabric's wrappers would take it apart.)"""

    def __init__(
        self,
        points: Tensor,
        scan: Tensor | None,
        *,
        scans: int,
        voxel_size: float | Sequence[float],
        volume: Volume,
        strides: Sequence[int],
        frame: Frame = "cartesian",
    ) -> None:
        """Voxelise `points` (N, 4) float32: x, y, z in metres, remission.

        scan: (N,) int64, index of the scan of each point, below `scans`. None: all points belong to one scan.
        voxel_size: one size for all axes of `frame`, or one per axis, in the unit of the axis.
        volume: (low, high) per axis, in the unit of the axis. A point outside is moved to the nearest place inside.
        """
        scan = torch.zeros(len(points), dtype=torch.int64, device=points.device) if scan is None else scan
        low, high = torch.tensor(volume, dtype=torch.float32, device=points.device).T
        sizes = voxel_size if isinstance(voxel_size, Sequence) else [voxel_size] * 3
        extent = tuple(round((b - a) / size) for size, (a, b) in zip(sizes, volume, strict=True))
        # A single size stays a number: a GPU divides by a number in another way than by a tensor.
        size = points.new_tensor(voxel_size) if isinstance(voxel_size, Sequence) else voxel_size
        self.points = points
        self.scans = scans
        self.voxel_size = size
        """One size for all axes, or (3,) float32: the size along each axis. In the unit of the axis."""
        places = cylindrical(points[:, :3]) if frame == "cylindrical" else points[:, :3]
        self.inside = torch.minimum(torch.maximum(places, low), high)
        """(N, 3) float32, in the units of the frame: the points in this frame, moved into the volume."""
        cell = ((self.inside - low) / size).long()  # (N, 3)
        cell = torch.minimum(cell, torch.tensor(extent, device=cell.device) - 1)
        self.corner = low + cell * size
        """(N, 3) float32, in the units of the frame: the lower corner of each point's finest voxel."""
        self.scales: dict[int, Scale] = {}
        self._add_base(torch.cat([scan[:, None], cell], dim=1), extent)
        for stride in strides:
            self._add(stride, extent)

    def __getitem__(self, stride: int) -> Scale:
        return self.scales[stride]

    def parent(self, fine: int, coarse: int) -> Tensor:
        """(V_fine,) int64: index of the voxel of stride `coarse` around each voxel of stride `fine`.

        `fine` must divide `coarse`.
        """
        parent = torch.empty(len(self[fine]), dtype=torch.int64, device=self.points.device)
        parent[self[fine].of_base] = self[coarse].of_base
        return parent

    def pool(self, features: Tensor, fine: int, coarse: int) -> Tensor:
        """Mean over points: (V_fine, C) -> (V_coarse, C). Each fine voxel is weighted with its number of points.

        The result is the same as copying features to the points and averaging there, but with fewer rows.
        """
        return mean(features, self.parent(fine, coarse), len(self[coarse]), self[fine].points)

    def _add_base(self, cells: Tensor, extent: tuple[int, ...]) -> None:
        keys, of_point, points = torch.unique(pack(cells, extent), return_inverse=True, return_counts=True)
        identity = torch.arange(len(keys), device=keys.device)
        self.scales[1] = Scale(unpack(keys, extent), extent, of_point, identity, points.float())

    def _add(self, stride: int, extent: tuple[int, ...]) -> None:
        if stride in self.scales:
            return
        base = self[1]
        shape = tuple(-(-n // stride) for n in extent)
        cells = base.coordinates.long()
        cells[:, 1:] //= stride
        keys, of_base = torch.unique(pack(cells, shape), return_inverse=True)
        points = torch.zeros(len(keys), device=keys.device).index_add_(0, of_base, base.points)
        self.scales[stride] = Scale(unpack(keys, shape), shape, of_base[base.of_point], of_base, points)


def cylindrical(places: Tensor) -> Tensor:
    """(N, 3) x, y, z in metres -> (N, 3) rho in metres, phi in degrees from -180 to 180, z in metres."""
    x, y, z = places.unbind(1)
    return torch.stack([torch.hypot(x, y), torch.rad2deg(torch.atan2(y, x)), z], dim=1)


def pack(cells: Tensor, shape: Sequence[int]) -> Tensor:
    """(V, 4) int64 cells (scan, x, y, z) within `shape` (x, y, z) -> (V,) int64 keys with the same order.

    The order of cells is lexicographic.
    """
    scan, x, y, z = cells.unbind(1)
    return ((scan * shape[0] + x) * shape[1] + y) * shape[2] + z


def unpack(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `pack`: (V, 4) int32 cells."""
    rest, z = keys // shape[2], keys % shape[2]
    rest, y = rest // shape[1], rest % shape[1]
    return torch.stack([rest // shape[0], rest % shape[0], y, z], dim=1).int()
