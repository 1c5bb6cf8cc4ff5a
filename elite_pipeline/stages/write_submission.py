"""Label every scan of the test sequences and write the zip for SemanticKITTI's benchmark (single-scan task)."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, predict, pack."""
    stage = parser(__doc__)
    stage.add_argument("--model", type=Path, required=True, help="models/<experiment>")
    add_sequences(stage, optional=("frames",))
    stage.add_argument("--out", type=Path, required=True, help="results/<experiment>_submission.zip")
    args, _ = parse(stage, Section, argv)
    if not args.frames:
        raise InputError("no sequence to submit: list unlabelled sequences under test: of the data set in config.yaml")

    from elite_pipeline.datasets.semantickitti import BENCHMARK
    from elite_pipeline.deploy import submission
    from elite_pipeline.progress import progress
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.student.model import Predictor

    predict = Predictor.load(args.model)
    recordings = open_recorded(args.data, args.frames)
    for path, recorded in zip(args.frames, recordings, strict=True):
        predict.classes.check_same(recorded.index.classes, args.model, path)
    points = {r.index.sequence: dict(zip(r.index.frames, r.index.points.tolist(), strict=True)) for r in recordings}
    scans = [(r, f) for r in recordings for f in range(len(r.index.frames))]
    predictions = (
        (r.index.sequence, r.index.frames[f], predict.classes.to_raw(predict(r.points(f))))
        for r, f in progress(scans, label="write_submission", unit="scan")
    )
    submission.write(args.out, points, predictions)
    megabytes = args.out.stat().st_size / 1e6
    print(f"{args.out}: {len(scans)} scans of {len(points)} sequences, {megabytes:.1f} MB, every entry checked")
    if sorted(points) != BENCHMARK:
        print(
            f"warning: SemanticKITTI's benchmark requires exactly the sequences {', '.join(BENCHMARK)}."
            f" This file has {', '.join(sorted(points))}, so the benchmark would reject it"
        )


if __name__ == "__main__":
    run(main)
