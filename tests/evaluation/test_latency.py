"""Latency: which work is timed and which is not."""

import time

import numpy as np
import pytest
import torch

from elite_pipeline.evaluation.latency import PHASES, measure, summary, table


class Slow:
    """A predictor whose phases take known times."""

    device = torch.device("cpu")

    def __init__(self):
        self.labelled = []

    def voxelise(self, points):
        time.sleep(0.004)
        return points

    def forward(self, pyramid):
        time.sleep(0.008)
        return pyramid

    def scatter_back(self, logits, pyramid):
        time.sleep(0.002)
        self.labelled.append(len(pyramid))


def reader(points):
    def read():
        time.sleep(0.03)
        return np.zeros((points, 4), np.float32)

    return read


def test_each_phase_counts_its_own_work_and_reading_is_outside_the_total():
    slow = Slow()
    samples, sizes = measure(slow, [reader(5), reader(9)], warmup=2, scans=5)  # pyright: ignore
    assert sizes == [5, 9, 5, 9, 5]
    assert slow.labelled == [5, 9] * 3 + [5]  # warm-up scans run but do not count
    assert {phase: len(values) for phase, values in samples.items()} == dict.fromkeys(PHASES, 5)
    for phase, milliseconds in (("read", 30), ("voxelise", 4), ("forward", 8), ("scatter_back", 2), ("total", 14)):
        assert milliseconds <= min(samples[phase])
        assert np.median(samples[phase]) < milliseconds + 10
    sums = np.sum([samples[phase] for phase in ("voxelise", "forward", "scatter_back")], axis=0)
    np.testing.assert_allclose(samples["total"], sums)


def test_summary_by_hand():
    total = [10.0, 20.0, 30.0, 40.0, 50.0]
    result = summary({phase: total for phase in PHASES}, [100, 300, 200, 400, 500])
    assert result["budget_ms"] == pytest.approx(41.6667, abs=1e-3)
    assert result["phases"]["total"] == pytest.approx({"p50": 30, "p95": 48, "p99": 49.6, "max": 50})
    assert result["hz"] == pytest.approx(1000 / 30)
    assert result["hz_p99"] == pytest.approx(1000 / 49.6)
    assert result["within_budget"] == 0.8
    assert (result["scans"], result["points_median"]) == (5, 300)
    text = table({**result, "device": "a test", "precision": "32-true", "warmup": 1})
    assert "33.3 Hz" in text
    assert "80 %" in text
