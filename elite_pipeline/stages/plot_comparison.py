"""Draw a comparison: the mIoU of each experiment and seed, the differences, and the differences per class."""

import json
from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, draw."""
    stage = parser(__doc__)
    stage.add_argument("--result", type=Path, required=True, help="results/<comparison>_comparison.json")
    stage.add_argument("--out", type=Path, required=True, help="PNG of the experiments and their differences")
    stage.add_argument("--classes", type=Path, required=True, help="PNG of the differences per class")
    arguments, _ = parse(stage, Section, argv)

    from elite_pipeline.figures import comparisons

    result = json.loads(arguments.result.read_text())
    comparisons.plot_comparison(arguments.out, result)
    comparisons.plot_classes(arguments.classes, result)


if __name__ == "__main__":
    run(main)
