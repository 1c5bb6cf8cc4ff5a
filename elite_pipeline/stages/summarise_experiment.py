"""Write the summary page at the end of `make demo`: mIoU table, latency, and the paths of the figures."""

import json
from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


class SummariseExperiment(Section):
    """The parts of the configuration that the page states.

    labeller: null where no teacher was tuned on pseudo-labels.
    """

    labeller: str | None


def main(argv: list[str] | None = None) -> None:
    """Parse, read, write."""
    stage = parser(__doc__)
    stage.add_argument("--miou", type=Path, required=True, help="results/<experiment>_miou.md, the start of the page")
    stage.add_argument("--latency", type=Path, required=True, help="results/<experiment>_latency.json")
    stage.add_argument("--points", type=Path, nargs="?", help="results/<dataset>_<teacher>_points.json")
    stage.add_argument("--figures", type=Path, nargs="+", required=True, help="figures to list")
    stage.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    args, settings = parse(stage, SummariseExperiment, argv)

    from elite_pipeline.evaluation.metrics import teacher_lines

    latency = json.loads(args.latency.read_text())
    verdict = "meets" if latency["hz"] >= latency["budget_hz"] else "misses"
    total = latency["phases"]["total"]
    points = teacher_lines(json.loads(args.points.read_text())) if args.points else []
    labels = f"pseudo-labels: labeller '{settings.labeller}'; the rule evaluate_pseudo_labels compares the labellers"
    lines = [
        args.miou.read_text().strip(),
        "",
        f"latency: {total['p50']:.1f} ms per scan at the median, {total['p99']:.1f} ms at the 99th percentile."
        f" The median is {latency['hz']:.1f} Hz, which {verdict} the budget of {latency['budget_hz']:.0f} Hz"
        f" ({latency['budget_ms']:.1f} ms). Device: {latency['device']}",
        "",
        *([labels, ""] if settings.labeller else []),
        *(f"teacher: {line}\n" for line in points),
        "figures:",
        *(f"    {figure}" for figure in args.figures),
    ]
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    run(main)
