"""What a result says of each column, in order, whoever made it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitorkit.contracts import DriftSummary, Finding, Outcome, RunResult, excluded
from monitorkit.dashboard.columns import columns


def judged(result: RunResult, *findings: Finding, others: tuple[Finding, ...] = ()) -> RunResult:
    """The same cycle with other findings."""
    summary = DriftSummary("judge", False, 0.0, 0.5, (), 2, {})
    outcomes = [
        Outcome("other", "x", "ok", others, 0.0),
        Outcome("judge", "y", "ok", findings, 0.0),
    ]
    return replace(result, drift=summary, outcomes=outcomes)


def test_the_drifted_column_comes_first_with_all_that_is_known(history: list[RunResult]) -> None:
    found = columns(history[-1])
    assert {column.name for column in found} == {"income", "late", "age", "probability"}
    income = found[0]
    assert (income.name, income.verdict, income.measure) == ("income", "drifted", "distance")
    assert income.distance is not None
    assert income.distance.value > 0.3
    assert income.distance.threshold == pytest.approx(0.05, abs=0.03)
    assert income.says[0].startswith("drifted since 2026-01-02 11:")
    assert income.medians is not None
    assert income.medians[1] > income.medians[0]
    assert income.histogram is not None
    assert sum(income.histogram["reference"]) == pytest.approx(1500, abs=60)
    assert income.evidence is not None
    assert income.evidence[0] > income.evidence[1] > 0
    assert income.missing_before == pytest.approx(0.02, abs=0.015)
    assert [column.verdict for column in found[1:]] == ["undecided"] * 3
    assert [column.told for column in found] == ["drifted"] + ["undecided"] * 3


def test_what_drifted_beside_a_small_distance_is_named(history: list[RunResult]) -> None:
    result = judged(
        history[0],
        Finding("distance", 0.01, column="a", threshold=0.05, drift=False),
        Finding("new_values_share", 0.2, column="a", threshold=0.1, drift=True),
        Finding("distance", 0.3, column="b", threshold=0.05, drift=True),
        Finding("share", 0.2, column="b", threshold=0.1, drift=True),
    )
    assert {c.name: (c.told, c.drifted_by) for c in columns(result)} == {
        "b": ("drifted", None),
        "a": ("drifted: new values", "new_values_share"),
    }


def test_of_several_that_drifted_the_strongest_is_told_first(history: list[RunResult]) -> None:
    """After the distance, which the picture beside it shows."""
    told = [
        Finding("share", 0.2, "a", drift=True, detail={"says": "a share", "log10_evidence": 7}),
        Finding("shift", 5.0, "a", drift=True, detail={"says": "a shift", "log10_evidence": 13}),
        Finding("out", 0.2, "a", drift=True, detail={"says": "outside"}),
    ]
    distance = Finding("distance", 0.1, column="a", drift=False)
    far = replace(distance, drift=True, detail={"says": "far", "log10_evidence": 5})
    (column,) = columns(judged(history[0], distance, *told))
    (with_distance,) = columns(judged(history[0], far, *told))

    assert (column.told, column.says) == ("drifted: shift", ["a shift", "a share", "outside"])
    assert (with_distance.told, with_distance.says[:2]) == ("drifted", ["far", "a shift"])


def test_the_reason_of_another_monitor_explains_no_drift(history: list[RunResult]) -> None:
    """chi-square leaves out what has many values, which is no reason why anything drifted."""
    result = judged(
        history[0],
        Finding("psi", 0.3, column="a", threshold=0.2, drift=True),
        others=(excluded("a", "more than 20 distinct values in the reference"),),
    )
    (column,) = columns(result)
    assert (column.verdict, column.says) == ("drifted", [])


def test_a_limit_of_something_else_is_not_the_distances(history: list[RunResult]) -> None:
    """Kolmogorov and Smirnov's verdict is about the p-value."""
    of_p = Finding(
        "ks", 0.066, column="a", p_value=0.03, threshold=0.001, drift=False,
        detail={"compares": "p_value"},
    )  # fmt: skip
    (column,) = columns(judged(history[0], of_p))
    assert column.distance is not None
    assert (column.distance.value, column.distance.threshold) == (0.066, None)


def test_columns_whose_measures_have_names_of_their_own_are_judged(
    history: list[RunResult],
) -> None:
    result = judged(
        history[0],
        Finding("mean(a) > 2", 3.0, column="a", drift=False),
        Finding("share(b < 1) < 0.1", 0.05, column="b", drift=False),
        Finding("mean(c) > 0", None, column="c", drift=None),
        excluded("d", "no values in the window"),
    )
    verdicts = {column.name: column.verdict for column in columns(result)}
    assert verdicts == {"a": "no drift", "b": "no drift", "c": "not judged", "d": "left out"}


def test_any_monitor_may_make_the_verdict(history: list[RunResult]) -> None:
    result = judged(
        history[0],
        Finding("psi", 0.3, column="a", threshold=0.2, drift=True),
        Finding("psi", 0.1, column="b", threshold=0.2, drift=False),
        Finding("psi", 0.15, column="c", threshold=0.2, drift=False),
        excluded("d", "no values"),
        others=(Finding("missing_share", 0.5, column="b"), Finding("odd", None, column="e")),
    )
    found = columns(result)
    assert [(column.name, column.verdict) for column in found] == [
        ("a", "drifted"),
        ("c", "no drift"),
        ("b", "no drift"),
        ("e", "not judged"),
        ("d", "left out"),
    ]
    assert found[4].says == ["no values"]
    assert found[2].missing is not None
    assert (found[0].measure, found[2].missing.value) == ("psi", 0.5)


@pytest.mark.parametrize(
    "detail",
    [
        {"histogram": {"edges": [1.0, None], "reference": [1, 2, 3], "window": [1, 2, 3]}},
        {"histogram": {"edges": [], "reference": [1], "window": [1]}},
        {"histogram": {"edges": [1.0], "reference": [1, 2, 3], "window": [1, 2]}},
        {"histogram": {"edges": "ab", "reference": "abc", "window": "abc"}},
        {"histogram": [1, 2], "quantiles": {"0.5": [1]}, "rows": "many", "says": 3},
        {"quantiles": [1], "rows": True, "rows_needed": float("inf"), "says": None},
    ],
)
def test_details_of_another_shape_are_passed_over(
    detail: dict[str, Any], history: list[RunResult]
) -> None:
    (found,) = columns(judged(history[0], Finding("x", 1.0, column="a", detail=detail)))
    assert (found.histogram, found.medians, found.rows_needed) == (None, None, None)
    assert found.says == []
