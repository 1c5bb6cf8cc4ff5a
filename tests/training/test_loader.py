"""Reading ahead: the same batches as drawing one after another, and errors at the step where they occur."""

import multiprocessing
import os
import signal

import pytest
import torch

from elite_pipeline.errors import InputError
from elite_pipeline.training.examples import Examples
from elite_pipeline.training.loader import batches, readers_for
from elite_pipeline.training.sampling import draw


@pytest.fixture
def examples(taught, open_taught):
    return Examples(open_taught(taught), features=True)


@pytest.mark.parametrize("readers", [0, 2])
def test_batches_equal_those_drawn_one_after_another(examples, student_settings, readers):
    augmentation, options = student_settings.augmentation, student_settings.train_student
    examples[0]  # the stores are read before the readers are forked
    for place, stride in ((0, 2), (2, 4)):
        found = list(batches(examples, augmentation, options, range(3, 8), place=place, stride=stride, readers=readers))
        assert len(found) == 5
        for step, batch in enumerate(found, start=3):
            expected = draw(examples, augmentation, options, step * stride + place)
            assert batch.scans == expected.scans == options.batch
            for name, value in vars(expected).items():
                assert torch.equal(torch.as_tensor(getattr(batch, name)), torch.as_tensor(value)), name


def test_does_not_change_the_global_random_state(examples, student_settings):
    before = torch.get_rng_state()
    next(batches(examples, student_settings.augmentation, student_settings.train_student, range(2), place=0, stride=2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("readers", [0, 2])
def test_a_damaged_scan_gives_the_same_error_with_and_without_readers(examples, student_settings, taught, readers):
    for scan in (taught["data"] / "sequences/00/velodyne").glob("*.bin"):
        scan.write_bytes(scan.read_bytes()[:-16])
    settings = student_settings.augmentation, student_settings.train_student
    found = batches(examples, *settings, range(3), place=0, stride=2, readers=readers)
    with pytest.raises(InputError) as error:
        next(found)
    assert "499 points, but 500 in its index" in str(error.value)
    assert "Traceback" not in str(error.value)


def test_only_a_gpu_with_enough_shared_memory_gets_readers(monkeypatch, capsys):
    assert readers_for(torch.device("cpu"), 8, "train_student") == 0
    for free, expected in ((64 << 20, 0), (2 << 30, 8)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        assert readers_for(torch.device("cuda"), 8, "train_student") == expected
    assert readers_for(torch.device("cuda"), 8, "train_student", processes=4) == 0
    assert "64 MB of shared memory" in capsys.readouterr().out


def test_full_shared_memory_and_killed_readers_raise_clear_errors(examples, student_settings, monkeypatch):
    def full(_):
        raise RuntimeError("unable to allocate shared memory: No space left on device (28)")

    settings = student_settings.augmentation, student_settings.train_student
    steps = {"place": 0, "stride": 2, "readers": 1}
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "share_memory_", full)
        with pytest.raises(InputError, match=r"no shared memory for the scans of step 5 .*No space left.*--shm-size"):
            next(batches(examples, *settings, range(5, 9), **steps))

    monkeypatch.setattr("elite_pipeline.training.loader.draw", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(InputError, match=r"reads scans ahead was killed .*give the job more"):
        next(batches(examples, *settings, range(2), **steps))


def test_readers_end_with_the_generator(examples, student_settings):
    found = batches(
        *(examples, student_settings.augmentation, student_settings.train_student),
        range(9),
        place=0,
        stride=2,
        readers=2,
    )
    next(found)
    assert len(multiprocessing.active_children()) == 2
    found.close()
    assert not multiprocessing.active_children()
