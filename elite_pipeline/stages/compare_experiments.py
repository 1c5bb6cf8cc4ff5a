"""Compare experiments over several seeds: mean, spread and paired differences of their mIoU.

Writes --out (JSON), and tables of the experiments, their differences and the classes to the same name with .md.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from elite_pipeline.config import Compared, ComparisonSettings, Oracle
from elite_pipeline.config.values import Name
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


class ComparedExperiment(Compared):
    """A compared experiment with all names resolved.

    oracle: settings of the teacher if it is an oracle. labeller: the labeller of the teacher's training images.
    """

    dataset: Name
    teacher: Name | None
    student: Name
    pretraining: Name | None = None
    oracle: Oracle | None = None
    labeller: str | None


class CompareExperiments(ComparisonSettings):
    """A comparison with all names of its experiments resolved.

    teachers, datasets: the configuration of each, which the result keeps as a record.
    """

    comparison: Name
    teachers: dict[Name, dict[str, Any]] = Field(default={})
    datasets: dict[Name, dict[str, Any]] = Field(default={})
    experiments: dict[str, ComparedExperiment] = Field(min_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]


def main(argv: list[str] | None = None) -> None:
    """Parse, read and compare, write."""
    stage = parser(__doc__)
    stage.add_argument("--results", type=Path, nargs="+", required=True, help="mIoU result of each experiment and seed")
    stage.add_argument("--teachers", type=Path, nargs="*", default=[], help="results/<dataset>_<teacher>_points.json")
    stage.add_argument("--out", type=Path, required=True, help="results/<comparison>_comparison.json")
    arguments, settings = parse(stage, CompareExperiments, argv)

    import time

    from elite_pipeline import provenance
    from elite_pipeline.comparison.runs import compare
    from elite_pipeline.comparison.table import table
    from elite_pipeline.results import write

    began = time.perf_counter()
    result = compare(settings, arguments.results, arguments.teachers)
    result |= {"versions": provenance.versions(), "commit": provenance.commit()}
    write(arguments.out, result | {"seconds": round(time.perf_counter() - began, 2)}, table(result))


if __name__ == "__main__":
    run(main)
