import gc
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.labellers import painting
from elite_pipeline.stages import index_frames, label_images, project_points

NEAREST = ['labeller="nearest"', "nearest.radius=4.0"]


def words(paths):
    return [word for name, path in paths.items() for word in (f"--{name}", str(path))]


def projected(drive, folder, projection_settings):
    """Write the index and projection of a complete sequence with labels and images of image_2 to `folder`."""
    paths = {"data": drive.parents[1], "frames": folder / "00.parquet"}
    layout = ['format="semantickitti"', 'classes="semantickitti"', 'cameras={"image_2": "P2"}']
    needs = ["missing_images=false", "labels=true", "images=true"]
    given = ["--data", str(paths["data"]), "--sequence", drive.name]
    index_frames.main([*given, "--out", str(paths["frames"]), *layout, *needs])
    project_points.main([*words(paths), "--out", str(folder / "projection.zarr"), *projection_settings])
    return paths | {"projection": folder / "projection.zarr"}


def test_labels_of_a_sequence_with_gaps(recorded, tmp_path, classes):
    label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), *NEAREST])
    group = store.open_store(tmp_path / "out.zarr", "pseudo_labels")
    label, confidence = store.read(group, "label"), store.read(group, "confidence")
    assert label.shape == confidence.shape == (3, 2, 40, 80)
    assert label.dtype == confidence.dtype == np.uint8
    assert group.attrs["cameras"] == ["image_0", "image_2"]
    assert group.attrs["classes"] == classes.to_json()
    assert label[0, 1].any()  # a black image is labelled by its points
    assert set(np.unique(label[1, 0])) == {0, 9}  # one class
    assert not label[1, 1].any()  # no image
    assert not label[2].any()  # no labels
    assert not label[:, 0, 30:].any()  # the smaller camera's image ends there
    assert not label[:, 0, :, 64:].any()
    assert (confidence[label == 0] == 0).all()
    assert (confidence[label > 0] > 0).all()


def test_visible_points_keep_their_labels(recorded, tmp_path, open_drive):
    label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), *NEAREST])
    label = store.read(store.open_store(tmp_path / "out.zarr", "pseudo_labels"), "label", (0, 1))
    projection = store.Projection(recorded["projection"])
    rows = projection.rows(0, 1)
    seen = projection.read("visible", rows)
    truth = open_drive(recorded["data"] / "sequences/00").labels("000000", 500)[projection.read("point", rows)[seen]]
    pixel, order = projection.read("pixel", rows)[seen].astype(int), np.argsort(projection.read("depth", rows)[seen])
    _, first = np.unique(pixel[order] @ [1, 1000], return_index=True)  # the nearest point of each pixel
    nearest = order[first]
    assert len(nearest) > 20
    assert np.array_equal(label[pixel[nearest, 1], pixel[nearest, 0]], truth[nearest])


def test_a_failed_run_leaves_no_store(recorded, tmp_path):
    (recorded["data"] / "sequences/00/labels/000001.label").write_bytes(b"1234")
    with pytest.raises(InputError, match=r"000001\.label"):
        label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), *NEAREST])
    assert not (tmp_path / "out.zarr").exists()


@pytest.fixture
def labelled_scan(drive, projection_settings, tmp_path):
    """Return a function of points (N, 3) and raw labels (N,) that gives (label, confidence) (40, 80) of image_2."""

    def label(points, raw, *, black=False):
        for file in [*drive.glob("*/000001.*"), *drive.glob("*/000002.*")]:
            file.unlink(missing_ok=True)
        np.c_[points, np.zeros(len(points))].astype(np.float32).tofile(drive / "velodyne/000000.bin")
        np.asarray(raw, np.uint32).tofile(drive / "labels/000000.label")
        if black:
            Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(drive / "image_2/000000.png")
        paths = projected(drive, tmp_path, projection_settings)
        label_images.main([*words(paths), "--out", str(tmp_path / "out.zarr"), *NEAREST])
        group = store.open_store(tmp_path / "out.zarr", "pseudo_labels")
        return store.read(group, "label")[0, 0], store.read(group, "confidence")[0, 0]

    return label


AHEAD, BEHIND = (10.27, 0, 0), (-10, 0, 0)
"""A point at pixel (row 19, column 40) of image_2, and a point outside all images."""

ROW, COLUMN = np.mgrid[:40, :80]
FAR = np.hypot(ROW - 19, COLUMN - 40) > 4


@pytest.mark.parametrize(
    ("points", "raw"),
    [
        pytest.param([BEHIND] * 50, [40] * 50, id="no point in view"),
        pytest.param([AHEAD, BEHIND], [0, 40], id="an unlabelled point in view"),
    ],
)
def test_an_image_without_labels_is_ignored(labelled_scan, points, raw):
    label, confidence = labelled_scan(points, raw)
    assert not label.any()
    assert not confidence.any()


