"""Simulate labelled images of random places, to train an image segmentation network.

    python -m elite_pipeline.stages.simulate_images --out data/worlds --processes 2 \
        seed=40000 worlds=100 views_per_world=4 image_width=512 image_height=160 unknown='["bicycle"]'

A killed run resumes after its last complete world.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from elite_pipeline.config import ImageFormatName, SimulateImages
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


class ImagesToSimulate(SimulateImages):
    """The settings of this stage.

    classes: the class table of the labels. unknown: names of classes that are left unlabelled. format: of the files.
    held_out: share of the worlds that are in nuImages' val.
    """

    classes: str
    unknown: list[str] = Field(default=[])
    format: ImageFormatName = "folder"
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1


def main(argv: list[str] | None = None) -> None:
    """Write the images. The folder `--out` appears only when it is complete."""
    stage = parser(__doc__)
    stage.add_argument("--out", required=True, type=Path, help="data/<image_set>, the folder to write")
    stage.add_argument("--processes", type=int, default=1, help="number of processes that render worlds")
    arguments, settings = parse(stage, ImagesToSimulate, argv)

    from elite_pipeline.datasets.classes import class_table
    from elite_pipeline.simulation.images import write_images

    classes = class_table(settings.classes)
    if strange := sorted(set(settings.unknown) - set(classes.evaluated)):
        raise InputError(f"unknown: {strange} are not classes. Choose from {', '.join(classes.evaluated)}")
    images = SimulateImages(**settings.model_dump(exclude={"unknown", "classes", "format", "held_out"}))
    of_format = {"format": settings.format, "held_out": settings.held_out}
    write_images(arguments.out, images, settings.unknown, classes, **of_format, processes=arguments.processes)
    print(f"{arguments.out}: {images.worlds * images.views_per_world} images of {images.worlds} places")


if __name__ == "__main__":
    run(main)
