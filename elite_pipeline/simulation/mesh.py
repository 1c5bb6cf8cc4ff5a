"""Triangle meshes with appearance, and the primitives from which all objects of a world are built."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from elite_pipeline.simulation.materials import ID

Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Mesh:
    """Triangles and their appearance.

    vertices: (V, 3) float32, metres. triangles: (T, 3) int64, rows of `vertices`, in either winding order.
    uv: (T, 3, 2) float32, surface coordinates of each corner, metres. On walls, u is horizontal and v is vertical.
    material: (T,) uint8, index into `MATERIALS`. semantic: (T,) uint16, raw SemanticKITTI id.
    tint: (T, 3) float32, linear base colour in [0, 1]. kind: the function that made it, if the catalogue did.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    semantic: np.ndarray
    tint: np.ndarray
    kind: str = ""

    def labelled(self, semantic: int) -> "Mesh":
        """The same mesh with one raw semantic id for all triangles."""
        return replace(self, semantic=np.full(len(self.triangles), semantic, np.uint16))

    def moved(self, pose: np.ndarray) -> "Mesh":
        """The same mesh in the target frame of `pose` (4, 4), which is target_from_mesh."""
        return replace(self, vertices=transformed(self.vertices, pose))

    def warped(self, warp: Callable[[np.ndarray], np.ndarray]) -> "Mesh":
        """The same mesh with its vertices replaced by `warp(vertices)`. `warp` maps (V, 3) to (V, 3)."""
        return replace(self, vertices=warp(self.vertices).astype(np.float32))


def transformed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points (N, 3) transformed by the homogeneous matrix `pose` (4, 4), float32."""
    return (points @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Join several meshes into one. The triangles keep their order."""
    first_vertex = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    uv, material, semantic, tint = (
        np.concatenate([getattr(m, name) for m in meshes]) for name in ("uv", "material", "semantic", "tint")
    )
    triangles = np.concatenate([m.triangles + first for m, first in zip(meshes, first_vertex, strict=True)])
    return Mesh(np.concatenate([m.vertices for m in meshes]), triangles, uv, material, semantic, tint)


def surface(
    vertices: np.ndarray,
    triangles: np.ndarray | Sequence[tuple[int, int, int]],
    material: str,
    tint: Vector,
    *,
    semantic: int = 0,
    uv: np.ndarray | None = None,
) -> Mesh:
    """A mesh of one material. `tint` is (3,) or (T, 3). Without `uv`, `unrolled` computes the surface coordinates."""
    vertices, triangles = np.asarray(vertices, np.float32), np.asarray(triangles, np.int64)
    count = len(triangles)
    return Mesh(
        vertices,
        triangles,
        unrolled(vertices[triangles]) if uv is None else np.asarray(uv, np.float32),
        np.full(count, ID[material], np.uint8),
        np.full(count, semantic, np.uint16),
        np.broadcast_to(np.asarray(tint, np.float32), (count, 3)),
    )


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cross product of vectors (..., 3). It is several times faster than `np.cross` on few rows."""
    a, b = a.T, b.T
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]).T


def unrolled(corners: np.ndarray) -> np.ndarray:
    """Surface coordinates (T, 3, 2) of triangles (T, 3, 3): (horizontal, z) on walls, (x, y) on flat triangles."""
    normal = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    horizontal = np.hypot(normal[:, 0], normal[:, 1])
    wall = np.abs(normal[:, 2]) < horizontal
    horizontal[~wall] = 1.0
    along_x = np.where(wall, -normal[:, 1] / horizontal, 1.0)
    along_y = np.where(wall, normal[:, 0] / horizontal, 0.0)
    uv = np.empty((len(corners), 3, 2), np.float32)
    uv[..., 0] = corners[..., 0] * along_x[:, None] + corners[..., 1] * along_y[:, None]
    uv[..., 1] = np.where(wall[:, None], corners[..., 2], corners[..., 1])
    return uv


@lru_cache(maxsize=256)
def _loft_triangles(stations: int, corners: int, caps: bool) -> np.ndarray:
    """Triangles (T, 3) that connect `stations` consecutive rings of `corners` vertices each."""
    index = np.arange(stations * corners).reshape(stations, corners)
    following = np.roll(index, -1, axis=1)
    a, b, c, d = index[:-1], following[:-1], following[1:], index[1:]
    faces = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    if caps:
        fan = np.arange(1, corners - 1)
        for ring in (index[0], index[-1]):
            faces.append(np.stack([np.broadcast_to(ring[0], fan.shape), ring[fan], ring[fan + 1]], -1))
    return np.concatenate(faces)


def loft(rings: np.ndarray, material: str, tint: Vector, *, semantic: int = 0, caps: bool = True) -> Mesh:
    """The surface through consecutive convex rings (S, K, 3). `caps` closes the first and the last ring."""
    rings = np.asarray(rings, np.float32)
    triangles = _loft_triangles(rings.shape[0], rings.shape[1], caps)
    return surface(rings.reshape(-1, 3), triangles, material, tint, semantic=semantic)


def box(low: Vector, high: Vector, material: str, tint: Vector, *, semantic: int = 0) -> Mesh:
    """The axis-aligned box between two corners (3,), metres."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    rings = [[(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)] for z in (z0, z1)]
    return loft(np.array(rings), material, tint, semantic=semantic)


