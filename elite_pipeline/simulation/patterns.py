"""Procedural surface patterns: noise, and courses of bricks or slabs. They fade out where pixels are too coarse."""

from functools import lru_cache

import numpy as np

_SIZE = 1024


@lru_cache(maxsize=1)
def _tables() -> np.ndarray:
    """Periodic noise (2, 1024, 1024) float32, uniform in [0, 1]: rough (index 0) and soft (index 1)."""
    rng = np.random.default_rng(20240229)
    frequency = np.fft.fftfreq(_SIZE)[:, None] ** 2 + np.fft.rfftfreq(_SIZE)[None] ** 2
    frequency[0, 0] = 1
    tables = []
    for falloff in (0.45, 1.15):
        spectrum = np.fft.rfft2(rng.normal(size=(_SIZE, _SIZE))) / frequency**falloff
        spectrum[0, 0] = 0
        field = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE)).ravel()
        rank = np.empty(field.size, np.float32)
        rank[np.argsort(field)] = np.linspace(0, 1, field.size, dtype=np.float32)
        tables.append(rank.reshape(_SIZE, _SIZE))
    return np.stack(tables)


def noise(uv: np.ndarray, size: float, footprint: np.ndarray, *, soft: bool = False) -> np.ndarray:
    """Noise (N,) in [0, 1] at `uv` (N, 2), metres, with clumps of about `size` metres.

    Rough noise fades to its mean of 0.5 where the `footprint` (N,) of a pixel, metres, is larger than the clumps. Soft
    noise does not fade.
    """
    scale = 160.0 / size if soft else 24.0 / size
    column, row = (np.int32(1) * np.floor(uv.T * np.float32(scale)).astype(np.int32)) & (_SIZE - 1)
    value = _tables()[int(soft)].ravel()[row * _SIZE + column]
    if soft:
        return value
    return 0.5 + (value - 0.5) / (1 + np.square(footprint * np.float32(2.0 / size)))


def sharp(signed: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """An anti-aliased edge: 0 where `signed` is below -width / 2, 1 above width / 2, and a linear ramp between."""
    return np.clip(signed / width + 0.5, 0, 1)


def courses(
    uv: np.ndarray, unit: tuple[float, float], joint: float, footprint: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Staggered courses of bricks at `uv` (N, 2), all lengths in metres.

    `unit` is the (width, height) of a brick, `joint` the width of the joints, `footprint` (N,) the width of a pixel.
    Returns the share of joint at each point and the random value of its brick, both (N,) in [0, 1]. Both fade to their
    means where a pixel is coarser than a brick.
    """
    v = uv[:, 1] / np.float32(unit[1])
    row = np.floor(v)
    u = uv[:, 0] / np.float32(unit[0]) + 0.5 * (row % 2)
    column = np.floor(u)
    from_joint = np.minimum(
        (0.5 - np.abs(u - column - 0.5)) * np.float32(unit[0]), (0.5 - np.abs(v - row - 0.5)) * np.float32(unit[1])
    )
    mean = min(1.0, joint * (1 / unit[0] + 1 / unit[1]))
    fade = np.clip(1.6 - footprint / (0.6 * min(unit)), 0, 1)
    soft = np.maximum(footprint, 0.004)
    mask = sharp(joint / 2 - from_joint, soft)
    cell = (column.astype(np.int32) * 193 + row.astype(np.int32) * 7919) & (_SIZE * _SIZE - 1)
    own = _tables()[0].ravel()[cell]
    return mean + (mask - mean) * fade, 0.5 + (own - 0.5) * fade


def lattice(uv: np.ndarray, size: float, footprint: np.ndarray) -> np.ndarray:
    """Smooth noise (N,) in [0, 1] at `uv` (N, 2), metres, with round clumps of about `size` metres, in two octaves.

    It interpolates between random values, where `noise` has hard cells and a fractal spectrum. Each octave fades to its
    mean where the `footprint` (N,) of a pixel, metres, is larger than its clumps.
    """
    total = 0.0
    for share, scale, shift in ((0.65, 1.0, 0.0), (0.35, 2.7, 57.3)):
        place = uv * np.float32(scale / size) + np.float32(shift)
        corner = np.floor(place)
        weight = place - corner
        weight = weight * weight * (3 - 2 * weight)
        column, row = corner.T.astype(np.int32)
        (u, v), table = weight.T, _values()
        low, high = (
            (1 - u) * table[(row + r) & 255, column & 255] + u * table[(row + r) & 255, (column + 1) & 255]
            for r in (0, 1)
        )
        value = (1 - v) * low + v * high
        total = total + share * (value - 0.5) / (1 + np.square(footprint * np.float32(1.5 * scale / size)))
    return 0.5 + total


def stones(uv: np.ndarray, size: float, joint: float, footprint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Irregular stones of about `size` metres at `uv` (N, 2), with joints of `joint` metres.

    Returns the share of joint and the random value of the stone, both (N,) in [0, 1], as `courses` does.
    """
    place = uv * np.float32(1 / size)
    corner, table = np.floor(place).astype(np.int32), _values()
    first = np.full(len(uv), 9.0, np.float32)
    second, own = first.copy(), np.zeros(len(uv), np.float32)
    for shift in np.mgrid[-1:2, -1:2].reshape(2, -1).T:
        column, row = (corner + shift.astype(np.int32)).T & 255
        centre = np.stack([table[row, column], table[column, 255 - row]], 1) * 0.8 + 0.1
        away = np.hypot(*(corner + shift + centre - place).T.astype(np.float32))
        nearest = away < first
        second = np.where(nearest, first, np.minimum(second, away))
        first, own = np.where(nearest, away, first), np.where(nearest, table[row, (column + 91) & 255], own)
    fade = np.clip(1.6 - footprint / (0.6 * size), 0, 1)
    soft = np.maximum(footprint, 0.004)
    mask = sharp(joint - (second - first) * np.float32(size), soft)
    mean = min(1.0, 2 * joint / size)
    return mean + (mask - mean) * fade, 0.5 + (own - 0.5) * fade


@lru_cache(maxsize=1)
def _values() -> np.ndarray:
    """Random values (256, 256) float32, uniform in [0, 1]."""
    return np.random.default_rng(19930217).random((256, 256), np.float32)
