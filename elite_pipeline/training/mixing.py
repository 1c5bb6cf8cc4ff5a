"""Two scans made one. Labels, instances, the teacher's answers and its patches go with their points.

A point keeps what the teacher said of it in its own scan, and a point that no camera saw, or whose scan no teacher was
asked about, stays without an answer: nothing is asked of a teacher about a mixed scan.
"""

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from elite_pipeline.config import Augmentation
from elite_pipeline.training.augmentation import remap
from elite_pipeline.training.examples import Example, collate

BANDS = (3, 6)
"""Fewest and most bands of elevation, as mmdetection3d's recipes have it (the authors' own: 4 to 8)."""

SWAP = 0.5
"""Share of the scans in `polar_mix` of which a sector is swapped, as in the authors' code."""


def mix(
    first: Example, second: Example, settings: Augmentation, things: Sequence[int], generator: torch.Generator
) -> Example:
    """`first`, mixed with `second` in the ways that `settings` give their shares of the scans.

    Each way is drawn by itself, so that several may apply: then LaserMix, PolarMix and instance CutMix change, in this
    order, what the one before made, with the same `second`. All that is random follows from `generator`. The result
    has a point at least, and shares no memory with either scan.
    """
    laser, polar, cut = torch.rand(3, generator=generator).tolist()
    mixed = join(first)  # a copy
    if laser < settings.laser_mix:
        mixed = laser_mix(mixed, second, generator)
    if polar < settings.polar_mix:
        mixed = polar_mix(mixed, second, things, generator)
    if cut < settings.instance_cutmix:
        mixed = instance_cutmix(mixed, second)
    return mixed


def laser_mix(first: Example, second: Example, generator: torch.Generator) -> Example:
    """LaserMix (Kong et al., CVPR 2023, arXiv 2207.00026): 3 to 6 bands of elevation from the scans in turn.

    Theirs is a second, semi-supervised loss on both mixtures of a labelled and a pseudo-labelled scan; here, as in
    mmdetection3d's supervised recipes, it is augmentation, and the mixture with the highest band of `first` is used.
    """
    bands = int(torch.randint(BANDS[0], BANDS[1] + 1, (), generator=generator))
    return swap_bands(first, second, bands)


def polar_mix(first: Example, second: Example, things: Sequence[int], generator: torch.Generator) -> Example:
    """PolarMix (Xiao et al., NeurIPS 2022, arXiv 2208.00223): half a turn of `second`, and its objects three times.

    The half turn replaces that of `first` in half of the scans. The objects are pasted where they are, and turned about
    the sensor by an angle of the first and one of the second third of a turn. Of an unlabelled scan no point is known
    to be an object's. Where the code that the authors released differs: it draws both angles once, when it is
    imported, and its half turn always holds the x axis; here every scan draws its own, and the half turn starts
    anywhere, since cameras look along x, and the teacher's answers of `first` would always be those that go.
    things: training ids of the classes that come as objects.
    """
    swap, start, *turns = torch.rand(4, generator=generator).tolist()
    mixed = swap_half_turn(first, second, 2 * math.pi * start) if swap < SWAP else first
    angles = [2 * math.pi / 3 * (third + turn) for third, turn in enumerate(turns)]
    objects = take(second, torch.isin(second.labels, torch.tensor(things, dtype=torch.int64)))
    return join(mixed, objects, *(turned(objects, angle) for angle in angles))


def instance_cutmix(first: Example, second: Example) -> Example:
    """`first` and, where they were seen, all points of `second` with an instance id: its objects.

    As 2DPASS and ELiTe do for their benchmark models. There each scan is turned and mirrored by itself before they are
    joined, and added points have no teacher; here the whole is augmented at once, and they bring their answers.
    """
    return join(first, take(second, second.instances != 0))


def swap_bands(first: Example, second: Example, bands: int) -> Example:
    """Bands of elevation, the highest from `first`, the next from `second` and so on; at their edges, the lower one's.

    All bands have the same height in radians. They divide what 98 % of both scans' points lie in, so that any sensor's
    field is divided and stray points do not stretch it (the published code: -25 to 3 degrees, the sensor of
    SemanticKITTI); higher and lower points belong to the outermost bands.
    """
    heights = [_elevation(example.points) for example in (first, second)]
    low, high = torch.quantile(torch.cat(heights), torch.tensor([0.01, 0.99])).tolist()
    edges = torch.linspace(low, high, bands + 1)[1:-1]
    of_first, of_second = (bands - 1 - torch.bucketize(height, edges) for height in heights)  # 0 is the highest
    return _exchange(first, of_first % 2 == 1, second, of_second % 2 == 1)


def swap_half_turn(first: Example, second: Example, start: float) -> Example:
    """`first` with the half turn of `second` that begins at azimuth `start` (radians, from x towards y)."""
    return _exchange(first, _half_turn(first.points, start), second, _half_turn(second.points, start))


def turned(example: Example, angle: float) -> Example:
    """`example`, its points turned by `angle` (radians) about the sensor's z axis, from x towards y."""
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, *rest = example.points.unbind(1)
    return replace(example, points=torch.stack([cos * x - sin * y, sin * x + cos * y, *rest], dim=1))


def take(example: Example, kept: Tensor) -> Example:
    """A copy of the points of `example` where `kept`, (N,) bool, with what is known of them; it may have no points."""
    rows = torch.nonzero(kept).squeeze(1)
    left, taught = remap(example.taught, rows, len(example.points))
    patch_of = example.patch_of[left]
    shown = patch_of >= 0
    patches, patch_of[shown] = torch.unique(patch_of[shown], return_inverse=True)
    return Example(
        points=example.points[rows],
        labels=example.labels[rows],
        instances=example.instances[rows],
        taught=taught,
        teacher=example.teacher[left],
        patch_of=patch_of,
        patches=example.patches[patches],
    )


def join(*examples: Example) -> Example:
    """A copy of the points of all `examples` as one scan, in their order; one of them has points at least.

    Instance ids of a later example are raised above those before, so that two objects never become one.
    """
    parts, above = [], 0
    for example in examples:
        if len(example.points):
            instances = example.instances
            parts.append(replace(example, instances=torch.where(instances == 0, 0, instances + above)))
            above += int(instances.max())
    batch = collate(parts)
    return Example(**{field.name: getattr(batch, field.name) for field in fields(Example)})


def _exchange(first: Example, leaves: Tensor, second: Example, comes: Tensor) -> Example:
    """`first` without its points that leave, and with those of `second` that come; `first`, if none were left."""
    if leaves.all() and not comes.any():
        return first
    return join(take(first, ~leaves), take(second, comes))


def _elevation(points: Tensor) -> Tensor:
    return torch.atan2(points[:, 2], torch.hypot(points[:, 0], points[:, 1]))


def _half_turn(points: Tensor, start: float) -> Tensor:
    return torch.remainder(torch.atan2(points[:, 1], points[:, 0]) - start, 2 * math.pi) < math.pi
