"""Mixes two scans into one. Labels (own and carried), instances, teacher targets and patches follow their points.

A point keeps the teacher targets from its own scan. A point that no camera saw, and a point from a scan without a
teacher, have no targets. The teacher never sees a mixed scan.
"""

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from elite_pipeline.config import Augmentation
from elite_pipeline.training.examples import Example, collate

BANDS = (3, 6)
"""Smallest and largest number of elevation bands, as in the recipes of mmdetection3d (the authors' own: 4 to 8)."""

SWAP = 0.5
"""Share of the scans in `polar_mix` that get a swapped sector, as in the authors' code."""


def mix(
    first: Example, second: Example, settings: Augmentation, things: Sequence[int], generator: torch.Generator
) -> Example:
    """`first`, mixed with `second`. For each way of mixing, `settings` give the share of scans that it is applied to.

    Each way is drawn independently, so several may apply. LaserMix, PolarMix and instance CutMix are applied in this
    order. Each changes the result of the previous one, with the same `second`. All randomness comes from `generator`.
    The result has at least one point, and shares no memory with either scan.
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
    """LaserMix (Kong et al., CVPR 2023, arXiv 2207.00026): 3 to 6 elevation bands, taken from both scans in turn.

    The paper uses it for a second, semi-supervised loss on both mixtures of a labelled and a pseudo-labelled scan. Here
    it is an augmentation, as in the supervised recipes of mmdetection3d. It returns the mixture with the highest band
    of `first`.
    """
    bands = int(torch.randint(BANDS[0], BANDS[1] + 1, (), generator=generator))
    return swap_bands(first, second, bands)


def polar_mix(first: Example, second: Example, things: Sequence[int], generator: torch.Generator) -> Example:
    """PolarMix (Xiao et al., NeurIPS 2022, arXiv 2208.00223): half a turn of `second`, and its objects three times.

    In half of the scans, a half turn of `second` replaces that of `first`. The objects of `second` are pasted three
    times: in place, turned about the sensor by an angle in the first third of a turn, and turned by an angle in the
    second third. In an unlabelled scan, no point is known to belong to an object.
    The released code of the authors differs in two ways. It draws both angles once, on import; here every scan draws
    its own. Its half turn always contains the x axis; here the half turn starts anywhere. Cameras look along x, so
    otherwise the points of `first` with teacher targets would always be the ones that are replaced.
    things: training ids of the classes that have objects.
    """
    swap, start, *turns = torch.rand(4, generator=generator).tolist()
    mixed = swap_half_turn(first, second, 2 * math.pi * start) if swap < SWAP else first
    angles = [2 * math.pi / 3 * (third + turn) for third, turn in enumerate(turns)]
    objects = take(second, torch.isin(second.labels, torch.tensor(things, dtype=torch.int64)))
    return join(mixed, objects, *(turned(objects, angle) for angle in angles))


def instance_cutmix(first: Example, second: Example) -> Example:
    """`first`, plus all points of `second` with an instance id (its objects), at their original places.

    2DPASS and ELiTe do this for their benchmark models. They turn and mirror each scan separately before joining, and
    added points have no teacher. Here the joined scan is augmented as a whole, and added points keep their teacher
    targets.
    """
    return join(first, take(second, second.instances != 0))


def swap_bands(first: Example, second: Example, bands: int) -> Example:
    """Elevation bands: the highest from `first`, the next from `second`, and so on.

    All bands have the same height in radians. They divide the range that contains 98 % of the points of both scans. So
    they fit the field of view of any sensor, and stray points do not stretch them. (The published code divides -25 to 3
    degrees, for the sensor of SemanticKITTI.) Higher and lower points belong to the outermost bands. A point on an edge
    belongs to the lower band.
    """
    heights = [_elevation(example.points) for example in (first, second)]
    low, high = torch.quantile(torch.cat(heights), torch.tensor([0.01, 0.99])).tolist()
    edges = torch.linspace(low, high, bands + 1)[1:-1]
    of_first, of_second = (bands - 1 - torch.bucketize(height, edges) for height in heights)  # 0 is the highest
    return _exchange(first, of_first % 2 == 1, second, of_second % 2 == 1)


def swap_half_turn(first: Example, second: Example, start: float) -> Example:
    """`first` with the half turn of `second` that starts at azimuth `start` (radians, from x towards y)."""
    return _exchange(first, _half_turn(first.points, start), second, _half_turn(second.points, start))


def turned(example: Example, angle: float) -> Example:
    """`example` with its points turned by `angle` (radians) about the sensor's z axis, from x towards y."""
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, *rest = example.points.unbind(1)
    return replace(example, points=torch.stack([cos * x - sin * y, sin * x + cos * y, *rest], dim=1))


def take(example: Example, kept: Tensor) -> Example:
    """A copy of the points of `example` where `kept`, with their labels and teacher targets. It may have no points.

    kept: (N,) bool.
    """
    taken = example.kept(torch.nonzero(kept).squeeze(1))
    shown = taken.patch_of >= 0
    patches, taken.patch_of[shown] = torch.unique(taken.patch_of[shown], return_inverse=True)
    return replace(taken, patches=example.patches[patches])


def join(*examples: Example) -> Example:
    """A copy of the points of all `examples` as one scan, in order. At least one example must have points.

    Instance ids of an example are raised above those of the examples before it, so two objects never share an id.
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
    """`first` without its points in `leaves`, plus the points of `second` in `comes`.

    leaves, comes: one bool per point of `first` and of `second`. Returns `first` if no point would be left.
    """
    if leaves.all() and not comes.any():
        return first
    return join(take(first, ~leaves), take(second, comes))


def _elevation(points: Tensor) -> Tensor:
    return torch.atan2(points[:, 2], torch.hypot(points[:, 0], points[:, 1]))


def _half_turn(points: Tensor, start: float) -> Tensor:
    return torch.remainder(torch.atan2(points[:, 1], points[:, 0]) - start, 2 * math.pi) < math.pi
