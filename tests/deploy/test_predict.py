"""Where the labels of a user's own scans go, and what is no scan."""

from pathlib import Path

import pytest

from elite_pipeline.deploy import nuscenes_files as nuscenes
from elite_pipeline.deploy.predict import label_paths
from elite_pipeline.deploy.semantickitti_files import FILES
from elite_pipeline.errors import InputError


def touch(*paths):
    """Create empty files and their folders."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_where_label_files_go(tmp_path):
    touch(tmp_path / "one.v2.bin", tmp_path / "runs/b/0.bin", tmp_path / "runs/a/0.bin", tmp_path / "runs/a/notes.txt")
    touch(tmp_path / "08/velodyne/000001.bin", tmp_path / "08/other.bin")
    found = label_paths([tmp_path / n for n in ("one.v2.bin", "runs", "08")], tmp_path / "out", FILES)
    assert [(str(p.relative_to(tmp_path / "out")), str(s.relative_to(tmp_path))) for p, s in found.items()] == [
        ("one.v2.label", "one.v2.bin"),
        ("a/0.label", "runs/a/0.bin"),
        ("b/0.label", "runs/b/0.bin"),
        ("sequences/08/predictions/000001.label", "08/velodyne/000001.bin"),
    ]


def test_sequence_is_named_by_its_folder_however_it_is_spelt(tmp_path, monkeypatch):
    touch(tmp_path / "recorded/velodyne/000000.bin")
    (tmp_path / "08").symlink_to(tmp_path / "recorded")
    assert list(label_paths([tmp_path / "08"], Path("o"), FILES)) == [Path("o/sequences/08/predictions/000000.label")]
    monkeypatch.chdir(tmp_path / "recorded")
    for here in (".", "../recorded", "velodyne/.."):
        assert list(label_paths([Path(here)], Path("o"), FILES)) == [
            Path("o/sequences/recorded/predictions/000000.label")
        ]


def test_one_label_file_for_two_scans(tmp_path):
    touch(tmp_path / "a/0.bin", tmp_path / "b/0.bin")
    with pytest.raises(InputError, match=r"a/0\.bin and .*b/0\.bin would both be written to .*out/0\.label"):
        label_paths([tmp_path / "a", tmp_path / "b"], tmp_path / "out", FILES)
    twice = label_paths([tmp_path / "a", tmp_path / "a/0.bin"], tmp_path / "out", FILES)
    assert list(twice.values()) == [tmp_path / "a/0.bin"]


def test_inputs_that_are_not_scans(tmp_path):
    touch(tmp_path / "x.pcd", tmp_path / "empty/x.txt", tmp_path / "08/image_2/0.png")
    (tmp_path / "08/velodyne").mkdir()
    (tmp_path / "empty/folder.bin").mkdir()
    for name, fault in (
        ("x.pcd", r"x\.pcd: neither a folder nor a \.bin file"),
        ("gone.bin", r"gone\.bin: neither a folder nor a \.bin file"),
        ("empty", r"empty: no \.bin file in this folder or below"),
        ("08", r"08/velodyne: no \.bin file in this folder"),
    ):
        with pytest.raises(InputError, match=fault):
            label_paths([tmp_path / name], tmp_path / "out", FILES)


def test_labels_of_a_recorded_sequence_are_not_replaced(tmp_path):
    touch(tmp_path / "08/velodyne/000000.bin", tmp_path / "08/labels/000000.label")
    with pytest.raises(InputError, match=r"holds the labels of the recorded sequence .*08\."):
        label_paths([tmp_path / "08/velodyne"], tmp_path / "08/labels", FILES)


def test_scans_of_nuscenes(tmp_path):
    touch(tmp_path / "a/n015+0800__1.pcd.bin", tmp_path / "a/b/2.pcd.bin", tmp_path / "a/x_lidarseg.bin")
    found = label_paths([tmp_path / "a"], tmp_path / "out", nuscenes.FILES)
    assert [str(path.relative_to(tmp_path / "out")) for path in found] == [
        "b/2_lidarseg.bin",
        "n015+0800__1_lidarseg.bin",
    ]
    with pytest.raises(InputError, match=r"x_lidarseg\.bin: neither a folder nor a \.pcd\.bin file"):
        label_paths([tmp_path / "a/x_lidarseg.bin"], tmp_path / "out", nuscenes.FILES)
    with pytest.raises(InputError, match=r"2\.pcd\.bin: neither a folder nor a \.bin file, which are the scans"):
        label_paths([tmp_path / "a/b/2.pcd.bin"], tmp_path / "out", FILES)
