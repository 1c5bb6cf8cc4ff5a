"""Submission: the zip that SemanticKITTI's validator accepts, and the faults that are rejected."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.deploy import submission
from elite_pipeline.errors import InputError

CLASSES = class_table("semantickitti")
POINTS = {"11": {"000000": 3, "000001": 5}, "12": {"000000": 1}}
GOOD = {
    "sequences/": b"",
    "sequences/11/": b"",
    "sequences/11/predictions/": b"",
    "sequences/12/": b"",
    "sequences/12/predictions/": b"",
    "sequences/11/predictions/000000.label": bytes(12),
    "sequences/11/predictions/000001.label": bytes(20),
    "sequences/12/predictions/000000.label": bytes(4),
}
FULL = Path("/dev/full")


def predictions():
    """Yield raw ids for every scan of `POINTS`, in order; the ids differ from point to point."""
    for sequence, frames in POINTS.items():
        for frame, count in frames.items():
            yield sequence, frame, CLASSES.to_raw(np.arange(count, dtype=np.uint8) * 4 + 3)


def pack(path, entries):
    """Write a zip of {name: content}, entries in this order."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_raw_ids_are_little_endian_uint32_and_map_back():
    ids = np.array([19, 1, 0, 5, 9, 1], dtype=np.uint8)
    raw = CLASSES.to_raw(ids)
    assert raw.dtype == np.dtype("<u4")
    assert raw.tolist() == [81, 10, 0, 20, 40, 10]
    assert (CLASSES.of_raw(CLASSES.to_raw(np.arange(20))) == np.arange(20)).all()


def test_zip_holds_every_directory_and_every_scan_in_order(tmp_path):
    path = tmp_path / "new" / "demo_submission.zip"
    submission.write(path, POINTS, predictions())
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == list(GOOD)
        assert archive.testzip() is None
        raw = np.frombuffer(archive.read("sequences/11/predictions/000001.label"), np.uint32)
    assert raw.tolist() == [CLASSES.raw_ids[k] for k in (3, 7, 11, 15, 19)]
    assert os.listdir(path.parent) == ["demo_submission.zip"]
    shutil.unpack_archive(path, tmp_path / "out")
    assert (tmp_path / "out/sequences/12/predictions/000000.label").read_bytes() == np.uint32(
        CLASSES.raw_ids[3]
    ).tobytes()


def test_same_predictions_make_the_same_bytes(tmp_path, monkeypatch):
    submission.write(tmp_path / "a.zip", POINTS, predictions())
    monkeypatch.setattr("time.time", lambda: 2e9)
    submission.write(tmp_path / "b.zip", POINTS, predictions())
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_predictions_are_taken_one_at_a_time(tmp_path):
    import weakref

    alive = []

    def one_by_one():
        for item in predictions():
            alive.append(weakref.ref(item[2]))
            yield item
            del item
            assert sum(reference() is not None for reference in alive) <= 1

    submission.write(tmp_path / "a.zip", POINTS, one_by_one())
    assert len(alive) == 3


@pytest.mark.parametrize("missing", [name for name in GOOD if name.endswith("/")])
def test_missing_directory_entry(missing, tmp_path):
    path = pack(tmp_path / "a.zip", {name: content for name, content in GOOD.items() if name != missing})
    with pytest.raises(InputError, match=f"no entry for the directory {missing},"):
        submission.validate(path, POINTS)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"sequences/11/predictions/000001.label": bytes(16)},
            "000001.label has 16 bytes, but the 5 points .* need 20",
        ),
        (
            {"sequences/11/predictions/000001.label": bytes(24)},
            "000001.label has 24 bytes, but the 5 points .* need 20",
        ),
        ({"sequences/11/predictions/000001.label": bytes(10)}, "000001.label has 10 bytes"),  # uint16
        ({"sequences/11/predictions/000000.label": bytes(24)}, "000000.label has 24 bytes"),  # int64
        ({"sequences/11/predictions/000002.label": bytes(20)}, "000002.label belongs to no scan"),
        ({"sequences/13/predictions/000000.label": b""}, "sequences/13/.* belongs to no scan"),
    ],
)
def test_wrong_sizes_and_unknown_files(change, fault, tmp_path):
    with pytest.raises(InputError, match=fault):
        submission.validate(pack(tmp_path / "a.zip", GOOD | change), POINTS)


