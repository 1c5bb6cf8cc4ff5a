"""export_labels: own labels over carried ones over the teacher's, in files of SemanticKITTI; nobody's work is lost."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from elite_pipeline import store
from elite_pipeline.errors import InputError
from elite_pipeline.recordings import index
from elite_pipeline.soft_labels import encode, named
from elite_pipeline.stages import export_labels

ROAD, BUILDING, TRUNK = 9, 13, 16
RAW = {"unlabeled": 0, "car": 10, "road": 40, "building": 50, "trunk": 71}


def export(paths, out, *words):
    given = [word for name in ("data", "selected", "carried") for word in (f"--{name}", str(paths[name]))]
    given[2] = "--frames"
    export_labels.main(["--labels", "some_teacher", *given, "--out", str(out), *words])


@pytest.fixture
def aggregated(carried, tmp_path):
    """A store: the teacher says trunk (80 %) or building of points 900 to 1449 of every scan."""
    known, count = index.read(carried["selected"]), len(range(900, 1450))
    probabilities = torch.full((count, 20), 1e-9)
    probabilities[:, TRUNK], probabilities[:, BUILDING] = 0.8, 0.2
    about = {"sequence": "00", "frames": known.frames, "provenance": {}, "classes": known.classes.to_json()}
    with store.create(tmp_path / "aggregated.zarr", "aggregated", **about) as out:
        rows = len(known.frames) * count
        out.rows("point", (), np.uint32).append(np.tile(np.arange(900, 1450), len(known.frames)))
        codes = encode(probabilities.log()).numpy()
        out.rows("soft_label", (2 * named(20),), np.uint8).append(np.tile(codes, (len(known.frames), 1)))
        out.rows("views", (), np.uint8).append(np.ones(rows))
        out.rows("own", (), np.bool_).append(np.zeros(rows, bool))
        out.array("offsets", np.arange(0, rows + 1, count))
        out.array("mass", np.zeros(20))
    return tmp_path / "aggregated.zarr"


def scan(folder, frame):
    """(raw ids, confidence) of a frame."""
    raw = np.fromfile(folder / f"predictions/{frame:06d}.label", "<u4")
    return raw, np.load(folder / f"confidence/{frame:06d}.npy")


def blocks(values, *bounds):
    """The one value of each block."""
    found = [np.unique(part).tolist() for part in np.split(values, bounds)]
    assert all(len(part) == 1 for part in found), found
    return [part[0] for part in found]


def test_carried_labels_alone(carried, tmp_path, capsys):
    # A hidden label is never read.
    (carried["data"] / "sequences/00/labels/000003.label").write_bytes(b"123")
    out = tmp_path / "export/sequences/00"
    export(carried, out)
    assert sorted(os.listdir(out)) == ["confidence", "export.json", "predictions"]
    assert len(os.listdir(out / "predictions")) == len(os.listdir(out / "confidence")) == 12
    # Blocks: road, car, building, no label.
    raw, confidence = scan(out, 0)
    assert (raw.dtype, confidence.dtype) == (np.dtype("<u4"), np.uint8)
    assert blocks(raw, 900, 1200, 1400) == [40, 10, 50, 0]
    assert blocks(confidence, 900, 1200, 1400) == [255, 255, 255, 0]
    raw, confidence = scan(out, 3)
    assert blocks(raw, 900, 1200, 1400) == [40, 0, 50, 0], "the car is too far in time"
    assert blocks(confidence, 900, 1200, 1400) == [255, 0, 255, 0]
    assert len(scan(out, 1)[0]) == 1520
    about = json.loads((out / "export.json").read_text())
    assert about["points"] == {"nothing": 18020 - 2 * 1400 - 12800, "scan": 2800, "carried": 12800, "aggregated": 0}
    assert about["classes"]["40"] == "road"
    assert (about["scans"], about["labelled_scans"], about["labels"]) == (12, 2, "some_teacher")
    assert "12 label files, 18020 points: nothing 13.4%, scan 15.5%, carried 71.0%" in capsys.readouterr().out


def test_teacher_fills_what_no_label_reaches(carried, aggregated, tmp_path):
    out = tmp_path / "export/sequences/00"
    export(carried, out, "--aggregated", str(aggregated))
    # Blocks: road, car, building, 50 and 50 points that only the teacher may know.
    raw, confidence = scan(out, 0)
    assert blocks(raw, 900, 1200, 1400, 1450) == [40, 10, 50, 71, 0]
    assert blocks(confidence, 900, 1200, 1400, 1450)[3] == pytest.approx(0.8 * 255, abs=3)
    raw, confidence = scan(out, 3)
    assert blocks(raw, 900, 1200, 1400, 1450) == [40, 71, 50, 71, 0]
    assert blocks(confidence, 900, 1200, 1400, 1450)[2:5:2] == [255, 0]
    points = json.loads((out / "export.json").read_text())["points"]
    assert points["aggregated"] == 12 * 50 + 4 * 300
    assert sum(points.values()) == 18020


def test_same_inputs_give_the_same_bytes(carried, tmp_path):
    first, second = tmp_path / "a/00", tmp_path / "b/00"
    export(carried, first)
    left = tmp_path / "b/00.partial"
    (left / "predictions").mkdir(parents=True)
    (left / "predictions/000099.label").write_bytes(b"of a killed run")
    export(carried, second)
    assert not left.exists()
    for folder in ("predictions", "confidence"):
        assert sorted(os.listdir(first / folder)) == sorted(os.listdir(second / folder))
        for name in os.listdir(first / folder):
            assert (first / folder / name).read_bytes() == (second / folder / name).read_bytes()


def test_own_export_is_replaced_but_not_an_edited_one(carried, tmp_path):
    out = tmp_path / "export/00"
    export(carried, out)
    (out / ".snakemake_timestamp").touch()
    export(carried, out)
    label = out / "predictions/000003.label"
    edited = np.fromfile(label, np.uint32)
    edited[7] = 99
    edited.tofile(label)
    with pytest.raises(InputError, match=r"export/00: label files have changed .* Move it to another place, or delete"):
        export(carried, out)
    assert np.fromfile(label, np.uint32)[7] == 99
    shutil.rmtree(out)
    export(carried, out)
    (out / "predictions/new.label").write_bytes(b"1234")
    with pytest.raises(InputError, match="label files have changed"):
        export(carried, out)
    (out / "export.json").write_text("damaged")
    with pytest.raises(InputError, match="label files have changed"):
        export(carried, out)


def test_folders_of_others_are_refused(carried, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    export(carried, out)
    own = tmp_path / "work"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"work was not made by export_labels .*no export\.json"):
        export(carried, own)
    assert os.listdir(own) == ["notes.txt"]
    (tmp_path / "linked").symlink_to(own)
    with pytest.raises(InputError, match=r"linked is a link to .*work"):
        export(carried, tmp_path / "linked")


def test_nothing_is_written_among_the_recordings(carried):
    for place in ("sequences/00/labels", "sequences/00", "export", "sequences/../new"):
        with pytest.raises(InputError, match=r"is in the folder of the recordings"):
            export(carried, carried["data"] / place)


def test_stores_of_other_frames_are_refused(carried, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(carried["selected"]).slice(0, 11), tmp_path / "short.parquet")
    with pytest.raises(InputError, match=r"carried\.zarr holds other frames than .*short\.parquet"):
        export({**carried, "selected": tmp_path / "short.parquet"}, tmp_path / "export/00")
    assert not (tmp_path / "export").exists()


def test_damaged_store_leaves_no_export(carried, tmp_path):
    shard = carried["carried"] / "confidence/c/0"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(InputError, match="is damaged"):
        export(carried, tmp_path / "out/00")
    assert not (tmp_path / "out/00").exists()
