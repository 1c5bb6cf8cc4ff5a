"""Draw the quality of the labellers over the share of points, and the worst images of the default labeller."""

import json
from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, draw."""
    stage = parser(__doc__)
    stage.add_argument("--result", type=Path, required=True, help="results/<dataset>_pseudo_labels.json")
    stage.add_argument(
        "--gallery", type=Path, required=True, help="NPZ of the worst images, from evaluate_pseudo_labels"
    )
    stage.add_argument("--out", type=Path, required=True, help="PNG of the curves to write")
    stage.add_argument("--worst", type=Path, required=True, help="PNG of the worst images to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline.figures import labellers
    from elite_pipeline.labellers.benchmark import read_gallery

    labellers.plot_curves(args.out, json.loads(args.result.read_text()))
    rows, classes = read_gallery(args.gallery)
    if not rows:
        raise InputError(f"{args.gallery} has no image that the default labeller covers. See coverage in {args.result}")
    labellers.plot_worst(args.worst, rows, classes)


if __name__ == "__main__":
    run(main)