def test_missing_scan_and_missing_sequence(tmp_path):
    path = pack(tmp_path / "a.zip", GOOD)
    submission.validate(path, POINTS)
    with pytest.raises(InputError, match=r"sequences/12/predictions/000007\.label is missing"):
        submission.validate(path, {**POINTS, "12": {"000000": 1, "000007": 1}})
    with pytest.raises(InputError, match="no entry for the directory sequences/13/"):
        submission.validate(path, {**POINTS, "13": {"000000": 1}})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_file_that_occurs_twice(tmp_path):
    path = pack(tmp_path / "a.zip", GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sequences/12/predictions/000000.label", bytes(4))
    with pytest.raises(InputError, match="twice"):
        submission.validate(path, POINTS)


def test_name_and_content_of_the_file(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.zip"):
        submission.validate(pack(tmp_path / "a.tar", GOOD), POINTS)
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.tar").read_bytes()[:-30])
    with pytest.raises(InputError, match=r"b\.zip: not a readable zip"):
        submission.validate(tmp_path / "b.zip", POINTS)


@pytest.mark.parametrize("fault", ["too few", "too many points", "interrupted"])
def test_a_failed_write_keeps_the_earlier_zip(fault, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"earlier")

    def faulty():
        for sequence, frame, ids in predictions():
            if (sequence, frame) == ("11", "000001"):
                if fault == "interrupted":
                    raise KeyboardInterrupt
                if fault == "too few":
                    continue
                ids = np.append(ids, ids[:1])
            yield sequence, frame, ids

    with pytest.raises(KeyboardInterrupt if fault == "interrupted" else InputError, match=r"^$|000001\.label"):
        submission.write(path, POINTS, faulty())
    assert os.listdir(tmp_path) == ["a.zip"]
    assert path.read_bytes() == b"earlier"


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_full_disk(tmp_path):
    (tmp_path / "a.partial.zip").symlink_to(FULL)
    with pytest.raises(InputError, match=r"a\.zip: cannot be written \(No space left on device\)"):
        submission.write(tmp_path / "a.zip", POINTS, predictions())
    (tmp_path / "x.partial").symlink_to(FULL)
    with pytest.raises(InputError, match=r"x\.label: cannot be written \(No space left on device\)"):
        submission.write_labels(tmp_path / "x.label", np.zeros(4000, np.uint32))
    assert os.listdir(tmp_path) == []


def test_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        submission.write_labels(tmp_path / "file" / "x.label", np.zeros(4, np.uint32))
    with pytest.raises(InputError, match="cannot be written"):
        submission.write(tmp_path / "file" / "a.zip", POINTS, predictions())


KILLED_BEFORE_THE_NAME = """
import os, signal, sys
import numpy as np
from elite_pipeline.deploy import submission

os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
submission.write_labels(sys.argv[1], np.full(5, 40, np.uint32))
"""


def test_killed_while_a_label_file_is_written(tmp_path):
    path = tmp_path / "000000.label"
    submission.write_labels(path, np.full(5, 10, np.uint32))
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_NAME, str(path)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert np.fromfile(path, np.uint32).tolist() == [10] * 5
    # The official evaluation counts files with ".label" in their names. The temporary file must not be counted.
    assert [name for name in os.listdir(tmp_path) if ".label" in name] == ["000000.label"]
    submission.write_labels(path, np.full(5, 40, np.uint32))
    assert os.listdir(tmp_path) == ["000000.label"]


def touch(*paths):
    """Create empty files and their folders."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_where_label_files_go(tmp_path):
    touch(tmp_path / "one.v2.bin", tmp_path / "runs/b/0.bin", tmp_path / "runs/a/0.bin", tmp_path / "runs/a/notes.txt")
    touch(tmp_path / "08/velodyne/000001.bin", tmp_path / "08/other.bin")
    found = submission.label_files([tmp_path / n for n in ("one.v2.bin", "runs", "08")], tmp_path / "out")
    assert [(str(p.relative_to(tmp_path / "out")), str(s.relative_to(tmp_path))) for p, s in found.items()] == [
        ("one.v2.label", "one.v2.bin"),
        ("a/0.label", "runs/a/0.bin"),
        ("b/0.label", "runs/b/0.bin"),
        ("sequences/08/predictions/000001.label", "08/velodyne/000001.bin"),
    ]


def test_sequence_is_named_by_its_folder_however_it_is_spelt(tmp_path, monkeypatch):
    touch(tmp_path / "recorded/velodyne/000000.bin")
    (tmp_path / "08").symlink_to(tmp_path / "recorded")
    assert list(submission.label_files([tmp_path / "08"], Path("o"))) == [
        Path("o/sequences/08/predictions/000000.label")
    ]
    monkeypatch.chdir(tmp_path / "recorded")
    for here in (".", "../recorded", "velodyne/.."):
        assert list(submission.label_files([Path(here)], Path("o"))) == [
            Path("o/sequences/recorded/predictions/000000.label")
        ]


def test_one_label_file_for_two_scans(tmp_path):
    touch(tmp_path / "a/0.bin", tmp_path / "b/0.bin")
    with pytest.raises(InputError, match=r"a/0\.bin and .*b/0\.bin would both be written to .*out/0\.label"):
        submission.label_files([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    twice = submission.label_files([tmp_path / "a", tmp_path / "a/0.bin"], tmp_path / "out")
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
            submission.label_files([tmp_path / name], tmp_path / "out")


def test_labels_of_a_recorded_sequence_are_not_replaced(tmp_path):
    touch(tmp_path / "08/velodyne/000000.bin", tmp_path / "08/labels/000000.label")
    with pytest.raises(InputError, match=r"holds the labels of the recorded sequence .*08\."):
        submission.label_files([tmp_path / "08/velodyne"], tmp_path / "08/labels")
