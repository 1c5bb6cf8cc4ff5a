"""The official nuscenes-devkit loads a data set, projects its points, scores predictions and validates a submission.

It was not written by us: its numbers must equal ours.
"""

import shutil
import zlib
from typing import ClassVar

import numpy as np
import pytest
from judge.agreement import PIXELS, distances, same_scores
from judge.made_up import CAMERAS, HEIGHT, POINTS, SCENES, VERSION, WIDTH, write

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.nuscenes import NuScenes
from elite_pipeline.deploy import submission
from elite_pipeline.deploy.predict import predicted, recorded_layout
from elite_pipeline.evaluation.whole_scans import count, scores
from elite_pipeline.recordings import index
from elite_pipeline.recordings.projection import project
from elite_pipeline.recordings.sequence import open_recorded

CLASSES = class_table("nuscenes")
RARE = {"trailer", "construction_vehicle", "bus"}
"""Classes that no point has. Only construction vehicles are predicted."""
FRAMES = 3


def raw_labels(frame):
    """Raw ids, ego points among them. All points of the first frame are noise."""
    usable = [raw for raw, k in CLASSES.training_ids.items() if CLASSES.names[k] not in RARE]
    return np.random.default_rng(frame).choice(usable if frame else [0], POINTS)


class Guess:
    """In place of a student: right for 60 % of the points."""

    classes = CLASSES
    config: ClassVar = {"taught": True, "pretrained": None}

    def __init__(self, recordings):
        answers = [CLASSES.names.index(name) for name in CLASSES.evaluated if name not in {"trailer", "bus"}]
        self.known = {}
        for recorded in recordings:
            for f in range(len(recorded.index.frames)):
                truth, rng = recorded.labels(f), np.random.default_rng(f)
                right = (rng.random(len(truth)) < 0.6) & (truth > 0)
                answer = np.where(right, truth, rng.choice(answers, len(truth)))
                self.known[zlib.crc32(recorded.points(f).tobytes())] = answer.astype(np.uint8)

    def __call__(self, points):
        return self.known[zlib.crc32(points.tobytes())]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """Return (folder of the data set, recordings of both scenes)."""
    root = tmp_path_factory.mktemp("judge") / "data"
    root.mkdir()
    write(root, raw_labels, FRAMES)
    NuScenes.read_tables(root, SCENES, dict(zip(CAMERAS, CAMERAS, strict=True)), CLASSES, root.parent / "tables")
    paths = []
    for scene in SCENES:
        records = NuScenes.records(root.parent / f"tables/{scene}.parquet")
        source = index.Source("nuscenes", scene, CLASSES, dict(zip(CAMERAS, CAMERAS, strict=True)), records)
        rows, faults = index.check(source.open(root), labels=True, images=True, missing_images=False)
        assert not faults
        paths.append(root.parent / f"{scene}.parquet")
        index.write(paths[-1], rows, source)
    return root, open_recorded(root, paths)


@pytest.fixture(scope="module")
def judged(devkit, made_up, tmp_path_factory):
    """Return (what the devkit says, file of its pixels, our scores): of good, zipped, short and wrong predictions."""
    (root, recordings), place = made_up, tmp_path_factory.mktemp("results")
    guess = Guess(recordings)
    layout = recorded_layout(guess, recordings, "a model", SCENES)
    submission.write_folder(place / "good", layout, predicted(guess, recordings, layout, "test"))
    submission.write(place / "a.zip", layout, predicted(guess, recordings, layout, "test"))
    spoilt = next(iter(layout.names.values()))
    for name, content in {"short": bytes([1] * (POINTS - 1)), "zero": bytes(POINTS)}.items():
        shutil.copytree(place / "good", place / name)
        (place / name / spoilt).write_bytes(content)
    results = [place / name for name in ("good", "a.zip", "short", "zero")]
    words = [root, VERSION, "--split", "mini_val", "--results", *results, "--pixels", place / "pixels.npz"]
    ours = scores(count(guess, recordings, None), CLASSES, CLASSES.evaluated)
    return devkit(*words), place / "pixels.npz", ours


def test_scores_and_submission_are_the_devkits(judged):
    found, _, ours = judged
    assert found["scenes"] == dict.fromkeys(SCENES, FRAMES)
    theirs, zipped, short, zero = found["results"]
    assert zipped == theirs
    assert f"There are {POINTS - 1} predictions" in short["fault"]
    assert "must be between 1 and 16" in zero["fault"]
    same_scores(theirs, ours)
    assert [ours["iou"][name] for name in ("bus", "construction_vehicle", "trailer")] == [None, 0, None]


def test_pixels_are_the_devkits(judged, made_up):
    """The devkit moves the points through both poses of the car, in float32 between its steps."""
    found, images = [], len(SCENES) * FRAMES * len(CAMERAS)
    with np.load(judged[1]) as pixels:
        for recorded in made_up[1]:
            for f, frame in enumerate(recorded.index.frames):
                for channel in CAMERAS:
                    camera = recorded.recording.camera(channel, frame)
                    _, pixel, depth = project(recorded.points(f), camera, (HEIGHT, WIDTH), 0.5)
                    theirs = pixels[f"{recorded.recording.record(frame)['token']}/{channel}"]
                    found += distances(theirs, np.vstack([pixel.T, depth]), (HEIGHT, WIDTH))
        assert len(pixels) == images
    print(f"\n{len(found)} points in {images} images: at most {max(found):.5f} pixels apart")
    assert len(found) > 500
    assert max(found) < PIXELS
