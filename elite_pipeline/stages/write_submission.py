"""Label every scan of the test sequences and write the zip that the benchmark of their format takes.

SemanticKITTI: the single-scan task. nuScenes: the lidarseg challenge, of the official split that the sequences are."""

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

    from elite_pipeline.deploy import submission
    from elite_pipeline.deploy.predict import predicted, recorded_layout
    from elite_pipeline.recordings.sequence import open_recorded
    from elite_pipeline.student.model import Predictor

    predict = Predictor.load(args.model)
    recordings = open_recorded(args.data, args.frames)
    layout = recorded_layout(predict, recordings, args.model, args.frames)
    submission.write(args.out, layout, predicted(predict, recordings, layout, "write_submission"))
    megabytes = args.out.stat().st_size / 1e6
    print(
        f"{args.out}: {len(layout.names)} scans of {len(recordings)} sequences, {megabytes:.1f} MB, every entry checked"
    )
    if layout.warning:
        print(f"warning: {layout.warning}")


if __name__ == "__main__":
    run(main)
