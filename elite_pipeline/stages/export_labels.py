"""Export the known labels of one sequence for people who annotate: label files of raw ids, and their confidence.

A point gets its scan's own label, else one that carry_labels carried to it, else (with --aggregated) the teacher's
soft label, aggregated over the place. Labels that select_labels hid are not read. --out becomes a folder that
semantic-kitti-api can show:

    predictions/<frame>.label   uint32 per point: raw id of the class; 0 where nothing is known
    confidence/<frame>.npy      uint8 per point: 0 (nothing is known) to 255 (certain)
    export.json                 what the files are, and where the labels come from

It is made again when its inputs change, so edit a copy. A folder whose label files were edited is not replaced.
"""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, choose, write."""
    stage = parser(__doc__)
    stage.add_argument("--labels", required=True, help="name of the teacher, or carried")
    add_sequence(stage, "frames", "carried")
    stage.add_argument(
        "--aggregated", type=Path, nargs="?", help="the sequence's aggregated soft labels of the teacher"
    )
    stage.add_argument("--out", type=Path, required=True, help="folder to write")
    args, _ = parse(stage, Section, argv)
    if args.out.resolve().is_relative_to(args.data.resolve()):
        raise InputError(f"{args.out} is in the folder of the recordings, {args.data}. Choose another --out.")

    from elite_pipeline.deploy.exported import choose, write
    from elite_pipeline.progress import progress
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings.sequence import Recorded

    recorded = Recorded(args.data, args.frames, carried=args.carried, aggregated=args.aggregated)
    index = recorded.index
    scans = (
        (
            index.frames[f],
            choose(
                recorded.labels(f),
                recorded.carried_labels(f),
                recorded.reached(f) if args.aggregated else None,
                len(index.classes),
            ),
        )
        for f in progress(range(len(index.frames)), label=f"export_labels {index.sequence}")
    )
    about = {
        "labels": args.labels,
        "sequence": index.sequence,
        "scans": len(index.frames),
        "labelled_scans": int(index.labelled.sum()),
        "provenance": provenance(Section(), *recorded.files),
    }
    points = write(args.out, scans, index.classes, about)
    total = max(sum(points.values()), 1)
    parts = ", ".join(f"{name} {number / total:.1%}" for name, number in points.items())
    print(f"{args.out}: {len(index.frames)} label files, {sum(points.values())} points: {parts}")


if __name__ == "__main__":
    run(main)
