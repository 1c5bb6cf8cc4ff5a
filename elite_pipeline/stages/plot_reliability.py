"""Plot the reliability diagram of a teacher's soft labels, before and after the temperature."""

import json
from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, draw."""
    stage = parser(__doc__)
    stage.add_argument("--result", type=Path, required=True, help="calibration.json, from calibrate_targets")
    stage.add_argument("--out", type=Path, required=True, help="PNG to write")
    args, _ = parse(stage, Section, argv)

    from elite_pipeline.figures.reliability import plot_reliability

    try:
        result = json.loads(args.result.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{args.result} is not a readable calibration ({error}). Delete it and run snakemake again."
        ) from None
    plot_reliability(args.out, result)


if __name__ == "__main__":
    run(main)
