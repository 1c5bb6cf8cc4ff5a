"""Draw prediction, truth and errors of validation scans from above."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser

SCANS = 2


def main(argv=None):
    stage = parser(__doc__)
    stage.add_argument("--model", type=Path, required=True, help="models/<experiment>")
    stage.add_argument("--sequences", type=Path, nargs="+", required=True, help="data/<dataset>/sequences/NN ...")
    stage.add_argument("--frames", type=Path, nargs="+", required=True, help="their indices, in the same order")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline.datasets import open_recording
    from elite_pipeline.figures import drives
    from elite_pipeline.recordings import index
    from elite_pipeline.student.model import Predictor

    predictor = Predictor.load(args.model)
    scans = []
    for folder, frames in zip(args.sequences, args.frames, strict=True):
        known = index.read(frames)
        scans += [(open_recording(folder), name) for name, has in zip(known.frames, known.labelled, strict=True) if has]
    if not scans:
        raise InputError(f"no scan of {', '.join(map(str, args.sequences))} is labelled, so there is no truth to draw")
    rows = []
    for recording, frame in scans[:: max(1, len(scans) // SCANS)][:SCANS]:
        points = recording.points(frame)
        rows.append((f"{recording.sequence}/{frame}", points, predictor(points), recording.labels(frame, len(points))))
    drives.plot_predictions(args.out, rows)


if __name__ == "__main__":
    run(main)
