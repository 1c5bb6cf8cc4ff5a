"""The official nuscenes-devkit judges what the stages make: simulated scenes, a student trained on them, predictions.

The scenes are small ones of the data set `demo_nuscenes`.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from judge.agreement import PIXELS, distances, same_scores

from elite_pipeline import config
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.config.validation import flatten
from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.nuscenes_splits import SPLITS
from elite_pipeline.recordings.sequence import Recorded, open_recorded
from elite_pipeline.stages import (
    evaluate_miou,
    index_frames,
    predict_scans,
    project_points,
    read_tables,
    simulate_drive,
    simulate_tables,
    train_student,
    write_submission,
)
from elite_pipeline.store import Projection

ROOT = Path(__file__).parents[2]
SETTINGS = config.read(ROOT / "config.yaml", ROOT / COMPARISONS)
CLASSES = class_table("nuscenes")
VERSION, FRAMES = "v1.0-mini", 2
TRAIN, VAL = SPLITS["mini_train"][:1], SPLITS["mini_val"]
WIDTH, HEIGHT = 320, 180
SMALL = {"frames": FRAMES, "columns": 240, "image_width": WIDTH, "image_height": HEIGHT}
FEW = {"steps": 40, "batch": 2, "warmup": 5, "learning_rate": 0.01, "threads": 1}
LIGHT = {"voxel_size": 0.5, "width": 16}


class Made(NamedTuple):
    """What the stages made."""

    data: Path
    val: list[Recorded]
    projections: list[Projection]
    """Of the validation scenes."""
    miou: dict
    """The result of evaluate_miou."""
    predictions: Path
    """The folder from predict_scans."""
    submission: Path
    """The zip from write_submission."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated")
    data, model, results = root / "data", root / "models/judged", root / "results"
    frames = simulate(data, root)
    train(data, [frames[scene] for scene in TRAIN], model)
    known = ["--data", str(data), "--frames", *(str(frames[scene]) for scene in VAL)]
    rule = flatten({"project_points": SETTINGS.project_points.model_dump(mode="json")})
    for scene in VAL:
        words = ["--data", str(data), "--frames", str(frames[scene]), "--out", str(root / f"{scene}.zarr")]
        project_points.main([*words, *rule])
    about = ["--experiment", "judged", "--dataset", "simulated", "--model", str(model)]
    evaluate_miou.main([*about, *known, "--out", str(results / "judged_miou.json"), *rule])
    predict_scans.main(["--model", str(model), *known, "--out", str(results / "judged_predictions")])
    write_submission.main(["--model", str(model), *known, "--out", str(results / "judged_submission.zip")])
    return Made(
        data,
        open_recorded(data, [frames[scene] for scene in VAL]),
        [Projection(root / f"{scene}.zarr") for scene in VAL],
        json.loads((results / "judged_miou.json").read_text()),
        results / "judged_predictions",
        results / "judged_submission.zip",
    )


def simulate(data, root):
    """Simulate and index the scenes. Return {scene: index}."""
    dataset, scenes = SETTINGS.datasets["demo_nuscenes"], [*TRAIN, *VAL]
    drive = flatten(dataset.simulate_drive.model_copy(update=SMALL).model_dump(mode="json"))
    for scene in scenes:
        place = data / "sequences" / scene
        simulate_drive.main(["--sequence", scene, "--out", str(place), *drive, 'format="nuscenes"'])
    places = [str(data / "sequences" / scene) for scene in scenes]
    simulate_tables.main(["--scenes", *places, "--out", str(data / VERSION)])
    layout = flatten({"format": dataset.format, "classes": dataset.classes, "cameras": dataset.cameras})
    tables = ["--data", str(data), "--out", str(root / "tables")]
    read_tables.main([*tables, *layout, f"sequences={json.dumps(scenes)}"])
    frames = {scene: root / f"frames/{scene}.parquet" for scene in scenes}
    needs = ["labels=true", "images=true", "missing_images=false"]
    for scene, out in frames.items():
        words = ["--data", str(data), "--sequence", scene, "--tables", str(root / "tables"), "--out", str(out)]
        index_frames.main([*words, *layout, *needs])
    return frames


