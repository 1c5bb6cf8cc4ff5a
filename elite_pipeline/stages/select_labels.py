"""Few labels: the index of one training sequence in which only the scans that were chosen are labelled."""

from pathlib import Path

from elite_pipeline.config import LabelsToSelect
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


def main(argv=None):
    """Parse, read, choose among all sequences, write the one."""
    stage = parser(__doc__)
    stage.add_argument("--sequence", required=True, help="two digits: the sequence to write")
    stage.add_argument("--frames", type=Path, nargs="+", required=True, help="indices NN.parquet of the training split")
    stage.add_argument("--out", type=Path, required=True, help="index to write")
    arguments, settings = parse(stage, LabelsToSelect, argv)

    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.label_selection import select

    paths = {path.stem: path for path in arguments.frames}
    chosen = select({sequence: index.read(path) for sequence, path in paths.items()}, settings)
    mine, total = chosen[arguments.sequence], sum(map(len, chosen.values()))
    index.with_labels_of(paths[arguments.sequence], mine, arguments.out)
    print(f"{arguments.out}: labels of {len(mine)} scans ({total} in all sequences): {' '.join(sorted(mine))}")


if __name__ == "__main__":
    run(main)
