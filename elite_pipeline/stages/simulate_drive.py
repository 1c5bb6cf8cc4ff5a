"""Simulate one drive, in SemanticKITTI's or nuScenes' layout: scans, labels, images, calibration, poses, dense truth.

    python -m elite_pipeline.stages.simulate_drive --sequence 00 --out data/demo/sequences/00 \
        seed=7 frames=40 spacing=6.0 beams=64 columns=1024 image_width=512 image_height=160
"""

from pathlib import Path

from elite_pipeline.config import SimulateDrive
from elite_pipeline.errors import run
from elite_pipeline.stages import parse, parser


class DriveToSimulate(SimulateDrive):
    """The settings of this stage. format: of the files, one of `choices.DRIVES`."""

    format: str = "semantickitti"


def main(argv: list[str] | None = None) -> None:
    """Write the drive. The folder `--out` appears only when it is complete."""
    stage = parser(__doc__)
    stage.add_argument(
        "--sequence", required=True, help="name of the sequence; name and seed determine the simulated place"
    )
    stage.add_argument("--out", required=True, type=Path, help="folder of the sequence to write")
    arguments, settings = parse(stage, DriveToSimulate, argv)

    from elite_pipeline.choices import DRIVES, load

    drive = SimulateDrive(**settings.model_dump(exclude={"format"}))
    load(DRIVES[settings.format])(arguments.out, arguments.sequence, drive)


if __name__ == "__main__":
    run(main)
