"""Project every scan of one sequence into its cameras. For each point: pixel, depth and visibility."""

from pathlib import Path

from elite_pipeline.config import ProjectSequence
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import add_sequence, parse, parser


def main(argv: list[str] | None = None) -> None:
    """Parse, read, project, write."""
    stage = parser(__doc__)
    add_sequence(stage, "frames")
    stage.add_argument("--out", type=Path, required=True, help="projection store to write")
    args, settings = parse(stage, ProjectSequence, argv)

    import numpy as np

    from elite_pipeline import store
    from elite_pipeline.progress import progress
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings import index, projection

    frames = index.read(args.frames)
    recording = frames.source.open(args.data)
    if unseen := sorted(recording.cameras.keys() - frames.sizes.keys()):
        raise InputError(f"{args.frames}: no {', '.join(unseen)} in this index. Only sequences in train: have images")
    names, rule = sorted(recording.cameras), settings.project_points
    intrinsics = {name: recording.camera(name, frames.frames[0]).intrinsics.tolist() for name in names}
    counts, shown, camera_from_lidar = [0], 0, []
    with store.create(
        args.out,
        "projection",
        sequence=frames.sequence,
        frames=frames.frames,
        provenance=provenance(settings, args.frames),
        cameras=names,
        image_sizes={name: frames.sizes[name].max(axis=0).tolist() for name in names},
        intrinsics=intrinsics,
    ) as out:
        arrays = {
            "point": out.rows("point", (), np.uint32),
            "pixel": out.rows("pixel", (2,), np.float32),
            "depth": out.rows("depth", (), np.float32),
            "visible": out.rows("visible", (), np.bool_),
        }
        for f, frame in enumerate(progress(frames.frames, label=f"project_points {frames.sequence}")):
            points = recording.points(frame)
            for name in names:
                camera = recording.camera(name, frame)
                camera_from_lidar.append(camera.camera_from_lidar)
                size = tuple(frames.sizes[name][f])
                if not any(size):  # this camera took no image of this frame
                    counts.append(0)
                    continue
                point, pixel, depth = projection.project(points, camera, size, rule.min_depth)
                if recording.nearest:
                    outside = np.linalg.norm(points[point, :3], axis=1) >= recording.nearest
                    point, pixel, depth = point[outside], pixel[outside], depth[outside]
                seen = projection.visible(pixel, depth, size, rule.cell, rule.tolerance)
                for array, values in zip(arrays.values(), (point, pixel, depth, seen), strict=True):
                    array.append(values)
                counts.append(len(point))
                shown += int(seen.sum())
        out.array("offsets", np.cumsum(counts, dtype=np.int64))
        # One per frame: it includes the motion between the times of the camera's shutter and of the LiDAR.
        out.array("camera_from_lidar", np.stack(camera_from_lidar).reshape(len(frames.frames), len(names), 4, 4))
    total = sum(counts)
    print(f"{args.out}: {total} projected points, {shown} visible ({shown / max(total, 1):.1%})")


if __name__ == "__main__":
    run(main)
