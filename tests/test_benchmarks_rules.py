"""What three rules find, and when: each bound is what its paper says."""

from __future__ import annotations

import math

import pytest

from benchmarks import streams
from benchmarks.rules import RULES, STEP, allowance, delays, union_error
from monitorkit.sequential.starts import CLASSES, allowance_of


def test_a_union_bound_takes_the_distances_that_were_asked_for() -> None:
    """Issue 6: some 0.22 at 200 rows and 0.07 at 2,000, at 1 % of 30 days and ten columns."""
    rate = 1 / (3000 * 24 * 60 * 60) / 11
    assert union_error(2, rate) == pytest.approx(0.22, abs=0.005)
    assert union_error(20, rate) == pytest.approx(0.07, abs=0.005)
    assert union_error(8, rate) == pytest.approx(union_error(2, rate) / 2)


def test_a_start_that_is_followed_longer_has_more_of_an_allowance() -> None:
    allowed = [allowance(cycles) for cycles in (1, 10, 100, 288, 10**6)]
    assert allowed == sorted(allowed)
    assert allowed[0] == allowance_of(0, STEP)
    assert allowed[-1] == allowance_of(CLASSES - 1, STEP)


def test_each_finds_what_is_far_at_once_and_ours_what_is_rare_alone() -> None:
    found = delays(streams.synthetic())
    assert set(found["utilisation = 1.0"][1].values()) == {100}
    _, rare = found["90 days late = 0"]
    assert rare[RULES[0]] is None
    assert rare[RULES[1]] is None
    assert (rare[RULES[2]] or math.inf) <= 2000
    _, age = found["age -5"]
    assert (age[RULES[2]] or math.inf) < (age[RULES[0]] or 0)
