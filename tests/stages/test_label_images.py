import json

import numpy as np
import pytest

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.stages import label_images

NEAREST = ['labeller="nearest"', "nearest.radius=4.0"]


def words(paths):
    return [word for name, path in paths.items() for word in (f"--{name}", str(path))]


def test_labels_of_a_sequence_with_gaps(recorded, tmp_path):
    label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), *NEAREST])
    group = store.open_store(tmp_path / "out.zarr", "pseudo_labels")
    label, confidence = store.read(group, "label"), store.read(group, "confidence")
    assert label.shape == confidence.shape == (3, 2, 40, 80)
    assert label.dtype == confidence.dtype == np.uint8
    assert group.attrs["cameras"] == ["image_0", "image_2"]
    assert label[0, 1].any()  # a black image is labelled by its points
    assert set(np.unique(label[1, 0])) == {0, 9}  # one class
    assert not label[1, 1].any()  # no image
    assert not label[2].any()  # no labels
    assert not label[:, 0, 30:].any()  # the smaller camera's image ends there
    assert not label[:, 0, :, 64:].any()
    assert (confidence[label == 0] == 0).all()
    assert (confidence[label > 0] > 0).all()


def test_visible_points_keep_their_labels(recorded, tmp_path):
    from elite_pipeline.datasets import open_recording

    label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), *NEAREST])
    label = store.read(store.open_store(tmp_path / "out.zarr", "pseudo_labels"), "label", (0, 1))
    projection = store.Projection(recorded["projection"])
    rows = projection.rows(0, 1)
    seen = projection.read("visible", rows)
    truth = open_recording(recorded["sequence-folder"]).labels("000000", 500)[projection.read("point", rows)[seen]]
    pixel, order = projection.read("pixel", rows)[seen].astype(int), np.argsort(projection.read("depth", rows)[seen])
    _, first = np.unique(pixel[order] @ [1, 1000], return_index=True)  # the nearest point of each pixel
    nearest = order[first]
    assert len(nearest) > 20
    assert np.array_equal(label[pixel[nearest, 1], pixel[nearest, 0]], truth[nearest])


def test_a_run_that_fails_leaves_nothing_that_looks_finished(recorded, tmp_path):
    (recorded["sequence-folder"] / "labels/000001.label").write_bytes(b"1234")
    with pytest.raises(InputError, match=r"000001\.label"):
        label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), *NEAREST])
    assert not (tmp_path / "out.zarr").exists()


def test_a_labeller_without_its_section_is_refused(recorded, tmp_path):
    with pytest.raises(InputError, match="section 'sam:'"):
        label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), 'labeller="sam"'])


def test_the_sam_labeller_runs_on_the_images(recorded, random_sam, tmp_path, capsys):
    """With random weights the masks mean nothing; the way from images through prompts and votes is the real one."""
    sam = [
        "longest_side=64",
        "predicted_iou=0",
        "stability=0",
        "stability_offset=1",
        "box_nms=0.7",
        "prompts_per_batch=16",
    ]
    settings = ['labeller="sam"', *(f"sam.{item}" for item in random_sam + sam)]
    label_images.main([*words(recorded), "--out", str(tmp_path / "out.zarr"), *settings])
    group = store.open_store(tmp_path / "out.zarr", "pseudo_labels")
    label = store.read(group, "label")
    assert label[0, 1].any()
    assert set(np.unique(label[1, 0])) <= {0, 9}
    assert not label[1, 1].any()
    assert not label[2].any()
    assert json.loads(json.dumps(group.attrs["provenance"]))["settings"]["sam"]["longest_side"] == 64


def test_simulated_drive_is_measured_against_its_truth(simulated_drive, projection_settings, tmp_path, capsys):
    from elite_pipeline.stages import index_frames, project_points

    camera = 'cameras={"image_2": "P2"}'
    paths = {"sequence-folder": simulated_drive, "frames": tmp_path / "00.parquet"}
    needs = ["missing_images=false", "labels=true", "images=true"]
    index_frames.main(["--sequence-folder", str(simulated_drive), "--out", str(paths["frames"]), camera, *needs])
    project_points.main([*words(paths), "--out", str(tmp_path / "projection.zarr"), camera, *projection_settings])
    paths["projection"] = tmp_path / "projection.zarr"
    label_images.main([*words(paths), "--out", str(tmp_path / "out.zarr"), 'labeller="nearest"', "nearest.radius=12.0"])
    measured = capsys.readouterr().out.rsplit("against the dense truth: ", 1)[1]
    values = {name: float(value) for name, value in (item.split() for item in measured.strip().split(", "))}
    assert values["coverage"] > 0.7
    assert values["accuracy"] > 0.85
    assert values["mIoU"] > 0.5
