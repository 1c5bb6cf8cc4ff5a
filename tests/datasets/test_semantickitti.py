"""The SemanticKITTI reader, on files of the true format."""

import numpy as np
import pytest

from elite_pipeline.datasets import open_recording
from elite_pipeline.datasets.semantickitti import CLASSES, COLOURS, RAW_IDS, TRAINING_IDS, UNKNOWN, training_ids
from elite_pipeline.errors import InputError


def test_class_tables_agree():
    assert len(CLASSES) == len(RAW_IDS) == len(COLOURS) == 20
    np.testing.assert_array_equal(training_ids(np.array(RAW_IDS)), np.arange(20))
    assert training_ids(np.array([252, 259, 60, 99, 65535])).tolist() == [1, 5, 9, 0, UNKNOWN]
    assert len(TRAINING_IDS) == 34  # as many as the official learning_map


def test_reads_points_labels_instances_images(drive):
    recording = open_recording(drive)
    assert recording.frames() == ["000000", "000001", "000002"]
    points = recording.points("000000")
    assert points.shape == (500, 4)
    assert points.dtype == np.float32
    assert set(recording.labels("000000", 500)) <= {0, 1, 9, 11, 13, 15}
    assert set(recording.instances("000000", 500)) == {7}
    assert recording.image("000001", "image_2").shape == (40, 80, 3)
    assert recording.truth("000001", "image_2") is None


def test_camera_holds_the_whole_projection_matrix(drive):
    camera = open_recording(drive).camera("image_2", "P2")
    point = np.array([10.0, 1.0, -0.5, 1.0])
    p2 = np.array([[100, 0, 40, 10], [0, 100, 20, -1], [0, 0, 1, 0.01]])
    tr = np.array([[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
    np.testing.assert_allclose(camera.intrinsics @ (camera.camera_from_lidar @ point)[:3], p2 @ tr @ point, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 0\n", "no line 'Tr"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n", "line 1: P2 has 11 numbers"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: nan 0 0 0 0 1 0 0 0 0 1 0\n", "line 2: Tr has non-finite"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 x\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n", "line 1: not 12 numbers"),
        ("P2: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: 2 0 0 0 0 2 0 0 0 0 2 0\n", "no rigid motion"),
    ],
)
def test_broken_calibration_is_refused(drive, text, message):
    (drive / "calib.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        open_recording(drive).camera("image_2", "P2")


def test_blank_lines_and_unknown_keys_in_calibration_are_fine(drive):
    with (drive / "calib.txt").open("a") as file:
        file.write("\ncalib_time: 09-Jan-2012 13:57:47\n\n")
    open_recording(drive).camera("image_2", "P2")


def test_real_frames(sample):
    recording = open_recording(sample / "sequences/00")
    points = recording.points("000000")
    assert len(points) == 124_668
    assert (recording.labels("000000", len(points)) == 9).sum() == 35_281
    assert recording.image("000000", "image_0").shape == (376, 1241, 3)
