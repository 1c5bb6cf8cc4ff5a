"""Stores: complete or absent, written in whole shards, and damage is an error."""

import json

import numpy as np
import pytest

from elite_pipeline import store
from elite_pipeline.errors import InputError


def write(path, rows=3000):
    values = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float16)
    with store.create(path, "targets", sequence="00", frames=["000000"], provenance={}) as out:
        growing = out.rows("logits", (4,), np.float16)
        for part in np.array_split(values, 7):
            growing.append(part)
        out.array("offsets", np.array([0, rows]))
    return values


def test_rows_are_read_back_in_order(tmp_path):
    values = write(tmp_path / "a.zarr")
    group = store.open_store(tmp_path / "a.zarr", "targets")
    np.testing.assert_array_equal(store.read(group, "logits"), values)
    np.testing.assert_array_equal(store.read(group, "logits", slice(5, 9)), values[5:9])
    assert group.attrs["format_version"] == 3


def test_rows_are_written_in_whole_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHUNK_BYTES", 64)
    monkeypatch.setattr(store, "SHARD_BYTES", 256)
    written = []
    original = store.Rows._write
    monkeypatch.setattr(store.Rows, "_write", lambda self, rows: (written.append(len(rows)), original(self, rows)))
    values = write(tmp_path / "a.zarr", rows=333)
    np.testing.assert_array_equal(store.read(store.open_store(tmp_path / "a.zarr", "targets"), "logits"), values)
    assert all(count % 32 == 0 for count in written[:-1])
    assert sum(written) == 333


def test_same_rows_give_the_same_bytes(tmp_path):
    write(tmp_path / "a.zarr")
    write(tmp_path / "b.zarr")
    files = sorted(p.relative_to(tmp_path / "a.zarr") for p in (tmp_path / "a.zarr").rglob("*") if p.is_file())
    assert files
    for file in files:
        assert (tmp_path / "a.zarr" / file).read_bytes() == (tmp_path / "b.zarr" / file).read_bytes()


def test_interrupted_writer_leaves_nothing_that_looks_finished(tmp_path):
    def interrupted():
        with store.create(tmp_path / "a.zarr", "targets", sequence="00", frames=[], provenance={}):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not (tmp_path / "a.zarr").exists()
    write(tmp_path / "a.zarr")  # works despite the left-over partial store
    assert not (tmp_path / "a.zarr.partial").exists()


def test_damaged_chunk_is_an_error_and_not_a_number(tmp_path):
    write(tmp_path / "a.zarr")
    shard = next(p for p in (tmp_path / "a.zarr" / "logits").rglob("*") if p.is_file() and p.name != "zarr.json")
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zarr.*'logits' is damaged.*Delete"):
        store.read(store.open_store(tmp_path / "a.zarr", "targets"), "logits")


def test_lost_shard_is_an_error_and_not_zeros(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHUNK_BYTES", 64)
    monkeypatch.setattr(store, "SHARD_BYTES", 256)
    with store.create(tmp_path / "a.zarr", "targets", sequence="00", frames=[], provenance={}) as out:
        out.rows("logits", (4,), np.float16).append(np.zeros((333, 4)))
    assert not store.read(store.open_store(tmp_path / "a.zarr", "targets"), "logits").any()
    (tmp_path / "a.zarr/logits/c/3/0").unlink()
    with pytest.raises(InputError, match=r"a\.zarr: files of array 'logits' are missing"):
        store.open_store(tmp_path / "a.zarr", "targets")


def test_other_formats_and_versions_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.zarr is not a readable Zarr store"):
        store.open_store(tmp_path / "none.zarr", "targets")
    write(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="has format 'targets' version 3; this code reads 'projection'"):
        store.open_store(tmp_path / "a.zarr", "projection")
    metadata = tmp_path / "a.zarr" / "zarr.json"
    content = json.loads(metadata.read_text())
    content["attributes"]["format_version"] = 99
    metadata.write_text(json.dumps(content))
    with pytest.raises(InputError, match="version 99; this code reads 'targets' version 3"):
        store.open_store(tmp_path / "a.zarr", "targets")
