"""Draw sparse labels, pseudo-labels and dense truth side by side, for frames of the first sequences."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser

ROWS = 4


def main(argv: list[str] | None = None) -> None:
    """Parse, read, draw."""
    stage = parser(__doc__)
    add_sequences(stage, "frames", "projection", "pseudo-labels")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline import store
    from elite_pipeline.figures import drives
    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.camera_views import labelled_views

    each = -(-ROWS // len(args.frames))
    rows = []
    classes = index.read_all(args.frames)[0].classes
    for frames, projection, labels in zip(args.frames, args.projection, args.pseudo_labels, strict=True):
        group, taken = store.open_store(labels, "pseudo_labels"), 0
        for view in labelled_views(args.data, [frames], [projection]):
            if view.labels is None or taken == each or len(rows) == ROWS:
                continue
            height, width = view.image.shape[:2]
            pseudo = store.read(group, "label", (view.frame, view.camera))[:height, :width]
            rows.append((view.title, view.image, view.pixel, view.labels, pseudo, view.truth))
            taken += 1
    if not rows:
        raise InputError(f"no frame of {', '.join(map(str, args.frames))} has both an image and labels")
    drives.plot_labels(args.out, rows, classes)


if __name__ == "__main__":
    run(main)
