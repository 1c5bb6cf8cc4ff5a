"""Compare the labellers: ELiTe's SAM-PLG, the default labeller, and the nearest labelled pixel at the same coverage.

Each labeller gets all labelled points of an image, then 20, 5 and 1 % of them. It is scored against the dense truth, or
against held-out points where a data set has no dense truth. Writes --out (JSON), a table to the same name with .md, and
--gallery: the images in which the default labeller does worst, for plot_pseudo_labels. Each labeller is timed alone,
after a warm-up image. The time includes SAM's encoder and excludes reading the image.
"""

from pathlib import Path

from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, label, count, write."""
    from elite_pipeline.config import LabelImages, LabellersToEvaluate

    stage = parser(__doc__)
    stage.add_argument("--dataset", required=True)
    add_sequences(stage, "frames", "projection")
    stage.add_argument("--gallery", type=Path, required=True, help="NPZ of the worst images to write")
    stage.add_argument("--out", type=Path, required=True, help="results/<dataset>_pseudo_labels.json")
    args, settings = parse(stage, LabellersToEvaluate, argv)

    import time

    import torch

    from elite_pipeline import provenance
    from elite_pipeline.checkpoints import PACKAGED
    from elite_pipeline.labellers import benchmark
    from elite_pipeline.labellers.choice import build_labeller
    from elite_pipeline.progress import progress
    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.camera_views import spread_views
    from elite_pipeline.results import write

    began = time.perf_counter()
    indices = index.read_all(args.frames)
    classes = indices[0].classes
    views = spread_views(args.data, args.frames, args.projection, settings.frames)
    if not views:
        raise InputError(f"no frame of {', '.join(map(str, args.frames))} has both an image and labels")
    held_out = None if all(load().truth is not None for load in views) else settings.held_out
    sections = {"sam": settings.sam, "paper": settings.paper, "regions": settings.regions}
    labellers = {
        name: build_labeller(LabelImages.model_validate({"labeller": labeller, **sections}))
        for name, labeller in benchmark.LABELLERS.items()
    }
    found, gallery = (
        {share: benchmark.LabellerComparison(classes) for share in benchmark.SHARES},
        benchmark.Gallery(classes),
    )
    for k, load in enumerate(progress(views, label=f"evaluate_pseudo_labels {args.dataset}")):
        view = load()
        shown, reference = benchmark.split(view, settings.seed, held_out)
        if k == 0:  # warm-up: imports and first allocations are not timed
            benchmark.compare(labellers, benchmark.thinned(view, shown, 1.0), view.image, reference)
        for share in benchmark.SHARES:
            points = benchmark.thinned(view, shown, share)
            made = benchmark.compare(labellers, points, view.image, reference)
            gain = found[share].add(view.title, reference, made)
            gallery.add(gain, share, view, points[0], reference, made)
    by_density = {f"{share:g}": at_share.summary(held_out is None) for share, at_share in found.items()}
    result = {
        "dataset": args.dataset,
        "split": "train",
        "sequences": [known.sequence for known in indices],
        "reference": "dense truth" if held_out is None else "held-out points",
        "held_out": held_out,
        "classes": classes.evaluated,
        "frames": len(views),
        "labellers": by_density["1"]["labellers"],
        "by_density": by_density,
        "encoder": settings.sam.encoder,
        "weights_crc32": provenance.digest(settings.sam.checkpoint or PACKAGED),
        "config": settings.model_dump(mode="json"),
        "versions": provenance.versions(),
        "device": provenance.device_name(),
        "threads": torch.get_num_threads(),
        "commit": provenance.commit(),
        "seconds": round(time.perf_counter() - began, 2),
    }
    gallery.save(args.gallery)
    write(args.out, result, benchmark.table(result))


if __name__ == "__main__":
    run(main)
