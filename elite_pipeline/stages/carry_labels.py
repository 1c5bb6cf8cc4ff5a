"""Carry the labels of labelled scans of one sequence to the other scans of the same place, by the vehicle's poses.

No teacher has a part in it. Only the labels that select_labels left are read. Labelled scans get no rows.
"""

from pathlib import Path

from elite_pipeline.config import SequenceToCarry
from elite_pipeline.errors import run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, carry, write."""
    stage = parser(__doc__)
    add_sequence(stage, "frames")
    stage.add_argument("--poses", type=Path, nargs="?", help="from estimate_poses; without it, the recorded poses")
    stage.add_argument("--out", type=Path, required=True, help="store of carried labels to write")
    args, settings = parse(stage, SequenceToCarry, argv)

    import numpy as np

    from elite_pipeline import store
    from elite_pipeline.aggregation.carried import Carrier
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings.pose_check import FEW, check_poses
    from elite_pipeline.recordings.poses import poses_of
    from elite_pipeline.recordings.sequence import Recorded
    from elite_pipeline.resume import origin

    recorded = Recorded(args.data, args.frames)
    index = recorded.index
    world_from_lidar = poses_of(index, args.poses)
    estimated = args.poses is not None
    print(check_poses(recorded.recording, index.frames, world_from_lidar, estimated=estimated, limit=FEW).verdict)
    carrier = Carrier(
        settings.carry_labels,
        index.classes,
        world_from_lidar,
        index.labelled,
        points=recorded.points,
        labels=recorded.labels,
    )
    rows = np.zeros(len(index.frames) + 1, np.int64)
    with store.create(
        args.out,
        "carried_labels",
        sequence=index.sequence,
        frames=index.frames,
        provenance=provenance(settings, args.frames, *([args.poses] if args.poses else [])),
        origin=origin("carry_labels"),
        classes=index.classes.to_json(),
    ) as out:
        point = out.rows("point", (), np.uint32, compress=True)
        bytes_of_rows = [out.rows(name, (), np.uint8, compress=True) for name in ("label", "confidence", "scans")]
        out.keep(rows=rows)
        for f in out.steps(list(range(len(index.frames))), label=f"carry_labels {index.sequence}"):
            voted = carrier.voted(f)
            point.append(voted.point)
            for array, values in zip(bytes_of_rows, (voted.label, voted.confidence, voted.scans), strict=True):
                array.append(values)
            rows[f + 1] = len(voted.point)
        out.array("offsets", np.cumsum(rows))
    labelled, asked = int(index.labelled.sum()), int(index.points[~index.labelled].sum())
    print(f"{args.out}: labels of {labelled} of {len(index.frames)} scans")
    print(f"coverage of the other scans: {rows.sum()} of {asked} points ({rows.sum() / max(asked, 1):.1%})")
    if not labelled:
        print(f"no scan of sequence {index.sequence} is labelled, so there is nothing to carry: the store is empty")


if __name__ == "__main__":
    run(main)
