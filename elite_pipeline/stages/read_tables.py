"""Read the tables of a data set once, and write for each sequence a file that says where its frames lie."""

from pathlib import Path

from elite_pipeline.config import ReadTables
from elite_pipeline.errors import run
from elite_pipeline.stages import add_data, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, write."""
    stage = parser(__doc__)
    add_data(stage)
    stage.add_argument("--out", type=Path, required=True, help="folder to write, one Parquet file per sequence")
    args, settings = parse(stage, ReadTables, argv)

    from elite_pipeline.choices import FORMATS, load
    from elite_pipeline.datasets.classes import class_table

    read_tables = load(FORMATS[settings.format].recording).read_tables
    read_tables(args.data, settings.sequences, settings.cameras, class_table(settings.classes), args.out)
    print(f"{args.out}: records of {len(set(settings.sequences))} sequences")


if __name__ == "__main__":
    run(main)
