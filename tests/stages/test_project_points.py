"""project_points: the rows of the store are the projection of every frame and camera."""

import numpy as np

from elite_pipeline import store
from elite_pipeline.recordings.projection import project
from elite_pipeline.stages import index_frames, project_points

RULE = ["project_points.min_depth=0.5", "project_points.cell=2.5", "project_points.tolerance=0.1"]
LAYOUT = ['format="semantickitti"', 'classes="semantickitti"', 'cameras.image_2="P2"', 'cameras.image_0="P0"']
NEEDS = ["missing_images=true", "labels=true", "images=true"]


def build(folder, out):
    """Write the index and projection store of a sequence folder, and open the store."""
    given, frames = ["--data", str(folder.parents[1])], str(out / "00.parquet")
    index_frames.main([*given, "--sequence", folder.name, "--out", frames, *LAYOUT, *NEEDS])
    project_points.main([*given, "--frames", frames, "--out", str(out / "00.zarr"), *RULE])
    return store.Projection(out / "00.zarr")


def test_rows_per_frame_and_camera(drive, tmp_path, open_drive):
    (drive / "image_0").mkdir()
    (drive / "image_0/000001.png").write_bytes((drive / "image_2/000001.png").read_bytes())
    projection = build(drive, tmp_path)
    recording = open_drive(drive)
    assert projection.cameras == ["image_0", "image_2"]
    for f, frame in enumerate(projection.frames):
        camera = recording.camera("image_2", frame)
        point, pixel, depth = project(recording.points(frame), camera, (40, 80), 0.5)
        rows = projection.rows(f, 1)
        np.testing.assert_array_equal(projection.read("point", rows), point)
        np.testing.assert_array_equal(projection.read("pixel", rows), pixel)
        np.testing.assert_array_equal(projection.read("depth", rows), depth)
        assert projection.read("visible", rows).any()
    poses = store.read(projection.group, "camera_from_lidar")
    assert poses.shape == (3, 2, 4, 4)
    known = open_drive(drive, {"image_0": "P0", "image_2": "P2"})
    for f, frame in enumerate(projection.frames):
        for c, name in enumerate(projection.cameras):
            np.testing.assert_array_equal(poses[f, c], known.camera(name, frame).camera_from_lidar)
    # Only frame 1 has an image of the grey camera.
    counts = [projection.rows(f, 0).stop - projection.rows(f, 0).start for f in range(3)]
    assert [bool(n) for n in counts] == [False, True, False]


def test_real_frames_project_onto_the_image(sample, tmp_path):
    projection = build(sample / "sequences/00", tmp_path)
    rows = projection.rows(0, projection.cameras.index("image_2"))
    assert rows.stop - rows.start == 19_369  # as many as the reference implementation found
    assert projection.read("visible", rows).mean() > 0.9
    attributes = projection.group.attrs
    assert "camera_from_lidar" not in attributes
    assert store.read(projection.group, "camera_from_lidar").shape == (len(projection.frames), 2, 4, 4)
    assert attributes["image_sizes"]["image_2"] == [376, 1241]
