"""nuScenes' submission: one file per keyframe of an official split, and what the method declares."""

import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.datasets.nuscenes_splits import SPLITS
from elite_pipeline.deploy import submission
from elite_pipeline.deploy.formats import PredictedScan
from elite_pipeline.deploy.nuscenes_files import FILES, declared, official_split
from elite_pipeline.errors import InputError
from elite_pipeline.stages import predict_scans

CONFIG = {"taught": False, "pretrained": None}
SCANS = [
    PredictedScan("scene-0103", "1532402927647951", 3, {"token": "a" * 32}),
    PredictedScan("scene-0103", "1532402928147847", 5, {"token": "b" * 32}),
    PredictedScan("scene-0916", "1538984233547259", 2, {"token": "c" * 32}),
]
CLASSES = class_table("nuscenes")


def test_zip_has_one_file_of_classes_per_keyframe(tmp_path):
    layout = FILES.layout(SCANS, CLASSES, CONFIG)
    ids = [np.arange(1, scan.points + 1, dtype=np.uint8) for scan in SCANS]
    written = [(layout.names[s.sequence, s.frame], FILES.encode(k, CLASSES)) for s, k in zip(SCANS, ids, strict=True)]
    submission.write(tmp_path / "a.zip", layout, written)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [
            "mini_val/submission.json",
            *(f"lidarseg/mini_val/{letter * 32}_lidarseg.bin" for letter in "abc"),
        ]
        assert archive.read(archive.namelist()[2]) == bytes([1, 2, 3, 4, 5])
        meta = json.loads(archive.read("mini_val/submission.json"))["meta"]
    assert sorted(meta) == ["use_camera", "use_external", "use_lidar", "use_map", "use_radar"]
    assert [name for name, used in meta.items() if used] == ["use_lidar"]
    with pytest.raises(InputError, match=r"c_lidarseg\.bin is missing"):
        submission.write(tmp_path / "a.zip", layout, written[:2])
    with pytest.raises(InputError, match=r"c_lidarseg\.bin has 3 bytes, but its scan needs 2"):
        submission.write(tmp_path / "a.zip", layout, [*written[:2], (written[2][0], ids[0])])


@pytest.mark.parametrize("learnt", [{"taught": True}, {"pretrained": "udakd"}])
def test_what_learnt_from_image_networks_declares_external_data_but_no_camera(learnt):
    found = declared(CONFIG | learnt)
    assert [name for name, used in found.items() if used] == ["use_lidar", "use_external"]


def test_the_split_is_the_official_one_with_exactly_these_scenes():
    assert [official_split(scenes) for scenes in SPLITS.values()] == list(SPLITS)
    assert official_split(["scene-0916", "scene-0103", "scene-0916"]) == "mini_val"
    with pytest.raises(InputError, match=r"and these 1 are none\. The nearest is mini_val: scene-0916 are missing\."):
        official_split(["scene-0103"])
    scenes = [*SPLITS["val"][5:], "scene-0001"]
    with pytest.raises(InputError, match=r"The nearest is val: .*; scene-0001 are too many\."):
        official_split(scenes)


def test_a_token_that_is_missing_or_double_is_refused():
    for record in (None, {"token": "a" * 32}):
        scans = [*SCANS[:2], PredictedScan("scene-0916", "1538984233547259", 2, record)]
        with pytest.raises(InputError, match=r"scene-0916, frame 1538984233547259: its token .* is missing or that of"):
            FILES.layout(scans, CLASSES, CONFIG)


def test_a_student_of_other_classes_is_refused():
    with pytest.raises(InputError, match=r"the student has the classes car, bicycle, .* but nuScenes' files"):
        FILES.layout(SCANS, class_table("semantickitti"), CONFIG)


def test_own_scans_of_nuscenes(tmp_path):
    """The student gets our axes (x forward, y left) and a remission of 0 to 1."""
    scan = tmp_path / "n015+0800__1.pcd.bin"
    np.array([[1, 2, 3, 51, 7], [-4, 5, -1, 300, 31]], "<f4").tofile(scan)
    given = []

    class Student(SimpleNamespace):
        def __call__(self, points):
            given.append(points)
            return np.array([16, 4], np.uint8)

    student = Student(classes=CLASSES, scan_format="nuscenes")
    assert predict_scans.own(student, [tmp_path], tmp_path / "out") == (1, 2)
    np.testing.assert_allclose(given[0], [[2, -1, 3, 0.2], [5, 4, -1, 1]])
    assert (tmp_path / "out/n015+0800__1_lidarseg.bin").read_bytes() == bytes([16, 4])
    np.full(5, np.nan, "<f4").tofile(scan)
    with pytest.raises(InputError, match=r"1\.pcd\.bin: 1 of 1 points are NaN or infinite"):
        predict_scans.own(student, [scan], tmp_path / "out")
