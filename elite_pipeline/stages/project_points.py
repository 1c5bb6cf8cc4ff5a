"""Project every scan of one sequence into its cameras: points to pixels, depth, visibility."""

from pathlib import Path

from elite_pipeline.config import ProjectSequence
from elite_pipeline.errors import InputError, run
from elite_pipeline.stages import parse, parser


def main(argv=None):
    stage = parser(__doc__)
    stage.add_argument("--sequence-folder", type=Path, required=True, help="data/<dataset>/sequences/NN")
    stage.add_argument("--frames", type=Path, required=True, help="its index, from index_frames")
    stage.add_argument("--out", type=Path, required=True, help="projection store to write")
    args, settings = parse(stage, ProjectSequence, argv)

    import numpy as np

    from elite_pipeline import store
    from elite_pipeline.datasets import open_recording
    from elite_pipeline.progress import progress
    from elite_pipeline.provenance import provenance
    from elite_pipeline.recordings import index, projection

    recording = open_recording(args.sequence_folder)
    frames = index.read(args.frames)
    if unseen := sorted(settings.cameras.keys() - frames.sizes.keys()):
        raise InputError(f"{args.frames}: indexed without {', '.join(unseen)}; only sequences in train: need images")
    cameras = [recording.camera(name, matrix) for name, matrix in sorted(settings.cameras.items())]
    rule = settings.project_points
    counts, shown = [0], 0
    with store.create(
        args.out,
        "projection",
        sequence=recording.sequence,
        frames=frames.frames,
        provenance=provenance(settings, args.frames),
        cameras=[camera.name for camera in cameras],
        image_sizes={camera.name: frames.sizes[camera.name].max(axis=0).tolist() for camera in cameras},
        intrinsics={camera.name: camera.intrinsics.tolist() for camera in cameras},
        camera_from_lidar={camera.name: camera.camera_from_lidar.tolist() for camera in cameras},
    ) as out:
        arrays = {
            "point": out.rows("point", (), np.uint32),
            "pixel": out.rows("pixel", (2,), np.float32),
            "depth": out.rows("depth", (), np.float32),
            "visible": out.rows("visible", (), np.bool_),
        }
        for f, frame in enumerate(progress(frames.frames, label=f"project_points {recording.sequence}")):
            points = recording.points(frame)
            for camera in cameras:
                size = tuple(frames.sizes[camera.name][f])
                if not any(size):  # this camera took no image of this frame
                    counts.append(0)
                    continue
                point, pixel, depth = projection.project(points, camera, size, rule.min_depth)
                seen = projection.visible(pixel, depth, size, rule.cell, rule.tolerance)
                for name, values in zip(arrays, (point, pixel, depth, seen), strict=True):
                    arrays[name].append(values)
                counts.append(len(point))
                shown += int(seen.sum())
        out.array("offsets", np.cumsum(counts, dtype=np.int64))
    total = sum(counts)
    print(f"{args.out}: {total} projected points, {shown} visible ({shown / max(total, 1):.1%})")


if __name__ == "__main__":
    run(main)
