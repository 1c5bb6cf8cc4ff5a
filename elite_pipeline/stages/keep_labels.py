"""Write an index of one training sequence that marks only the scans chosen by select_labels as labelled."""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, write."""
    stage = parser(__doc__)
    stage.add_argument("--frames", type=Path, required=True, help="index of the sequence")
    stage.add_argument("--selection", type=Path, required=True, help="scans that keep their labels, from select_labels")
    stage.add_argument("--out", type=Path, required=True, help="index to write")
    arguments, _ = parse(stage, Section, argv)

    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.label_selection import read_selection

    kept = read_selection(arguments.selection, arguments.frames.stem)
    index.with_labels_of(arguments.frames, kept, arguments.out)
    print(f"{arguments.out}: labels of {len(kept)} scans: {' '.join(sorted(kept))}")


if __name__ == "__main__":
    run(main)
