"""Draw the IoU per class and the confusion matrix of an mIoU result."""

import json
from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, draw."""
    stage = parser(__doc__)
    stage.add_argument("--result", type=Path, required=True, help="results/<experiment>_miou.json")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline.figures import results

    results.plot_miou(args.out, json.loads(args.result.read_text()))


if __name__ == "__main__":
    run(main)
