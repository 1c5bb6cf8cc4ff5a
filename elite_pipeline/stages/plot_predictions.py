"""Draw predictions, truth and errors of validation scans in bird's-eye view."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequences, parse, parser

SCANS = 2


def main(argv: list[str] | None = None) -> None:
    """Parse, read, predict, draw."""
    stage = parser(__doc__)
    stage.add_argument("--model", type=Path, required=True, help="models/<experiment>")
    add_sequences(stage, "frames")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline.figures import drives
    from elite_pipeline.recordings import index
    from elite_pipeline.student.model import Predictor

    predictor = Predictor.load(args.model)
    scans = []
    for frames in args.frames:
        known = index.read(frames)
        predictor.classes.check_same(known.classes, args.model, frames)
        recording = known.source.open(args.data)
        scans += [(recording, name) for name, has in zip(known.frames, known.labelled, strict=True) if has]
    if not scans:
        raise InputError(f"no scan of {', '.join(map(str, args.frames))} is labelled: give sequences with labels")
    rows = []
    for recording, frame in scans[:: max(1, len(scans) // SCANS)][:SCANS]:
        points = recording.points(frame)
        rows.append((f"{recording.sequence}/{frame}", points, predictor(points), recording.labels(frame, len(points))))
    drives.plot_predictions(args.out, rows, predictor.classes)


if __name__ == "__main__":
    run(main)
