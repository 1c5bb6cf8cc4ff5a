"""An oracle of one simulated sequence: its truth, corrupted to a stated accuracy, as a teacher's cached targets.

A diagnostic of a simulated world, and never a result of a method. It reads the labels of all scans, whatever a data set
lets students use.
"""

from pathlib import Path

from elite_pipeline.config import Oracle
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


def main(argv=None):
    """Parse, read, corrupt, write."""
    stage = parser(__doc__)
    stage.add_argument("--sequence-folder", type=Path, required=True, help="data/<dataset>/sequences/NN")
    stage.add_argument("--frames", type=Path, required=True, help="the index of all its labels, from index_frames")
    stage.add_argument("--projection", type=Path, required=True, help="its projection store, from project_points")
    stage.add_argument("--out", type=Path, required=True, help="targets store to write")
    args, settings = parse(stage, Oracle, argv)

    import numpy as np

    from elite_pipeline import store
    from elite_pipeline.config import STAGES
    from elite_pipeline.datasets.semantickitti import CLASSES
    from elite_pipeline.evaluation import oracle
    from elite_pipeline.evaluation.confusion import Agreement
    from elite_pipeline.evaluation.soft_labels import class_mass
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings.sequence import Recorded
    from elite_pipeline.resume import origin

    recorded, projection = Recorded(args.sequence_folder, args.frames), store.Projection(args.projection)
    frames, sequence = recorded.index.frames, recorded.recording.sequence
    if projection.frames != frames:
        raise InputError(f"{args.projection} holds other frames than {args.frames}. Delete it and run snakemake again.")
    if unlabelled := [frame for frame, known in zip(frames, recorded.index.labelled, strict=True) if not known]:
        raise InputError(
            f"{args.frames}: {len(unlabelled)} scans are unlabelled, the first is {unlabelled[0]};"
            " an oracle needs dense truth. Use it on a simulated data set, or on one with missing_labels: false."
        )

    def truth(f):
        """(labels, instances) of the projected points of frame index `f`."""
        point = projection.read("point", projection.frame_rows(f))
        if len(point) and point.max() >= recorded.index.points[f]:
            raise InputError(
                f"{args.projection}, frame {frames[f]}: points beyond the scan. Delete it and run snakemake again."
            )
        return recorded.labels(f)[point], recorded.instances(f)[point]

    corruption = oracle.Corruption(settings, sequence, map(truth, range(len(frames))))
    agreement, mass = Agreement(), np.zeros((STAGES, len(CLASSES)))
    with store.create(
        args.out,
        "targets",
        sequence=sequence,
        frames=frames,
        provenance=provenance(settings, args.frames, args.projection),
        origin=origin("corrupt_truth"),
        cameras=projection.cameras,
        classes=list(CLASSES),
        stages=STAGES,
        oracle=settings.model_dump(mode="json"),
        note=oracle.NOTE,
    ) as out:
        rows = out.rows("logits", (STAGES, len(CLASSES)), np.float16)
        out.keep(mass=mass, agreement=agreement.confusion)
        for f in out.steps(list(range(len(frames))), label=f"corrupt_truth {sequence}"):
            labels, instances = truth(f)
            point, visible = (projection.read(name, projection.frame_rows(f)) for name in ("point", "visible"))
            answers = corruption.answers(frames[f], recorded.points(f)[point], labels, instances)
            logits = oracle.logits(answers, settings.accuracy)
            rows.append(logits)
            mass += class_mass(logits[visible])
            agreement.add(labels[visible], answers[visible])
        out.array("mass", mass)
    print(f"{args.out}: {int(projection.offsets[-1])} points of an oracle with accuracy {settings.accuracy:g}")
    print(f"at visible labelled points: {agreement}")


if __name__ == "__main__":
    run(main)
