"""Confidence of soft labels: temperatures that are known, and reliability that can be counted by hand."""

import numpy as np
import pytest
import torch

from elite_pipeline.evaluation.confidence import (
    BINS,
    HIGHEST,
    LOWEST,
    calibration,
    draw,
    expected_calibration_error,
    fit_temperature,
    mean_probabilities,
    negative_log_likelihood,
    reliability,
)
from elite_pipeline.soft_labels import NEVER, decode, encode


@pytest.fixture
def calibrated():
    """(logits (n, 1, K), labels (n,)): labels drawn from the softmax of the logits. Class 0 has a high logit."""
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(30_000, 1, 20, generator=generator)
    labels = torch.multinomial(logits[:, 0, 1:].softmax(1), 1, generator=generator)[:, 0] + 1
    logits[..., 0] = 50.0
    return logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
def test_a_known_temperature_is_found(calibrated, temperature):
    logits, labels = calibrated
    found = calibration(logits * temperature, labels)
    assert found["temperature"] == pytest.approx(temperature, rel=0.03)
    assert found["ece_after"] < 0.02
    assert found["nll_after"] <= found["nll_before"]
    assert found["accuracy_after"] == found["accuracy_before"], "of a single stage, the likeliest class stays"
    if temperature != 1:
        assert found["ece_before"] > 0.1


def test_one_temperature_serves_all_stages(calibrated):
    """Four stages that say the same say what one of them says."""
    logits, labels = calibrated
    assert fit_temperature(2 * logits.repeat(1, 4, 1), labels) == pytest.approx(
        fit_temperature(2 * logits, labels), 1e-3
    )


def test_probabilities_are_averaged_over_stages_after_the_division():
    logits = torch.tensor([[[9.0, 0.0, np.log(3)], [9.0, np.log(9), 0.0]]])
    torch.testing.assert_close(
        mean_probabilities(logits, 1.0), torch.tensor([[0.0, (0.25 + 0.9) / 2, (0.75 + 0.1) / 2]])
    )
    torch.testing.assert_close(
        mean_probabilities(logits, 2.0),
        torch.tensor([[0.0, (1 / (1 + 3**0.5) + 0.75) / 2, (1 - 1 / (1 + 3**0.5) + 0.25) / 2]]),
    )
    assert negative_log_likelihood(logits, torch.tensor([2]), 1.0) == pytest.approx(-np.log(0.425))


def test_equal_confidences_have_no_temperature():
    """Where all classes are equally likely, no temperature changes anything."""
    found = calibration(torch.zeros(100, 4, 20), torch.full((100,), 7))
    assert found["temperature"] == 1.0
    assert found["nll_before"] == found["nll_after"] == pytest.approx(np.log(19))
    assert [b["share"] for b in found["bins"]["before"]] == [1.0] + [0.0] * (BINS - 1)


def test_points_that_are_all_right_or_all_wrong_end_near_a_bound():
    """All points have one class. If all are right, they may be as sure as they can be; if all are wrong, never."""
    logits = torch.tensor([0.0, 2.0, 0.0, 0.0]).repeat(50, 1, 1)
    assert LOWEST <= calibration(logits, torch.full((50,), 1))["temperature"] < 2 * LOWEST
    assert 0.99 * HIGHEST < calibration(logits, torch.full((50,), 2))["temperature"] <= HIGHEST


def test_labels_that_are_excluded_do_not_choose_the_temperature(calibrated):
    """A compact soft label has probability 0 for them, at any temperature. One in ten points has such a label."""
    logits, labels = calibrated
    logits = decode(encode(2 * logits), 20)
    alone = calibration(logits, labels)
    logits[::10].scatter_(2, labels[::10, None, None], NEVER)
    some = calibration(logits, labels)
    seen = torch.arange(len(labels)) % 10 > 0
    assert some["temperature"] == pytest.approx(fit_temperature(logits[seen], labels[seen]), rel=0.01)
    assert some["temperature"] == pytest.approx(alone["temperature"], rel=0.05)
    assert alone["nll_before"] < some["nll_before"] < 15


def test_no_point_has_temperature_one():
    found = calibration(torch.zeros(0, 4, 20), torch.zeros(0, dtype=torch.int64))
    assert (found["temperature"], found["points"], found["bins"]) == (1.0, 0, None)
    assert found["nll_before"] is found["ece_after"] is None


def test_bins_are_those_counted_by_hand():
    """Fifteen bins: 0 to 1/15 is the first. 1 is in the last."""
    confidence = torch.tensor([0.0, 0.06, 0.07, 0.5, 0.52, 1.0, 1.0, 1.0])
    right = torch.tensor([True, False, True, True, False, True, True, False])
    bins = reliability(confidence, right)
    assert len(bins) == 15
    assert {k: b.share for k, b in enumerate(bins) if b.share} == {0: 2 / 8, 1: 1 / 8, 7: 2 / 8, 14: 3 / 8}
    assert [bins[k].accuracy for k in (0, 1, 7, 14)] == [0.5, 1.0, 0.5, pytest.approx(2 / 3)]
    assert bins[0].confidence == pytest.approx(0.03)
    assert (bins[3].confidence, bins[3].accuracy) == (None, None)
    error = (2 * abs(0.03 - 0.5) + abs(0.07 - 1) + 2 * abs(0.51 - 0.5) + 3 * abs(1 - 2 / 3)) / 8
    assert expected_calibration_error(bins) == pytest.approx(error)


def test_points_are_drawn_among_the_known_classes():
    known = torch.zeros(20, dtype=torch.bool)
    known[[3, 5]] = True
    labels = torch.tensor([0, 3, 9, 5] * 100)
    assert draw(labels, known, 500, (0, 0)).tolist() == [k for k in range(400) if k % 2]
    some = draw(labels, known, 50, (0, 1))
    assert len(some) == len(some.unique()) == 50
    assert known[labels[some]].all()
    assert torch.equal(some, draw(labels, known, 50, (0, 1)))
    assert not torch.equal(some, draw(labels, known, 50, (0, 2)))
    assert len(draw(labels[:0], known, 5, (0,))) == 0
