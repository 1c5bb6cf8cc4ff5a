"""The schedule rises linearly, reaches its maximum and falls to nearly zero."""

from itertools import pairwise

import pytest

from elite_pipeline.training.schedule import warm_up_cosine


def test_warms_up_and_falls_to_nearly_zero():
    rates = [warm_up_cosine(step, 100, 10) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert max(rates) == rates[9] == rates[10] == 1
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001


def test_single_step_without_warm_up():
    assert warm_up_cosine(0, 1, 0) == 1
