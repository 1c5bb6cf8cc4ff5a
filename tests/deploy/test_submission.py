"""Submission: the zip that SemanticKITTI's validator accepts, and the faults that are rejected."""

import os
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.deploy import submission
from elite_pipeline.deploy.formats import PredictedScan
from elite_pipeline.deploy.semantickitti_files import FILES
from elite_pipeline.errors import InputError

CLASSES = class_table("semantickitti")
POINTS = {"11": {"000000": 3, "000001": 5}, "12": {"000000": 1}}


def layout(points):
    """The layout of {sequence: {frame: number of points}}."""
    scans = [
        PredictedScan(sequence, frame, count) for sequence, frames in points.items() for frame, count in frames.items()
    ]
    return FILES.layout(scans, CLASSES, {})


LAYOUT = layout(POINTS)
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
            yield LAYOUT.names[sequence, frame], CLASSES.to_raw(np.arange(count, dtype=np.uint8) * 4 + 3)


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
    submission.write(path, LAYOUT, predictions())
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
    submission.write(tmp_path / "a.zip", LAYOUT, predictions())
    monkeypatch.setattr("time.time", lambda: 2e9)
    submission.write(tmp_path / "b.zip", LAYOUT, predictions())
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_predictions_are_taken_one_at_a_time(tmp_path):
    import weakref

    alive = []

    def one_by_one():
        for item in predictions():
            alive.append(weakref.ref(item[1]))
            yield item
            del item
            assert sum(reference() is not None for reference in alive) <= 1

    submission.write(tmp_path / "a.zip", LAYOUT, one_by_one())
    assert len(alive) == 3


@pytest.mark.parametrize("missing", [name for name in GOOD if name.endswith("/")])
def test_missing_directory_entry(missing, tmp_path):
    path = pack(tmp_path / "a.zip", {name: content for name, content in GOOD.items() if name != missing})
    with pytest.raises(InputError, match=f"no entry for the directory {missing},"):
        submission.validate(path, LAYOUT)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"sequences/11/predictions/000001.label": bytes(16)},
            "000001.label has 16 bytes, but its scan needs 20",
        ),
        (
            {"sequences/11/predictions/000001.label": bytes(24)},
            "000001.label has 24 bytes, but its scan needs 20",
        ),
        ({"sequences/11/predictions/000001.label": bytes(10)}, "000001.label has 10 bytes"),  # uint16
        ({"sequences/11/predictions/000000.label": bytes(24)}, "000000.label has 24 bytes"),  # int64
        ({"sequences/11/predictions/000002.label": bytes(20)}, "000002.label belongs to no scan"),
        ({"sequences/13/predictions/000000.label": b""}, "sequences/13/.* belongs to no scan"),
    ],
)
def test_wrong_sizes_and_unknown_files(change, fault, tmp_path):
    with pytest.raises(InputError, match=fault):
        submission.validate(pack(tmp_path / "a.zip", GOOD | change), LAYOUT)


def test_missing_scan_and_missing_sequence(tmp_path):
    path = pack(tmp_path / "a.zip", GOOD)
    submission.validate(path, LAYOUT)
    with pytest.raises(InputError, match=r"sequences/12/predictions/000007\.label is missing"):
        submission.validate(path, layout({**POINTS, "12": {"000000": 1, "000007": 1}}))
    with pytest.raises(InputError, match="no entry for the directory sequences/13/"):
        submission.validate(path, layout({**POINTS, "13": {"000000": 1}}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_file_that_occurs_twice(tmp_path):
    path = pack(tmp_path / "a.zip", GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sequences/12/predictions/000000.label", bytes(4))
    with pytest.raises(InputError, match="twice"):
        submission.validate(path, LAYOUT)


def test_name_and_content_of_the_file(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.zip"):
        submission.validate(pack(tmp_path / "a.tar", GOOD), LAYOUT)
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.tar").read_bytes()[:-30])
    with pytest.raises(InputError, match=r"b\.zip: not a readable zip"):
        submission.validate(tmp_path / "b.zip", LAYOUT)


@pytest.mark.parametrize("fault", ["too few", "too many points", "interrupted"])
def test_a_failed_write_keeps_the_earlier_zip(fault, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"earlier")

    def faulty():
        for name, ids in predictions():
            if name == LAYOUT.names["11", "000001"]:
                if fault == "interrupted":
                    raise KeyboardInterrupt
                if fault == "too few":
                    continue
                ids = np.append(ids, ids[:1])
            yield name, ids

    with pytest.raises(KeyboardInterrupt if fault == "interrupted" else InputError, match=r"^$|000001\.label"):
        submission.write(path, LAYOUT, faulty())
    assert os.listdir(tmp_path) == ["a.zip"]
    assert path.read_bytes() == b"earlier"


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_full_disk(tmp_path):
    (tmp_path / "a.partial.zip").symlink_to(FULL)
    with pytest.raises(InputError, match=r"a\.zip: cannot be written \(No space left on device\)"):
        submission.write(tmp_path / "a.zip", LAYOUT, predictions())
    (tmp_path / "x.partial").symlink_to(FULL)
    with pytest.raises(InputError, match=r"x\.label: cannot be written \(No space left on device\)"):
        submission.write_labels(tmp_path / "x.label", np.zeros(4000, np.uint32))
    assert os.listdir(tmp_path) == []


def test_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        submission.write_labels(tmp_path / "file" / "x.label", np.zeros(4, np.uint32))
    with pytest.raises(InputError, match="cannot be written"):
        submission.write(tmp_path / "file" / "a.zip", LAYOUT, predictions())


KILLED_BEFORE_THE_NAME = """
import os, signal, sys
import numpy as np
from elite_pipeline.deploy import submission
from elite_pipeline.deploy.formats import PredictedScan
from elite_pipeline.deploy.semantickitti_files import FILES

os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
submission.write_labels(sys.argv[1], np.full(5, 40, np.uint32))
"""


def test_killed_while_a_label_file_is_written(tmp_path, warm_python):
    path = tmp_path / "000000.label"
    submission.write_labels(path, np.full(5, 10, np.uint32))
    killed = subprocess.run([warm_python, "-c", KILLED_BEFORE_THE_NAME, str(path)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert np.fromfile(path, np.uint32).tolist() == [10] * 5
    # The official evaluation counts files with ".label" in their names. The temporary file must not be counted.
    assert [name for name in os.listdir(tmp_path) if ".label" in name] == ["000000.label"]
    submission.write_labels(path, np.full(5, 40, np.uint32))
    assert os.listdir(tmp_path) == ["000000.label"]
