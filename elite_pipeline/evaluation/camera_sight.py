"""Which points of a scan the cameras see, for sequences without a projection store: validation and test sequences."""

from collections.abc import Sequence

import numpy as np

from elite_pipeline.config import ProjectPoints
from elite_pipeline.datasets import Recording
from elite_pipeline.errors import InputError
from elite_pipeline.recordings.projection import project, visible


class CameraSight:
    """The cameras of a sequence that have images, and the rule by which `project_points` lets them see a point."""

    def __init__(self, recording: Recording, rule: ProjectPoints) -> None:
        """Raises `InputError` where no camera has an image, the first image is damaged, or the calibration is."""
        self.recording, self.rule = recording, rule
        self.sizes: dict[str, Sequence[int]] = {}
        """Camera -> (height, width) of its images in pixels, from its first one."""
        frames = recording.frames()
        for name in sorted(recording.cameras):
            first = next((frame for frame in frames if recording.has_image(frame, name)), None)
            if first is not None:
                recording.camera(name, first)
                self.sizes[name] = recording.image(first, name).shape[:2]
        if not self.sizes:
            raise InputError(
                f"sequence {recording.sequence} has no image of any camera. Link its images, if there are any"
            )

    def seen(self, frame: str, points: np.ndarray) -> np.ndarray:
        """(N,) bool: whether a camera sees the point: it falls into an image of `frame`, and nothing nearer hides it.

        points: (N, >=3) float32 in metres, LiDAR frame, the whole scan.
        """
        found = np.zeros(len(points), dtype=bool)
        for name, size in self.sizes.items():
            if self.recording.has_image(frame, name):
                camera, rule = self.recording.camera(name, frame), self.rule
                point, pixel, depth = project(points, camera, size, rule.min_depth)
                found[point[visible(pixel, depth, size, rule.cell, rule.tolerance)]] = True
        return found


def sights(recordings: Sequence[Recording], rule: ProjectPoints) -> list[CameraSight] | None:
    """The `CameraSight` of each sequence; None, with a printed line, where one has no usable images or calibration.

    Scores of some of the sequences could not be compared with those of all.
    """
    try:
        return [CameraSight(recording, rule) for recording in recordings]
    except InputError as error:
        print(f"No scores of seen and unseen points: {error}")
        return None
