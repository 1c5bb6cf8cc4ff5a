"""Aggregate a teacher's soft labels of one sequence over all frames that see a place, by the vehicle's poses.

Every point of every scan whose place was seen by a camera gets a soft label, also behind the vehicle.
"""

from pathlib import Path

from elite_pipeline.config import SequenceToAggregate
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, aggregate, write."""
    stage = parser(__doc__)
    add_sequence(stage, "frames", "projection", "targets")
    stage.add_argument("--poses", type=Path, nargs="?", help="from estimate_poses; without it, the recorded poses")
    stage.add_argument("--out", type=Path, required=True, help="store of aggregated soft labels to write")
    args, settings = parse(stage, SequenceToAggregate, argv)

    import numpy as np

    from elite_pipeline import store
    from elite_pipeline.aggregation.soft_targets import Aggregation, read_seen
    from elite_pipeline.evaluation.confusion import Confusion
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings.pose_check import FEW, check_poses
    from elite_pipeline.recordings.poses import poses_of
    from elite_pipeline.recordings.sequence import Recorded
    from elite_pipeline.resume import origin
    from elite_pipeline.soft_labels import named

    recorded = Recorded(args.data, args.frames, args.projection, args.targets)
    assert recorded.targets is not None
    if not recorded.has_soft_labels:
        raise InputError(f"{args.targets} holds no soft labels: add logits to the teacher's cache_teacher.targets")
    index, classes = recorded.index, recorded.index.classes
    world_from_lidar = poses_of(index, args.poses)
    estimated = args.poses is not None
    print(check_poses(recorded.recording, index.frames, world_from_lidar, estimated=estimated, limit=FEW).verdict)
    aggregation = Aggregation(settings.aggregate_targets, classes, world_from_lidar, lambda f: read_seen(recorded, f))
    rows, mass, total = np.zeros(len(index.frames) + 1, np.int64), np.zeros(len(classes)), int(index.points.sum())
    own, unseen = Confusion(classes), Confusion(classes)
    attributes = recorded.targets.attrs
    about = {key: attributes[key] for key in ("known_classes", "oracle", "note") if key in attributes}
    inputs = [args.frames, args.projection, args.targets, *([args.poses] if args.poses else [])]
    with store.create(
        args.out,
        "aggregated",
        sequence=index.sequence,
        frames=index.frames,
        provenance=provenance(settings, *inputs),
        origin=origin("aggregate_targets"),
        classes=classes.to_json(),
        **about,
    ) as out:
        point = out.rows("point", (), np.uint32, compress=True)
        soft_label = out.rows("soft_label", (2 * named(len(classes)),), np.uint8, compress=True)
        views, seen = out.rows("views", (), np.uint8, compress=True), out.rows("own", (), np.bool_, compress=True)
        out.keep(rows=rows, mass=mass, own=own.counts, unseen=unseen.counts)
        for f in out.steps(list(range(len(index.frames))), label=f"aggregate_targets {index.sequence}"):
            found = aggregation.found(f)
            for array, values in (
                (point, found.point),
                (soft_label, found.soft_label),
                (views, found.views),
                (seen, found.own),
            ):
                array.append(values)
            rows[f + 1] = len(found.point)
            mass += found.mass(len(classes))
            if index.labelled[f]:
                labels = recorded.labels(f)[found.point]
                own.add(labels[found.own], found.predicted[found.own])
                unseen.add(labels[~found.own], found.predicted[~found.own])
        out.array("offsets", np.cumsum(rows))
        out.array("mass", mass)
    print(f"{args.out}: {rows.sum()} of {total} points reached ({rows.sum() / max(total, 1):.1%})")
    print(f"labelled points seen in their own frame: {own}")
    print(f"labelled points seen in other frames only: {unseen}")


if __name__ == "__main__":
    run(main)
