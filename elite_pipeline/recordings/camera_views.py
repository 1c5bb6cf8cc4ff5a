"""Camera views of a data set: images with their visible points, labels and truth, for figures and comparisons."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from elite_pipeline.datasets import Recording
from elite_pipeline.recordings import index
from elite_pipeline.store import Projection


@dataclass(frozen=True)
class CameraView:
    """One image and the visible LiDAR points in it."""

    title: str
    frame: int
    camera: int
    image: np.ndarray
    """(H, W, 3) uint8."""
    pixel: np.ndarray
    """(M, 2) float32, (u, v)."""
    depth: np.ndarray
    """(M,) float32, metres."""
    labels: np.ndarray | None
    """(M,) uint8 training ids; None where the scan is unlabelled."""
    instances: np.ndarray | None
    """(M,) uint16 instance ids, 0 = no instance; None where the scan is unlabelled."""
    truth: np.ndarray | None
    """(H, W) uint8 training ids; None where the data set has no dense ground truth."""


def labelled_views(data: Path, frames: Sequence[Path], projections: Sequence[Path]) -> Iterator[CameraView]:
    """Yield the `CameraView` of every image: sequence by sequence, frame by frame, camera by camera.

    data: folder of the data set. frames, projections: indices and projection stores of the sequences, in the same
    order. Raises `InputError` where one of these files, or a file of the data set, cannot be read.
    """
    for load, _ in _views(data, frames, projections):
        yield load()


def spread_views(
    data: Path, frames: Sequence[Path], projections: Sequence[Path], count: int
) -> list[Callable[[], CameraView]]:
    """At most `count` functions, each of which loads one labelled `CameraView`.

    The views are spread evenly over all labelled views. The other parameters are those of `labelled_views`. Raises
    `InputError` in the same cases; so do the returned functions.
    """
    loads = [load for load, labelled in _views(data, frames, projections) if labelled]
    return [loads[k] for k in np.linspace(0, len(loads) - 1, min(count, len(loads))).round().astype(int)]


def _views(
    data: Path, frames: Sequence[Path], projections: Sequence[Path]
) -> Iterator[tuple[Callable[[], CameraView], bool]]:
    """Yield (function that loads the `CameraView`, whether the view has labels) for every image."""
    for frames_path, projection_path in zip(frames, projections, strict=True):
        known, projection = index.read(frames_path), Projection(projection_path)
        recording = known.source.open(data)
        for f in range(len(known.frames)):
            for c, camera in enumerate(projection.cameras):
                if known.sizes[camera][f].any():
                    yield partial(_view, f, c, recording, known, projection), known.labelled[f]


def _view(f: int, c: int, recording: Recording, known: index.Index, projection: Projection) -> CameraView:
    frame, camera = known.frames[f], projection.cameras[c]
    rows = projection.rows(f, c)
    visible = projection.read("visible", rows)
    point = projection.read("point", rows)[visible]
    labels = instances = None
    if known.labelled[f]:
        labels = recording.labels(frame, known.points[f])[point]
        instances = recording.instances(frame, known.points[f])[point]
    return CameraView(
        title=f"{recording.sequence}/{frame} {camera}",
        frame=f,
        camera=c,
        image=recording.image(frame, camera),
        pixel=projection.read("pixel", rows)[visible],
        depth=projection.read("depth", rows)[visible],
        labels=labels,
        instances=instances,
        truth=recording.truth(frame, camera),
    )
