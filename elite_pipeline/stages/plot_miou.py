"""Draw IoU per class and the confusion matrix of an mIoU result."""

import json
from pathlib import Path

from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser
from elite_pipeline.validation import Section


def main(argv=None):
    stage = parser(__doc__)
    stage.add_argument("--result", type=Path, required=True, help="results/<experiment>_miou.json")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline import figures

    figures.plot_miou(args.out, json.loads(args.result.read_text()))


if __name__ == "__main__":
    run(main)
