"""Make dense pseudo-labels: spread the labels of one sequence's projected points over its images."""

from pathlib import Path

from elite_pipeline.config import LabelImages
from elite_pipeline.errors import run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, label, write."""
    stage = parser(__doc__)
    add_sequence(stage, "frames", "projection")
    stage.add_argument("--out", type=Path, required=True, help="pseudo-label store to write")
    args, settings = parse(stage, LabelImages, argv)

    import numpy as np

    from elite_pipeline import store
    from elite_pipeline.evaluation.confusion import Confusion
    from elite_pipeline.labellers.choice import build_labeller
    from elite_pipeline.labellers.painting import paint
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings import index
    from elite_pipeline.resume import origin

    frames = index.read(args.frames)
    recording = frames.source.open(args.data)
    projection = store.Projection(args.projection)
    largest = tuple(np.max([frames.sizes[camera].max(axis=0) for camera in projection.cameras], axis=0))
    # With few labels most sequences have none, so SAM is loaded only for sequences that have some.
    label_image = build_labeller(settings) if frames.labelled.any() else None
    against_truth = Confusion(frames.classes)

    with store.create(
        args.out,
        "pseudo_labels",
        sequence=recording.sequence,
        frames=frames.frames,
        provenance=provenance(settings, args.frames, args.projection),
        origin=origin("label_images", network=settings.sam),
        cameras=projection.cameras,
        classes=frames.classes.to_json(),
        image_sizes=projection.image_sizes,
    ) as out:
        shape = (len(projection.cameras), *largest)
        arrays = [out.rows(name, shape, np.uint8, compress=True) for name in ("label", "confidence")]
        out.keep(against_truth=against_truth.counts)
        for f, frame in out.steps(list(enumerate(frames.frames)), label=f"label_images {recording.sequence}"):
            dense = np.zeros((2, 1, len(projection.cameras), *largest), dtype=np.uint8)
            for c, camera in enumerate(projection.cameras):
                height, width = frames.sizes[camera][f]
                if height == 0 or not frames.labelled[f] or label_image is None:
                    continue
                rows = projection.rows(f, c)
                seen = projection.read("visible", rows)
                point = projection.read("point", rows)[seen]
                pixel, depth = projection.read("pixel", rows)[seen], projection.read("depth", rows)[seen]
                label = recording.labels(frame, frames.points[f])[point]
                instance = recording.instances(frame, frames.points[f])[point]
                sparse, instances = paint(pixel, depth, label, instance, (height, width))
                image = lambda frame=frame, camera=camera: recording.image(frame, camera)  # noqa: E731
                made = label_image(sparse, instances, image)
                dense[:, 0, c, :height, :width] = made.label, made.confidence
                if (truth := recording.truth(frame, camera)) is not None:
                    against_truth.add(truth, made.label)
            for rows, values in zip(arrays, dense, strict=True):
                rows.append(values)
    print(f"{args.out}: {len(frames.frames)} frames labelled by '{settings.labeller}'")
    if against_truth.known:
        print(f"against the dense truth: {against_truth}")


if __name__ == "__main__":
    run(main)