def tube(
    start: Vector,
    end: Vector,
    radius: float | tuple[float, float],
    material: str,
    tint: Vector,
    *,
    sides: int = 6,
    semantic: int = 0,
    caps: bool = True,
) -> Mesh:
    """A straight tube, or a truncated cone where `radius` is a pair (at start, at end), metres."""
    start, end = np.array(start, float), np.array(end, float)
    first, last = radius if isinstance(radius, tuple) else (radius, radius)
    axis = (end - start) / math.dist(end, start)
    side = cross(axis, np.array((0, 0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0, 0)))
    side /= math.hypot(*side)
    angle = np.arange(sides) * (2 * np.pi / sides) + np.pi / sides
    circle = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * cross(axis, side)
    rings = np.array([start + first * circle, end + last * circle])
    return loft(rings, material, tint, semantic=semantic, caps=caps)


def ball(centre: Vector, radii: Vector, material: str, tint: Vector, *, semantic: int = 0) -> Mesh:
    """An ellipsoid with the half axes `radii` (3,), metres.

    It has 5 x 8 faces, or 3 x 5 if all half axes are below 0.06 m (about the size of a hand).
    """
    bands, sides = (3, 5) if max(radii) < 0.06 else (5, 8)
    polar = np.linspace(0.03, np.pi - 0.03, bands + 1)[:, None]
    turn = np.arange(sides) * 2 * np.pi / sides
    unit = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar) + 0 * turn], -1)
    return loft(np.asarray(centre) + unit * np.asarray(radii), material, tint, semantic=semantic)


def leaves(
    rng: np.random.Generator,
    points: np.ndarray,
    outward: np.ndarray,
    size: float,
    tint: Vector,
    *,
    semantic: int,
) -> Mesh:
    """Foliage: loose triangles of about `size` metres at `points` (N, 3), which roughly face `outward` (N, 3).

    Each triangle has its own brightness and hue. Triangles that face down are darker.
    """
    count = len(points)
    normal = outward + rng.normal(0, 0.45, (count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    first = cross(normal, rng.normal(size=(count, 3)))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = cross(normal, first)
    turn = 2 * np.pi / 3 * np.arange(3) + rng.uniform(0, 6.3, (count, 1))
    reach = size * rng.uniform(0.55, 1.15, (count, 3))
    corners = (
        points[:, None]
        + (reach * np.cos(turn))[..., None] * first[:, None]
        + (reach * np.sin(turn))[..., None] * second[:, None]
    )
    shade = rng.uniform(0.75, 1.2, (count, 1)) * (0.85 + 0.25 * outward[:, 2:])
    shade = shade * np.exp(rng.normal(0, 0.06, (count, 3)))
    return surface(
        corners.reshape(-1, 3),
        np.arange(3 * count).reshape(-1, 3),
        "foliage",
        np.clip(np.asarray(tint) * shade, 0, 1),
        semantic=semantic,
    )
