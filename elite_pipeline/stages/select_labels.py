"""Write an index of one training sequence that marks only the chosen scans as labelled."""

from pathlib import Path

from elite_pipeline.config import LabelsToSelect
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, choose scans among all sequences, write one index."""
    stage = parser(__doc__)
    stage.add_argument("--sequence", required=True, help="the sequence whose index is written")
    stage.add_argument("--frames", type=Path, nargs="+", required=True, help="indices of all training sequences")
    stage.add_argument("--out", type=Path, required=True, help="index to write")
    arguments, settings = parse(stage, LabelsToSelect, argv)

    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.label_selection import select

    indices = {known.sequence: known for known in index.read_all(arguments.frames)}
    chosen = select(indices, settings)
    mine, total = chosen[arguments.sequence], sum(map(len, chosen.values()))
    path = arguments.frames[list(indices).index(arguments.sequence)]
    index.with_labels_of(path, mine, arguments.out)
    print(f"{arguments.out}: labels of {len(mine)} scans ({total} in all sequences): {' '.join(sorted(mine))}")


if __name__ == "__main__":
    run(main)
