"""Check every file of one sequence and write the index of its frames. One report lists all faults."""

from pathlib import Path

from elite_pipeline.config import IndexFrames
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_data, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, check, write."""
    stage = parser(__doc__)
    add_data(stage)
    stage.add_argument("--sequence", required=True, help="name of the sequence")
    stage.add_argument("--tables", type=Path, nargs="?", help="folder from read_tables")
    stage.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    args, settings = parse(stage, IndexFrames, argv)

    from elite_pipeline.choices import FORMATS, load
    from elite_pipeline.datasets.classes import class_table
    from elite_pipeline.recordings import index

    classes = class_table(settings.classes)
    cameras = dict(sorted(settings.cameras.items()))
    records = None
    if args.tables:
        records = load(FORMATS[settings.format].recording).records(args.tables / f"{args.sequence}.parquet")
    source = index.Source(settings.format, args.sequence, classes, cameras, records)
    rows, faults = index.check(
        source.open(args.data),
        labels=settings.labels,
        images=settings.images,
        missing_images=settings.missing_images,
        poses=settings.poses == "recorded",
    )
    place = f"{args.data}, sequence {args.sequence}"
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise InputError(f"{place}, has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}")
    index.write(args.out, rows, source)
    points = sum(row["points"] for row in rows)
    images = sum(bool(row.get(f"{camera}_height")) for row in rows for camera in source.cameras)
    labelled = sum(row["labelled"] for row in rows)
    poses = "poses" if rows[0]["world_from_lidar"] else "no poses"
    print(f"{place}: {len(rows)} scans, {points} points, {labelled} scans labelled, {images} images, {poses}")


if __name__ == "__main__":
    run(main)
