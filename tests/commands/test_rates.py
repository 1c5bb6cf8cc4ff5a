"""Rates from measured jobs."""

import pytest

from elite_pipeline.commands.rates import HERE, MeasuredJob, Rates, bytes_of, fit
from elite_pipeline.commands.workload import Workload


def job(amount, seconds, size=None, unit="frame", **about):
    return MeasuredJob("a", Workload(amount, unit, **about), seconds, size)


def test_two_sizes_give_start_and_rate():
    (rate,) = fit([job(10, 4.0, 100), job(20, 6.0, 200), job(20, 6.0)], {})
    assert (rate.start, rate.seconds, rate.size) == pytest.approx((2.0, 0.2, 10.0))


def test_one_size_takes_the_known_start():
    (rate,) = fit([job(10, 4.0), job(10, 6.0)], {"a": 1.0})
    assert (rate.start, rate.seconds) == pytest.approx((1.0, 0.4))
    (rate,) = fit([job(10, 4.0), job(10, 6.0)], {"a": 50.0})
    assert rate.start == 4.0, "no more than a job took"


def test_noise_makes_no_negative_rate_and_none_of_zero():
    (rate,) = fit([job(10, 6.0), job(20, 4.0)], {})
    assert (rate.start, rate.seconds) == pytest.approx((0.0, 0.2)), "rather too much than none"
    (rate,) = fit([job(10, 1.0), job(20, 4.0)], {})
    assert rate.start == 0
    assert 0.1 < rate.seconds < 0.2


def test_jobs_that_do_not_grow_take_their_mean():
    (rate,) = fit([job(1, 2.0, unit="job"), job(1, 4.0, unit="job")], {})
    assert (rate.start, rate.seconds) == (3.0, 0.0)


def test_other_settings_are_other_rates():
    assert len(fit([job(10, 1.0, like={"encoder": "x"}), job(10, 9.0, like={"encoder": "y"})], {})) == 2


def test_size_of_files_and_folders(tmp_path):
    (tmp_path / "store/deep").mkdir(parents=True)
    (tmp_path / "store/deep/a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"12")
    assert bytes_of([str(tmp_path / "store"), str(tmp_path / "b"), str(tmp_path / "missing")]) == 5


def test_estimate_scales_by_points_and_says_so(monkeypatch):
    rates = Rates([], None, gpu=False)
    monkeypatch.setattr(rates, "_own", fit([job(10, 10.0, 100, points=1000)], {}))
    same = rates.estimate("a", Workload(20, "frame", points=1000))
    assert (same.seconds, same.size, same.basis) == (20.0, 200.0, HERE)
    larger = rates.estimate("a", Workload(20, "frame", points=2000))
    assert (larger.seconds, larger.size, larger.basis) == (40.0, 400.0, "rough guess")
    assert rates.estimate("a", Workload(20, "frame", {"encoder": "x"})).seconds is None
    assert rates.estimate("unknown", Workload(1, "job")).basis is None


def test_gpu_makes_the_packaged_rates_a_guess(tmp_path, monkeypatch):
    from elite_pipeline.commands import rates

    text = '{"machine": "m", "date": "d", "gpu": false, "rates": [{"rule": "a", "unit": "job", "like": {}, "start": 3, '
    (tmp_path / "rates.json").write_text(text + '"seconds": 0, "size": 0}]}')
    monkeypatch.setattr(rates, "PACKAGED", tmp_path / "rates.json")
    for gpu, basis in ((False, "measured elsewhere"), (True, "rough guess")):
        assert Rates([], None, gpu=gpu).estimate("a", Workload(1, "job")).basis == basis
