"""Write the targets of an oracle for one simulated sequence: its ground truth with errors added, to a stated accuracy.

The targets have the form of a teacher's cached targets. An oracle is a diagnostic of a simulated world, never a result
of a method. It reads the labels of all scans, even those that the data set hides from students.
"""

from pathlib import Path

from elite_pipeline.config import Oracle
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, corrupt, write."""
    stage = parser(__doc__)
    add_sequence(stage, "frames", "projection")
    stage.add_argument("--out", type=Path, required=True, help="targets store to write")
    args, settings = parse(stage, Oracle, argv)

    import numpy as np
    import torch

    from elite_pipeline import store
    from elite_pipeline.choices import STAGES
    from elite_pipeline.evaluation import oracle
    from elite_pipeline.evaluation.confusion import Confusion
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings.sequence import Recorded
    from elite_pipeline.resume import origin
    from elite_pipeline.soft_labels import class_mass, encode, named

    recorded, projection = Recorded(args.data, args.frames), store.Projection(args.projection)
    frames, sequence = recorded.index.frames, recorded.index.sequence
    if projection.frames != frames:
        raise InputError(f"{args.projection} holds other frames than {args.frames}. Delete it and run snakemake again.")
    if unlabelled := [frame for frame, known in zip(frames, recorded.index.labelled, strict=True) if not known]:
        raise InputError(
            f"{args.frames}: {len(unlabelled)} scans are unlabelled, the first is {unlabelled[0]}."
            " An oracle needs dense truth. Use a simulated data set, or one with missing_labels: false."
        )

    def truth(f: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (labels, instances) of the projected points of frame index `f`.

        Raises `InputError` where a projected point is not in the scan.
        """
        point = projection.read("point", projection.frame_rows(f))
        if len(point) and point.max() >= recorded.index.points[f]:
            raise InputError(
                f"{args.projection}, frame {frames[f]}: points beyond the scan. Delete it and run snakemake again."
            )
        return recorded.labels(f)[point], recorded.instances(f)[point]

    classes = recorded.index.classes
    corruption = oracle.Corruption(settings, sequence, map(truth, range(len(frames))), classes)
    agreement, mass = Confusion(classes), np.zeros((STAGES, len(classes)))
    with store.create(
        args.out,
        "targets",
        sequence=sequence,
        frames=frames,
        provenance=provenance(settings, args.frames, args.projection),
        origin=origin("corrupt_truth"),
        cameras=projection.cameras,
        classes=classes.to_json(),
        stages=STAGES,
        oracle=settings.model_dump(mode="json"),
        note=oracle.NOTE,
    ) as out:
        rows = out.rows("soft_label", (STAGES, 2 * named(len(classes))), np.uint8, compress=True)
        out.keep(mass=mass, agreement=agreement.counts)
        for f in out.steps(list(range(len(frames))), label=f"corrupt_truth {sequence}"):
            labels, instances = truth(f)
            point, visible = (projection.read(name, projection.frame_rows(f)) for name in ("point", "visible"))
            answers = corruption.answers(frames[f], recorded.points(f)[point], labels, instances)
            logits = oracle.logits(answers, settings.accuracy, len(classes))
            rows.append(encode(torch.from_numpy(logits)).numpy())
            mass += class_mass(logits[visible])
            agreement.add(labels[visible], answers[visible])
        out.array("mass", mass)
    print(f"{args.out}: {int(projection.offsets[-1])} points, oracle with accuracy {settings.accuracy:g}")
    print(f"at visible labelled points: {agreement}")


if __name__ == "__main__":
    run(main)
