"""Simulated drives: a procedural street, a LiDAR, a camera, and complete ground truth for both sensors.

Open3D is imported only when the first scene is built.
"""

from elite_pipeline.simulation.drive import write_drive
from elite_pipeline.simulation.materials import MATERIALS
from elite_pipeline.simulation.ranges import DRIVE_RANGES, RANDOM_RANGES, Ranges
from elite_pipeline.simulation.views import RenderedView, random_view, random_views

__all__ = [
    "DRIVE_RANGES",
    "MATERIALS",
    "RANDOM_RANGES",
    "Ranges",
    "RenderedView",
    "random_view",
    "random_views",
    "write_drive",
]
