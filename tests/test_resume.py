"""A store whose writer was killed at any moment is either continued to the same bytes, or deleted."""

import errno
import functools
import gc
import io
import itertools
import json
import os
import shutil
import signal
import traceback
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr.storage._local

from elite_pipeline import resume, store
from elite_pipeline.config import EncoderSettings
from elite_pipeline.errors import InputError

STEPS = 14


class Kill(Exception):
    """Ends a run at the place that a test chooses."""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(store, "CHUNK_BYTES", 256)
    monkeypatch.setattr(store, "SHARD_BYTES", 1024)


def write(path, frames=STEPS, *, settings=None, rows=20, before_step=lambda k: None, **about):
    """Writes three arrays whose shards end at different steps. Returns the steps that it made."""
    taken, sums, counts = [], np.zeros(3), np.zeros(frames, dtype=np.int64)
    provenance = {"settings": settings or {}}
    frames = [f"{k:06d}" for k in range(frames)]
    with store.create(path, "targets", sequence="00", frames=frames, provenance=provenance, **about) as out:
        wide, narrow = out.rows("wide", (2, 3), np.float32), out.rows("narrow", (), np.uint16, compress=True)
        single = out.rows("single", (16, 8), np.uint8)
        out.keep(sums=sums, counts=counts)
        for k, frame in out.steps(list(enumerate(frames)), label="test"):
            before_step(k)
            random = np.random.default_rng(int(frame))
            some = random.normal(size=(int(random.integers(0, rows)), 2, 3))
            wide.append(some)
            narrow.append(random.integers(0, 9, len(some) * 10))
            single.append(random.integers(0, 9, (1, 16, 8)))
            sums += some.sum((0, 1))
            counts[k] = len(some)
            taken.append(k)
        out.array("sums", sums)
        out.array("offsets", counts.cumsum())
    return taken


