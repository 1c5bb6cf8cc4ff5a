"""Spread the labels of one sequence's projected points over its images: dense pseudo-labels."""

from pathlib import Path

from elite_pipeline.config import LabelImages
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


def main(argv=None):
    stage = parser(__doc__)
    stage.add_argument("--sequence-folder", type=Path, required=True, help="data/<dataset>/sequences/NN")
    stage.add_argument("--frames", type=Path, required=True, help="its index, from index_frames")
    stage.add_argument("--projection", type=Path, required=True, help="its projection store, from project_points")
    stage.add_argument("--out", type=Path, required=True, help="pseudo-label store to write")
    args, settings = parse(stage, LabelImages, argv)

    import numpy as np

    from elite_pipeline import store
    from elite_pipeline.datasets import open_recording
    from elite_pipeline.evaluation.confusion import Agreement
    from elite_pipeline.labellers.choice import build_labeller
    from elite_pipeline.labellers.sparse import paint
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings import index
    from elite_pipeline.resume import origin

    recording = open_recording(args.sequence_folder)
    frames = index.read(args.frames)
    projection = store.Projection(args.projection)
    largest = tuple(np.max([frames.sizes[camera].max(axis=0) for camera in projection.cameras], axis=0))
    # Where labels are few, most sequences have none: SAM is loaded only for those that do.
    label_image = build_labeller(settings) if frames.labelled.any() else None
    against_truth = Agreement()

    with store.create(
        args.out,
        "pseudo_labels",
        sequence=recording.sequence,
        frames=frames.frames,
        provenance=provenance(settings, args.frames, args.projection),
        origin=origin("label_images", network=settings.sam),
        cameras=projection.cameras,
        image_sizes=projection.image_sizes,
    ) as out:
        shape = (len(projection.cameras), *largest)
        arrays = [out.rows(name, shape, np.uint8, compress=True) for name in ("label", "confidence")]
        out.keep(against_truth=against_truth.confusion)
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
    if against_truth.confusion.any():
        print(f"against the dense truth: {against_truth}")


if __name__ == "__main__":
    run(main)
