"""Draw one training scan from above: seen in its own frame, reached by aggregation, never seen; and the classes."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, draw."""
    stage = parser(__doc__)
    add_sequences(stage, "frames", "projection", "targets", "aggregated")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline.evaluation.teacher_quality import predictions
    from elite_pipeline.figures.aggregation import plot_aggregation
    from elite_pipeline.recordings.sequence import open_recorded

    recorded = open_recorded(args.data, args.frames, args.projection, args.targets, aggregated=args.aggregated)[0]
    index = recorded.index
    # A scan in the middle of the drive, because the vehicle looks ahead: the place was seen before and after it.
    f = len(index.frames) // 2
    predicted = predictions(recorded, f)
    plot_aggregation(
        args.out,
        f"{index.sequence}/{index.frames[f]}",
        recorded.points(f),
        predicted["targets"],
        predicted["aggregated"],
        recorded.labels(f) if index.labelled[f] else None,
        index.classes,
    )


if __name__ == "__main__":
    run(main)
