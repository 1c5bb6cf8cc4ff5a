"""Draw sparse labels, pseudo-labels and dense truth side by side: one frame of each of the first sequences."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser

ROWS = 4


def main(argv=None):
    stage = parser(__doc__)
    stage.add_argument("--sequences", type=Path, nargs="+", required=True, help="data/<dataset>/sequences/NN ...")
    stage.add_argument("--frames", type=Path, nargs="+", required=True, help="their indices, in the same order")
    stage.add_argument("--projection", type=Path, nargs="+", required=True, help="their projection stores")
    stage.add_argument("--pseudo-labels", type=Path, nargs="+", required=True, help="their pseudo-label stores")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline import store
    from elite_pipeline.figures import drives
    from elite_pipeline.recordings.camera_views import labelled_views

    each = -(-ROWS // len(args.sequences))
    rows = []
    for folder, frames, projection, labels in zip(
        args.sequences, args.frames, args.projection, args.pseudo_labels, strict=True
    ):
        group, taken = store.open_store(labels, "pseudo_labels"), 0
        for view in labelled_views([folder], [frames], [projection]):
            if view.labels is None or taken == each or len(rows) == ROWS:
                continue
            height, width = view.image.shape[:2]
            pseudo = store.read(group, "label", (view.frame, view.camera))[:height, :width]
            rows.append((view.title, view.image, view.pixel, view.labels, pseudo, view.truth))
            taken += 1
    if not rows:
        raise InputError(f"no frame of {', '.join(map(str, args.sequences))} has both an image and labels")
    drives.plot_labels(args.out, rows)


if __name__ == "__main__":
    run(main)
