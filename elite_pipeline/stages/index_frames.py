"""Check every file of one sequence and write its index of frames. All faults come in one report."""

from pathlib import Path

from elite_pipeline.config import IndexFrames
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


def main(argv=None):
    stage = parser(__doc__)
    stage.add_argument("--sequence-folder", type=Path, required=True, help="data/<dataset>/sequences/NN")
    stage.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    args, settings = parse(stage, IndexFrames, argv)

    from elite_pipeline.datasets import open_recording
    from elite_pipeline.recordings import index

    recording = open_recording(args.sequence_folder)
    rows, faults = index.check(
        recording,
        settings.cameras,
        labels=settings.labels,
        images=settings.images,
        missing_images=settings.missing_images,
    )
    faults += index.wrong_sizes(rows, settings.cameras, args.sequence_folder)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise InputError(f"{args.sequence_folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}")
    index.write(args.out, rows)
    points = sum(row["points"] for row in rows)
    images = sum(bool(row.get(f"{camera}_height")) for row in rows for camera in settings.cameras)
    labelled = sum(row["labelled"] for row in rows)
    print(f"{args.sequence_folder}: {len(rows)} scans, {points} points, {labelled} scans labelled, {images} images")


if __name__ == "__main__":
    run(main)
