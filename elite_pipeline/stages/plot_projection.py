"""Draw LiDAR points over the image, by class and by depth: on the first frame that has an image."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


def main(argv=None):
    stage = parser(__doc__)
    stage.add_argument("--sequences", type=Path, nargs="+", required=True, help="data/<dataset>/sequences/NN ...")
    stage.add_argument("--frames", type=Path, nargs="+", required=True, help="their indices, in the same order")
    stage.add_argument("--projection", type=Path, nargs="+", required=True, help="their projection stores")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline.figures import drives
    from elite_pipeline.recordings.camera_views import labelled_views

    view = next(labelled_views(args.sequences, args.frames, args.projection), None)
    if view is None:
        raise InputError(f"no frame of {', '.join(map(str, args.sequences))} has an image to draw on")
    drives.plot_projection(args.out, view.image, view.pixel, view.depth, view.labels, view.title)


if __name__ == "__main__":
    run(main)