def contents(path):
    """Returns path below `path` -> bytes, of every file."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.fixture
def whole(tmp_path):
    """The files that a run without interruption writes."""
    write(tmp_path / "whole.zarr")
    return contents(tmp_path / "whole.zarr")


def killed(path, at=10, **arguments):
    """Kill a run before step `at`. Returns its partial folder."""

    def before_step(k):
        if k == at:
            raise Kill

    with pytest.raises(Kill):
        write(path, before_step=before_step, **arguments)
    return path.with_name(path.name + ".partial")


def survives(moment, function):
    """Run `function` in a process that is killed halfway through its `moment`-th change of the disk.

    Returns whether `function` finished before that.
    """
    child = os.fork()
    if child == 0:
        try:
            die_at(moment)
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL)
    return ended == 0


def die_at(moment):
    """Make this process kill itself at its `moment`-th change of the disk."""
    left = itertools.count(1 - moment)
    put, savez = zarr.storage._local._put, np.savez

    def deadly(change, half=lambda *_, **__: None):
        def call(*arguments, **options):
            if next(left) == 0:
                half(*arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return call

    def half_put(path, value, exclusive=False):
        data = bytes(value.as_buffer_like())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".0.partial").write_bytes(data[: len(data) // 2])

    def half_savez(file, **arrays):
        whole = io.BytesIO()
        savez(whole, **arrays)
        file.write(whole.getvalue()[: whole.tell() // 2])
        file.flush()

    zarr.storage._local._put = deadly(put, half_put)
    np.savez = deadly(savez, half_savez)
    os.replace, os.rename, Path.unlink = deadly(os.replace), deadly(os.rename), deadly(Path.unlink)


def test_a_kill_at_any_moment_changes_nothing_in_the_end(tmp_path):
    sequence = {"frames": 5, "rows": 40}
    write(tmp_path / "whole.zarr", **sequence)
    path, whole, resumed = tmp_path / "a.zarr", contents(tmp_path / "whole.zarr"), []
    for moment in itertools.count(1):
        if survives(moment, lambda: write(path, **sequence)):
            break
        resumed.append(5 - len(write(path, **sequence)))
        assert contents(path) == whole, f"killed at moment {moment}"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "whole.zarr"]
        shutil.rmtree(path)
    assert len(set(resumed)) > 2
    assert sorted(resumed[:-1]) == resumed[:-1], "a later kill never loses more steps, until only the renaming is left"


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(whole, tmp_path, seed):
    random, kills = np.random.default_rng(seed), 0
    while not survives(int(random.integers(10, 80)), lambda: write(tmp_path / "a.zarr")):
        kills += 1
    assert contents(tmp_path / "a.zarr") == whole
    assert kills


def test_finished_shards_are_not_written_again(whole, tmp_path, capsys):
    partial = killed(tmp_path / "a.zarr")
    before = {p.relative_to(partial): p.stat() for p in partial.glob("*/c/**/*") if p.is_file()}
    finished = {name: len(list((partial / name / "c").iterdir())) for name in ("wide", "narrow", "single")}
    assert sorted(finished.values()) == [1, 2, 3], "arrays with different progress"
    taken = write(tmp_path / "a.zarr")
    assert 0 < taken[0] <= 10
    assert taken == list(range(taken[0], STEPS))
    assert f"test resumes at frame {taken[0]} of {STEPS}\n" in capsys.readouterr().out
    after = {name: (tmp_path / "a.zarr" / name).stat() for name in before}
    assert {n: (s.st_ino, s.st_mtime_ns) for n, s in after.items()} == {
        n: (s.st_ino, s.st_mtime_ns) for n, s in before.items()
    }
    assert contents(tmp_path / "a.zarr") == whole


def test_progress_is_saved_by_time_if_no_shard_fills(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 1 << 20)
    killed(tmp_path / "a.zarr")
    assert write(tmp_path / "a.zarr") == list(range(STEPS))
    monkeypatch.setattr(store, "SAVE_SECONDS", -1)
    killed(tmp_path / "b.zarr")
    assert write(tmp_path / "b.zarr") == list(range(10, STEPS))
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    "other",
    [{"settings": {"radius": 2}}, {"frames": STEPS + 1}, {"cameras": ["image_2"]}, {"origin": ["another GPU"]}],
    ids=str,
)
def test_a_partial_store_with_another_identity_is_deleted(tmp_path, other, capsys):
    write(tmp_path / "whole.zarr", **other)
    partial = killed(tmp_path / "a.zarr")
    (partial / "left_over").mkdir()
    assert write(tmp_path / "a.zarr", **other)[0] == 0
    assert (
        "has other settings, inputs, versions, code or device: starting from the beginning" in capsys.readouterr().out
    )
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "whole.zarr")
    assert not (tmp_path / "a.zarr/left_over").exists()


@pytest.mark.parametrize("size", ["SHARD_BYTES", "CHUNK_BYTES"])
def test_a_partial_store_with_another_shard_size_is_deleted(tmp_path, size, monkeypatch):
    killed(tmp_path / "a.zarr")
    monkeypatch.setattr(store, size, 128)
    assert write(tmp_path / "a.zarr")[0] == 0


def test_the_origin_differs_by_code_weights_and_device(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    view = functools.partial(EncoderSettings, encoder="sam_tiny", longest_side=64)
    origins = [
        resume.origin("label_images"),
        resume.origin("cache_teacher"),
        resume.origin("cache_teacher", files=[tmp_path / "a"]),
        resume.origin("cache_teacher", files=[tmp_path / "b"]),
        resume.origin("cache_teacher", network=view()),
        resume.origin("cache_teacher", network=view(checkpoint=str(tmp_path / "a"))),
        resume.origin("cache_teacher", network=view(checkpoint=str(tmp_path / "b"))),
        resume.origin("cache_teacher", network=view(checkpoint=str(tmp_path / "b"), sha256="0" * 64)),
    ]
    monkeypatch.setattr(resume, "device_name", lambda: "another GPU")
    origins.append(resume.origin("cache_teacher", network=view()))
    assert len(set(map(str, origins))) == len(origins)


def damages(partial):
    """Returns name -> a function that damages a partial store."""
    checkpoint, shard = partial / resume.CHECKPOINT, partial / "wide/c/1/0/0"

    def flipped(path, place):
        data = bytearray(path.read_bytes())
        data[int(place * (len(data) - 1))] ^= 255
        path.write_bytes(data)

    def rewritten(about):
        arrays = dict(np.load(checkpoint))
        np.savez(checkpoint, **{**arrays, "about": np.array(json.dumps(about(json.loads(str(arrays["about"])))))})

    return {
        "empty checkpoint": lambda: checkpoint.write_bytes(b""),
        "truncated checkpoint": lambda: checkpoint.write_bytes(checkpoint.read_bytes()[:-50]),
        "not a checkpoint": lambda: checkpoint.write_text("hello"),
        "unknown field": lambda: rewritten(lambda about: {**about, "more": 1}),
        "unknown array": lambda: rewritten(lambda about: {**about, "shards": {"other": ["00000000"]}}),
        "lost shard": shard.unlink,
        "flipped shard": lambda: flipped(shard, 0.5),
        "truncated shard": lambda: shard.write_bytes(shard.read_bytes()[:-1]),
        "empty shard": lambda: shard.write_bytes(b""),
    }


@pytest.mark.parametrize("name", damages(Path()))
def test_a_damaged_partial_store_is_deleted(whole, tmp_path, name, capsys):
    damages(killed(tmp_path / "a.zarr"))[name]()
    assert write(tmp_path / "a.zarr")[0] == 0
    assert "is damaged: starting from the beginning" in capsys.readouterr().out
    assert contents(tmp_path / "a.zarr") == whole


def test_a_flipped_bit_of_the_checkpoint_never_reaches_the_store(whole, tmp_path):
    partial = killed(tmp_path / "a.zarr")
    shutil.copytree(partial, tmp_path / "kept")
    size = (partial / resume.CHECKPOINT).stat().st_size
    for place in np.random.default_rng(0).choice(size, 15, replace=False):
        shutil.copytree(tmp_path / "kept", partial, dirs_exist_ok=True)
        data = bytearray((partial / resume.CHECKPOINT).read_bytes())
        data[place] ^= 255
        (partial / resume.CHECKPOINT).write_bytes(data)
        write(tmp_path / "a.zarr")
        assert contents(tmp_path / "a.zarr") == whole, place


def test_damaged_metadata_is_written_again(whole, tmp_path):
    partial = killed(tmp_path / "a.zarr")
    for file in partial.rglob("zarr.json"):
        file.write_bytes(b"")
    assert write(tmp_path / "a.zarr")[0] > 0
    assert contents(tmp_path / "a.zarr") == whole


@pytest.mark.parametrize("what", ["_put", "savez"])
def test_a_store_can_be_continued_after_a_full_disk(whole, tmp_path, monkeypatch, what):
    def full(file, *_, **__):
        if what == "savez":
            file.write(b"what still fits")
        raise OSError(errno.ENOSPC, "No space left on device")

    def before_step(k):
        if k == 8:
            monkeypatch.setattr(zarr.storage._local if what == "_put" else np, what, full)

    with monkeypatch.context() as monkeypatch, pytest.raises(OSError, match="No space left"):
        write(tmp_path / "a.zarr", before_step=before_step)
    assert not (tmp_path / "a.zarr").exists()
    assert write(tmp_path / "a.zarr")[0] > 0
    assert contents(tmp_path / "a.zarr") == whole


def test_two_writers_of_one_store_are_refused(whole, tmp_path):
    def second(k):
        if k == 8:
            with pytest.raises(InputError, match=r"a\.zarr\.partial: another process is writing it"):
                write(tmp_path / "a.zarr")

    write(tmp_path / "a.zarr", before_step=second)
    assert contents(tmp_path / "a.zarr") == whole


def test_rows_of_another_shape_are_refused(tmp_path):
    with (
        store.create(tmp_path / "a.zarr", "targets", sequence="00", frames=[], provenance={}) as out,
        pytest.raises(ValueError, match=r"rows of \(1,\), but .*wide.* has rows of \(4,\)"),
    ):
        out.rows("wide", (4,), np.float32).append(np.zeros((3, 1)))


def peak(path, frames):
    """Returns the peak number of bytes held by Python and NumPy while a store of `frames` steps is written."""
    gc.collect()
    tracemalloc.start()
    write(path, frames, rows=2000)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held


@pytest.mark.parametrize("leaks", [False, True], ids=["unchanged", "with a leak, which the test must detect"])
def test_memory_does_not_grow_with_the_sequence(tmp_path, monkeypatch, leaks):
    monkeypatch.setattr(store, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(store, "SHARD_BYTES", 100_000)
    if leaks:
        original, held = store.Rows.append, []
        monkeypatch.setattr(store.Rows, "append", lambda self, rows: (held.append(rows), original(self, rows))[1])
    write(tmp_path / "warm.zarr", 2, rows=2000)
    short, long = peak(tmp_path / "short.zarr", 15), peak(tmp_path / "long.zarr", 60)
    data = 45 * 1000 * 24  # extra bytes of `wide` in the long store
    assert (long - short > data / 2) if leaks else (long - short < data / 4)
