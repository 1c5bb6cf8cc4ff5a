"""Score carried labels of a data set against the hidden labels of the unlabelled training scans.

The hidden labels are read only here, to evaluate. Writes --out (JSON) and the same name with .md.
"""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, compare, write."""
    stage = parser(__doc__)
    stage.add_argument("--dataset", required=True)
    add_sequences(stage, "frames", "selected", "carried")
    stage.add_argument("--out", type=Path, required=True, help="results/<dataset>_carried_labels.json")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline import provenance
    from elite_pipeline.evaluation.carried_quality import CarriedQuality, table
    from elite_pipeline.progress import progress
    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.results import write

    sequences = open_recorded(args.data, args.frames, carried=args.carried)
    if len(args.selected) != len(args.frames):
        raise InputError(f"--selected names {len(args.selected)} files for {len(args.frames)} --frames: give one each")
    selected = [index.read(path) for path in args.selected]
    for path, chosen, recorded in zip(args.selected, selected, sequences, strict=True):
        if chosen.frames != recorded.index.frames:
            raise InputError(f"{path} holds other frames than the sequence. Delete it and run snakemake again.")
    hidden = [
        (recorded, f)
        for recorded, chosen in zip(sequences, selected, strict=True)
        for f, known in enumerate(recorded.index.labelled & ~chosen.labelled)
        if known
    ]
    quality = CarriedQuality(sequences[0].index.classes)
    for recorded, f in progress(hidden, label=f"evaluate_carried_labels {args.dataset}"):
        moving = recorded.recording.moving(recorded.index.frames[f], int(recorded.index.points[f]))
        quality.add(recorded.labels(f), recorded.carried_labels(f), moving)
    if not quality.points:
        raise InputError(
            f"{args.dataset}: no training scan has hidden labels to compare carried labels with. Use a data set whose"
            " scans are all labelled, and let select_labels hide some: labelled: 0.1 in a variant of it (of:)."
        )
    carried = [recorded.carried for recorded in sequences]
    result = {
        "dataset": args.dataset,
        "split": "train",
        "sequences": [recorded.index.sequence for recorded in sequences],
        "labelled_scans": int(sum(chosen.labelled.sum() for chosen in selected)),
        **quality.summary(),
        "config": carried[0].group.attrs["provenance"]["settings"] if carried[0] else None,  # pyright: ignore
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }
    write(args.out, result, table(result))


if __name__ == "__main__":
    run(main)
