"""Divide the images of one sequence into superpixels, and store the superpixel of each projected point."""

from pathlib import Path

from elite_pipeline.config import SegmentImages
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, segment, write."""
    stage = parser(__doc__)
    add_sequence(stage, "frames", "projection")
    stage.add_argument("--out", type=Path, required=True, help="superpixel store to write")
    args, settings = parse(stage, SegmentImages, argv)

    import numpy as np

    from elite_pipeline import store
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings import index, superpixels
    from elite_pipeline.resume import origin

    frames = index.read(args.frames)
    recording = frames.source.open(args.data)
    projection = store.Projection(args.projection)
    if projection.frames != frames.frames:
        raise InputError(f"{args.projection} has other frames than {args.frames}. Delete it and run snakemake again.")
    images = [(f, c) for f in range(len(frames.frames)) for c in range(len(projection.cameras))]
    # No point is projected onto an image that a camera did not take.
    images = [(f, c) for f, c in images if projection.rows(f, c).start < projection.rows(f, c).stop]
    counted = np.zeros(1, dtype=np.int64)
    with store.create(
        args.out,
        "superpixels",
        sequence=recording.sequence,
        frames=frames.frames,
        provenance=provenance(settings, args.frames, args.projection),
        origin=origin("segment_images"),
        cameras=projection.cameras,
    ) as out:
        segment = out.rows("segment", (), np.uint16)
        out.keep(counted=counted)
        for f, c in out.steps(images, label=f"segment_images {recording.sequence}", unit="image"):
            found = superpixels.segments(recording.image(frames.frames[f], projection.cameras[c]), settings)
            segment.append(superpixels.at(found, projection.read("pixel", projection.rows(f, c))))
            counted += found.max() + 1
    mean = int(counted[0]) / max(1, len(images))
    print(f"{args.out}: {int(projection.offsets[-1])} points in {len(images)} images of {mean:.0f} superpixels each")


if __name__ == "__main__":
    run(main)
