"""Camera views of a data set with what is known in them: for figures and comparisons."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from elite_pipeline.datasets import open_recording
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
    """(M,) uint8 training ids, or None where the scan is unlabelled."""
    instances: np.ndarray | None
    """(M,) uint16, 0 = none, or None where the scan is unlabelled."""
    truth: np.ndarray | None
    """(H, W) uint8 training ids, or None where the data set has no dense truth."""


def labelled_views(sequences, frames, projections):
    """The `CameraView` of every frame of each sequence, camera by camera, where there is an image.

    sequences: folders. frames, projections: their indices and projection stores, in the same order.
    """
    for load, _ in _views(sequences, frames, projections):
        yield load()


def spread_views(sequences, frames, projections, count):
    """At most `count` functions that load one `CameraView` with labels each, evenly spread over all there are.

    Parameters as `labelled_views`.
    """
    loads = [load for load, labelled in _views(sequences, frames, projections) if labelled]
    return [loads[k] for k in np.linspace(0, len(loads) - 1, min(count, len(loads))).round().astype(int)]


def _views(sequences, frames, projections):
    """(function that loads a `CameraView`, whether it has labels) of every image."""
    for folder, frames_path, projection_path in zip(sequences, frames, projections, strict=True):
        recording, known, projection = open_recording(folder), index.read(frames_path), Projection(projection_path)
        for f in range(len(known.frames)):
            for c, camera in enumerate(projection.cameras):
                if known.sizes[camera][f].any():
                    yield partial(_view, f, c, recording, known, projection), known.labelled[f]


def _view(f, c, recording, known, projection):
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
