"""Join the tables of simulated scenes into those of a data set in nuScenes' layout, which the official devkit loads.

    python -m elite_pipeline.stages.simulate_tables --scenes data/demo_nuscenes/sequences/* \
        --out data/demo_nuscenes/v1.0-mini
"""

from pathlib import Path

from elite_pipeline.config.validation import Section
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


def main(argv: list[str] | None = None) -> None:
    """Write the tables. The folder `--out` appears only when it, and the labels beside it, are complete."""
    stage = parser(__doc__)
    stage.add_argument("--scenes", required=True, type=Path, nargs="+", help="folders of the simulated scenes")
    stage.add_argument("--out", required=True, type=Path, help="folder of the tables, data/<dataset>/v1.0-mini")
    arguments, _ = parse(stage, Section, argv)

    from elite_pipeline.simulation.scene_tables import join_tables

    rows = join_tables(arguments.scenes, arguments.out)
    print(f"{arguments.out}: {len(rows['sample'])} keyframes of {len(rows['scene'])} scenes")


if __name__ == "__main__":
    run(main)