def train(data, frames, model):
    """Train the student of `demo_nuscenes`, but a smaller one for a few steps, on labels alone."""
    student = SETTINGS.students["elite_demo_nuscenes"]
    parts = {"network": LIGHT, "train_student": FEW}
    student = student.model_copy(update={k: getattr(student, k).model_copy(update=v) for k, v in parts.items()})
    words = ["--data", str(data), "--frames", *map(str, frames), "--run", str(model / "run"), "--out", str(model)]
    train_student.main([*words, *flatten(student.model_dump(mode="json"))])


@pytest.fixture(scope="module")
def judged(devkit, made, tmp_path_factory):
    """Return (what the devkit says, file of its pixels)."""
    pixels = tmp_path_factory.mktemp("judged") / "pixels.npz"
    results = ["--results", made.predictions, made.submission]
    return devkit(made.data, VERSION, "--split", "mini_val", *results, "--pixels", pixels), pixels


def test_the_devkit_loads_all_scenes_and_both_tables_of_labels(judged, made):
    found, _ = judged
    assert found["scenes"] == dict.fromkeys(sorted([*TRAIN, *VAL]), FRAMES)
    points = sum(recorded.index.class_points.sum(0) for recorded in made.val)
    raw_ids = {name: raw for raw, name in CLASSES.raw_names.items()}
    for kind in ("lidarseg", "panoptic"):
        theirs = np.zeros(len(CLASSES), int)
        for name, count in found["labels"][kind].items():
            theirs[CLASSES.training_ids[raw_ids[name]]] += count
        assert theirs.tolist() == points.tolist(), kind
    assert found["labels"]["lidarseg"] == found["labels"]["panoptic"]
    assert found["instances"] == sum(map(things, made.val)) > 0


def things(recorded):
    """Return the number of things in all frames. Instance ids are unique within a category."""
    count = 0
    for frame, points in zip(recorded.index.frames, recorded.index.points, strict=True):
        raw, ids = (
            np.fromfile(recorded.recording.label_path(frame), np.uint8),
            recorded.recording.instances(frame, points),
        )
        count += len(set(zip(raw[ids > 0].tolist(), ids[ids > 0].tolist(), strict=True)))
    return count


def test_scores_of_a_trained_student_are_the_devkits(judged, made):
    """Those of its folder of predictions and of its submission, which the devkit accepts."""
    folder, zipped = judged[0]["results"]
    same_scores(folder, made.miou)
    assert zipped == folder
    ious = made.miou["iou"].values()
    assert sum(iou is not None and iou > 0 for iou in ious) >= 3, "the student predicts several classes"
    assert None in ious, "a class without truth and prediction is left out"


def test_projected_points_are_the_devkits(judged, made):
    """Those of project_points, in images of the simulated size."""
    found, images = [], 0
    with np.load(judged[1]) as pixels:
        for recorded, ours in zip(made.val, made.projections, strict=True):
            assert ours.image_sizes == {camera: [HEIGHT, WIDTH] for camera in ours.cameras}
            for f, frame in enumerate(recorded.index.frames):
                for k, channel in enumerate(ours.cameras):
                    rows = ours.rows(f, k)
                    points = np.vstack([ours.read("pixel", rows).T, ours.read("depth", rows)])
                    theirs = pixels[f"{recorded.recording.record(frame)['token']}/{channel}"]
                    found += distances(theirs, points, (HEIGHT, WIDTH))
                    images += 1
        assert len(pixels) == images == len(VAL) * FRAMES * 6
    print(f"\n{len(found)} points in {images} images: at most {max(found):.5f} pixels apart")
    assert len(found) > 1000
    assert max(found) < PIXELS


def test_the_devkit_validates_a_submission_of_unlabelled_scenes(devkit, made, tmp_path):
    """As in v1.0-test, whose table of labels is empty."""
    shutil.copytree(made.data / VERSION, tmp_path / VERSION)
    for kind in ("lidarseg", "panoptic"):
        (tmp_path / kind / VERSION).mkdir(parents=True)
        (tmp_path / VERSION / f"{kind}.json").write_text("[]")
    (tmp_path / "sequences").symlink_to(made.data / "sequences")
    found = devkit(tmp_path, VERSION, "--split", "mini_val", "--results", made.submission)
    assert found["results"] == [{"fault": None}]
    assert found["labels"] == {"lidarseg": {}, "panoptic": {}}
