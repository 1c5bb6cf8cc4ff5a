"""Simulated drives: a procedural street, a LiDAR and a camera, and everything that is true about what they see.

Open3D is imported when the first ray is cast, not here.
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
