"""Write the model card of a trained student: description, training data, measured numbers and use.

The card is the last file of models/<experiment>/, since its numbers are measured after training. Writes --out.
"""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.config.values import Name
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


class WriteCard(Section):
    """The parts of the configuration that the card states."""

    teacher: Name | None
    simulated: bool


def main(argv: list[str] | None = None) -> None:
    """Parse, read, compare, write."""
    stage = parser(__doc__)
    stage.add_argument("--model", type=Path, required=True, help="folder of the trained student")
    stage.add_argument("--miou", type=Path, required=True, help="results/<experiment>_miou.json, single pass")
    stage.add_argument("--latency", type=Path, required=True, help="results/<experiment>_latency.json")
    stage.add_argument("--points", type=Path, nargs="?", help="results/<dataset>_<teacher>_points.json")
    stage.add_argument("--out", type=Path, required=True, help="models/<experiment>/README.md")
    arguments, settings = parse(stage, WriteCard, argv)

    import os

    from elite_pipeline.deploy.card import card, read_result, refuse_other_weights
    from elite_pipeline.student.model import read_config

    config = read_config(arguments.model)
    miou = read_result(arguments.miou, "evaluate_miou")
    latency = read_result(arguments.latency, "measure_latency")
    refuse_other_weights(arguments.model, arguments.miou, miou)
    points = read_result(arguments.points, "evaluate_teacher") if arguments.points else None
    partial = arguments.out.with_name(arguments.out.name + ".partial")
    about = {"teacher": settings.teacher, "points": points, "simulated": settings.simulated}
    partial.write_text(card(config, miou, latency, **about))
    os.replace(partial, arguments.out)


if __name__ == "__main__":
    run(main)
