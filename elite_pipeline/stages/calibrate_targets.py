"""Find the temperatures that make a teacher's soft labels as confident as they are right.

They are measured at labelled scans that the teacher was not tuned on (`tune_teacher.held_out`). Where there are none,
the scans that it was tuned on are taken, and the result says `held_out: false`: a teacher is too often right there, so
the temperature is too low. Without any labelled scan the temperature is 1. Writes a JSON file.
"""

from pathlib import Path

from elite_pipeline.config import TargetsToCalibrate
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, measure, write."""
    stage = parser(__doc__)
    stage.add_argument("--dataset", required=True)
    stage.add_argument("--teacher", required=True, help="name of the teacher or oracle")
    add_sequences(stage, "frames", "projection", "targets", optional=("aggregated",))
    stage.add_argument("--out", type=Path, required=True, help="cache/<dataset>/<teacher>/calibration.json")
    args, settings = parse(stage, TargetsToCalibrate, argv)

    import json
    import os

    from elite_pipeline import provenance
    from elite_pipeline.evaluation.teacher_confidence import measure, scans_to_measure
    from elite_pipeline.recordings.sequence import open_recorded

    sequences = open_recorded(args.data, args.frames, args.projection, args.targets, aggregated=args.aggregated)
    for path, recorded in zip(args.targets, sequences, strict=True):
        if not recorded.has_soft_labels:
            raise InputError(f"{path} holds no soft labels: add logits to cache_teacher.targets of {args.teacher}")
    scans, is_held_out = scans_to_measure(sequences, settings.held_out, tuned=settings.tuned)
    found = measure(sequences, scans, label=f"calibrate_targets {args.teacher}")
    attributes = sequences[0].targets.attrs  # pyright: ignore[reportOptionalMemberAccess]
    result = {
        "dataset": args.dataset,
        "teacher": args.teacher,
        "oracle": attributes.get("oracle"),
        **found,
        "held_out": is_held_out,
        "scans": len(scans),
        "sequences": sorted({sequences[s].index.sequence for s, _ in scans}),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_name(args.out.name + ".partial")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(partial, args.out)
    print(f"{args.out}: {len(scans)} labelled scans, {'held out' if is_held_out else 'not held out'}")
    for kind, about in found.items():
        if about is not None and about["points"]:
            errors = f"{about['ece_before']:.3f} before and {about['ece_after']:.3f} after"
            print(f"{kind}: temperature {about['temperature']}, calibration error {errors}")


if __name__ == "__main__":
    run(main)
