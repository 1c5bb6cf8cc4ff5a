"""Camera views of a data set with what is known in them: for figures."""

from dataclasses import dataclass

import numpy as np

from elite_pipeline import index
from elite_pipeline.datasets import open_recording
from elite_pipeline.store import Projection


@dataclass(frozen=True)
class View:
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
    truth: np.ndarray | None
    """(H, W) uint8 training ids, or None where the data set has no dense truth."""


def labelled_views(sequences, frames, projections):
    """The `View` of every frame of each sequence, camera by camera, where there is an image.

    sequences: folders. frames, projections: their indices and projection stores, in the same order.
    """
    for folder, frames_path, projection_path in zip(sequences, frames, projections, strict=True):
        recording, known, projection = open_recording(folder), index.read(frames_path), Projection(projection_path)
        for f in range(len(known.frames)):
            for c, camera in enumerate(projection.cameras):
                if known.sizes[camera][f].any():
                    yield _view(f, c, recording, known, projection)


def _view(f, c, recording, known, projection):
    frame, camera = known.frames[f], projection.cameras[c]
    rows = projection.rows(f, c)
    visible = projection.read("visible", rows)
    point = projection.read("point", rows)[visible]
    labels = recording.labels(frame, known.points[f])[point] if known.labelled[f] else None
    return View(
        title=f"{recording.sequence}/{frame} {camera}",
        frame=f,
        camera=c,
        image=recording.image(frame, camera),
        pixel=projection.read("pixel", rows)[visible],
        depth=projection.read("depth", rows)[visible],
        labels=labels,
        truth=recording.truth(frame, camera),
    )