def test_sparse_labels_are_only_the_points(recorded, tmp_path, open_drive):
    """Of two points on one pixel the nearer one counts. Points without a label change nothing."""
    (recorded["data"] / "sequences/00/image_0/000002.png").unlink()  # images are not read
    label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), 'labeller="sparse"'])
    group = store.open_store(tmp_path / "out.zarr", "pseudo_labels")
    label, confidence = store.read(group, "label"), store.read(group, "confidence")
    assert label.shape == (3, 2, 40, 80)
    projection, recording = store.Projection(recorded["projection"]), open_drive(recorded["data"] / "sequences/00")
    expected, unlabelled = np.zeros_like(label), 0
    for f, c in ((0, 1), (1, 0)):
        rows, nearest = projection.rows(f, c), {}
        truth = recording.labels(f"{f:06d}", 500)
        names = ("pixel", "depth", "point", "visible")
        for (u, v), depth, point, visible in zip(*(projection.read(name, rows) for name in names), strict=True):
            pixel = int(v), int(u)
            if visible and depth < nearest.get(pixel, (np.inf,))[0]:
                nearest[pixel] = depth, truth[point]
        for pixel, (_, value) in nearest.items():
            expected[f, c][pixel] = value
            unlabelled += value == 0
    assert unlabelled
    assert np.array_equal(label, expected)
    assert np.array_equal(confidence, np.where(expected, 255, 0))
    assert (label > 0).sum() > 30


@pytest.mark.parametrize("black", [False, True], ids=["image", "black image"])
def test_one_labelled_pixel_reaches_as_far_as_the_radius(labelled_scan, black):
    label, confidence = labelled_scan([AHEAD, BEHIND], [40, 10], black=black)
    assert np.array_equal(label, np.where(FAR, 0, 9))
    assert np.array_equal(confidence > 0, ~FAR)
    assert np.argwhere(confidence == 255).tolist() == [[19, 40]]


def test_a_frame_of_one_class_has_only_it_and_ignore(labelled_scan):
    points = np.random.default_rng(0).uniform((5, -2, -1), (20, 2, 0), (30, 3))
    label, confidence = labelled_scan(points, [40] * 30)
    assert set(np.unique(label)) == {0, 9}
    assert np.array_equal(label > 0, confidence > 0)
    assert not label[:, :10].any(), "far from all points"


def test_a_killed_run_is_resumed(repeated, check_resume):
    """Two frames per shard. Of every three frames, two have one labelled image each."""
    command, resumes = [*words(repeated(4)), *NEAREST], "label_images 00 resumes at frame 6 of 12"
    check_resume("label_images", command, "elite_pipeline.labellers.painting:paint", 6, resumes, calls=4)


def test_memory_does_not_grow_with_the_sequence(repeated, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHUNK_BYTES", 8000)
    monkeypatch.setattr(store, "SHARD_BYTES", 16000)
    paint = painting.paint

    def traced(*arguments):
        gc.collect()
        tracemalloc.start()  # start here: memory that is needed once does not count
        return paint(*arguments)

    monkeypatch.setattr(painting, "paint", traced)

    def peak(times):
        label_images.main([*words(repeated(times)), "--out", str(tmp_path / f"{times}.zarr"), *NEAREST])
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    peak(1)  # warm-up: imports and caches stay in memory
    short, long = peak(5), peak(25)
    assert long - short < 60 * 2 * 6400 / 8, "60 more frames, each with a row of 6400 bytes in two arrays"


def test_a_labeller_without_its_section_is_refused(recorded, tmp_path):
    with pytest.raises(InputError, match="section 'sam:'"):
        label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), 'labeller="paper"'])


PAPER = ["predicted_iou=0", "stability=0", "stability_offset=1", "box_nms=0.7", "prompts_per_batch=16"]
REGIONS = ["regions=8", "inside=4", "outside=4", "purity=0.5", "detour=2.0", "radius=4.0"]


@pytest.mark.parametrize(("labeller", "values"), [("paper", PAPER), ("regions", REGIONS)])
def test_sam_labellers_run_on_the_images(labeller, values, recorded, random_sam, tmp_path):
    """The masks of random weights mean nothing, but the path from images through prompts to labels is the real one."""
    settings = [f'labeller="{labeller}"', *(f"{labeller}.{item}" for item in values)]
    settings += [f"sam.{item}" for item in [*random_sam, "longest_side=64"]]
    label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), *settings])
    group = store.open_store(tmp_path / "out.zarr", "pseudo_labels")
    label = store.read(group, "label")
    assert label[0, 1].any()
    assert set(np.unique(label[1, 0])) <= {0, 9}
    assert not label[1, 1].any()
    assert not label[2].any()
    assert json.loads(json.dumps(group.attrs["provenance"]))["settings"]["sam"]["longest_side"] == 64


def test_simulated_drive_is_measured_against_its_truth(simulated_drive, projection_settings, tmp_path, capsys):
    paths = projected(simulated_drive, tmp_path, projection_settings)
    label_images.main([*words(paths), "--out", str(tmp_path / "out.zarr"), 'labeller="nearest"', "nearest.radius=12.0"])
    measured = capsys.readouterr().out.rsplit("against the dense truth: ", 1)[1]
    values = {name: float(value) for name, value in (item.split() for item in measured.strip().split(", "))}
    assert values["coverage"] > 0.7
    assert values["accuracy"] > 0.85
    assert values["mIoU"] > 0.5
