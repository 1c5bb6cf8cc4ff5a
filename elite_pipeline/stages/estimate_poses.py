"""Estimate the poses of one sequence from its scans, for drives without recorded poses."""

from pathlib import Path

from elite_pipeline.config import EstimatePoses
from elite_pipeline.errors import run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, estimate, write, check."""
    stage = parser(__doc__)
    add_sequence(stage, "frames")
    stage.add_argument("--out", type=Path, required=True, help="Parquet file of the poses to write")
    args, settings = parse(stage, EstimatePoses, argv)

    import numpy as np

    from elite_pipeline.progress import progress
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings import odometry, poses
    from elite_pipeline.recordings.pose_check import check_poses
    from elite_pipeline.recordings.sequence import Recorded

    recorded = Recorded(args.data, args.frames)
    known = recorded.index
    scans = map(recorded.points, progress(range(len(known.frames)), label=f"estimate_poses {known.sequence}"))
    found = odometry.estimate(scans, settings)
    checked = check_poses(recorded.recording, known.frames, found, estimated=True)
    poses.write(args.out, known.sequence, known.frames, found, provenance(settings, args.frames))
    length = np.linalg.norm(np.diff(found[:, :3, 3], axis=0), axis=1).sum()
    print(f"{args.out}: {len(found)} poses over {length:.0f} m. {checked}")
    if checked.warning:
        print(checked.warning)


if __name__ == "__main__":
    run(main)
