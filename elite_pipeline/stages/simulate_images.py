"""Simulate labelled images of random places, on which an image segmentation network is trained.

    python -m elite_pipeline.stages.simulate_images --out data/worlds --processes 2 \
        seed=40000 worlds=100 views_per_world=4 image_width=512 image_height=160 unknown='["bicycle"]'

A run that was killed goes on after its last whole world.
"""

from pathlib import Path

from pydantic import Field

from elite_pipeline.config import SimulateImages
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


class ImagesToSimulate(SimulateImages):
    """What `simulate_images` reads: that, the class table of its labels, and the classes that these leave out."""

    classes: str
    unknown: list[str] = Field(default=[])


def main(argv: list[str] | None = None) -> None:
    """Write the images; the folder `--out` appears when it is whole."""
    stage = parser(__doc__)
    stage.add_argument("--out", required=True, type=Path, help="data/<image_set>, of images/ and labels/")
    stage.add_argument("--processes", type=int, default=1, help="that render worlds")
    arguments, settings = parse(stage, ImagesToSimulate, argv)

    from elite_pipeline.datasets.classes import class_table
    from elite_pipeline.simulation.images import write_images

    classes = class_table(settings.classes)
    if strange := sorted(set(settings.unknown) - set(classes.evaluated)):
        raise InputError(f"unknown names {strange}, which are no classes; those are {', '.join(classes.evaluated)}")
    images = SimulateImages(**settings.model_dump(exclude={"unknown", "classes"}))
    write_images(arguments.out, images, settings.unknown, classes, processes=arguments.processes)
    print(f"{arguments.out}: {images.worlds * images.views_per_world} images of {images.worlds} places")


if __name__ == "__main__":
    run(main)
