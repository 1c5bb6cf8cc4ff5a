"""Choose the training scans that keep their labels, among those of all training sequences, and list them."""

from pathlib import Path

from elite_pipeline.config import LabelsToSelect
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, choose, write."""
    stage = parser(__doc__)
    stage.add_argument("--frames", type=Path, nargs="+", required=True, help="indices of all training sequences")
    stage.add_argument("--out", type=Path, required=True, help="JSON file to write: sequence -> frames")
    arguments, settings = parse(stage, LabelsToSelect, argv)

    from elite_pipeline.recordings import index
    from elite_pipeline.recordings.label_selection import select, write_selection

    indices = {known.sequence: known for known in index.read_all(arguments.frames)}
    chosen = select(indices, settings)
    write_selection(arguments.out, chosen)
    drives = sum(map(bool, chosen.values()))
    print(f"{arguments.out}: {sum(map(len, chosen.values()))} scans of {drives} sequences keep their labels")


if __name__ == "__main__":
    run(main)
