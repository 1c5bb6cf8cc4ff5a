"""Draw LiDAR points by class and by depth over the first frame that has an image."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, draw."""
    stage = parser(__doc__)
    add_sequences(stage, "frames", "projection")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline.figures import drives
    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.camera_views import labelled_views

    classes = index.read_all(args.frames)[0].classes
    view = next(labelled_views(args.data, args.frames, args.projection), None)
    if view is None:
        raise InputError(f"no frame of {', '.join(map(str, args.frames))} has an image to draw on")
    drives.plot_projection(args.out, view.image, view.pixel, view.depth, view.labels, view.title, classes)


if __name__ == "__main__":
    run(main)
