"""Rules: what they measure is what pandas measures, verdicts in words, and the laws."""

from __future__ import annotations

import operator
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitorkit_plugins.rule import RuleMonitor, RuleOptions
from pydantic import ValidationError

from monitorkit import Chunk, Finding
from monitorkit.errors import PluginError
from monitorkit.testing import check_monitor, judge_summaries, make_chunk

BUSY = settings(max_examples=60, deadline=None)


def options(*rules: str) -> RuleOptions:
    return RuleOptions.model_validate({"rule": rules[0] if len(rules) == 1 else list(rules)})


def chunk(scores: list[float] | None = None, **columns: list[float]) -> Chunk:
    features = np.column_stack([np.asarray(values, np.float64) for values in columns.values()])
    found = np.zeros(len(features)) if scores is None else np.asarray(scores, np.float64)
    return Chunk.of_rows(tuple(columns), features, found)


def judged(rule: str, reference: Chunk, window: Chunk) -> Finding:
    monitor = RuleMonitor(options(rule), reference)
    (finding,) = judge_summaries(monitor, [monitor.summarise(window)]).findings
    return finding


def value(rule: str, window: Chunk) -> float | None:
    return judged(f"{rule} < 1", window, window).value


@pytest.mark.parametrize(
    "rule",
    [
        "share(a < -1 or b > 2) < 1",
        "mean(a) < mean(b) + 5",
        "max(c) < 1e9",
        "min(c) > -1e9",
        "missing(a) <= 3 * reference",
        "count(not a > 0) > 0",
        "count() > 0",
        "share(score > 0.9) < 2 * reference + 0.01",
        "mean(a * b / (c - 1)) < 1e300",
        "(share(a < 0) + share(b < 1)) / 2 <= 1",
    ],
)
def test_every_rule_keeps_the_laws_to_the_last_bit(rule: str) -> None:
    monitor = RuleMonitor(options(rule), make_chunk(300, seed=1))
    check_monitor(monitor, make_chunk(200, seed=2), tolerance=0)


numbers = st.one_of(
    st.just(float("nan")),
    st.integers(-5, 5).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
)
frames = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40)
COMPARE = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
    "!=": operator.ne,
}  # fmt: skip


@BUSY
@given(frames, st.sampled_from(sorted(COMPARE)), st.integers(-5, 5))
def test_it_measures_what_pandas_measures(
    rows: list[tuple[float, float]], sign: str, limit: int
) -> None:
    frame = pd.DataFrame(rows, columns=["a", "b"])
    window = chunk(a=frame["a"].tolist(), b=frame["b"].tolist())
    holds = COMPARE[sign](frame["a"], limit) & frame["a"].notna()
    assert value(f"share(a {sign} {limit})", window) == holds.mean()
    assert value(f"count(not a {sign} {limit})", window) == (~holds).sum()
    pair = COMPARE[sign](frame["a"], frame["b"]) & frame.notna().all(axis=1)
    assert value(f"share(a {sign} b)", window) == pair.mean()
    assert value(f"share(a {sign} b and b < 2)", window) == (pair & (frame["b"] < 2)).mean()
    assert value("missing(a)", window) == frame["a"].isna().mean()
    for function in ("min", "max"):
        expected = getattr(frame["a"], function)()
        assert value(f"{function}(a)", window) == (None if np.isnan(expected) else expected)
    average = value("mean(a)", window)
    valid = frame["a"].dropna()
    if valid.empty:
        assert average is None
    elif valid.abs().max() < 1e100:
        assert average == pytest.approx(valid.mean(), rel=1e-9, abs=1e-9 * valid.abs().max())


@BUSY
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2), st.randoms())
def test_a_mean_does_not_depend_on_the_order_or_the_split(values: list[float], random: Any) -> None:
    monitor = RuleMonitor(options("mean(a) < 1"), chunk(a=[0.0]))
    whole = monitor.summarise(chunk(a=values))
    shuffled = random.sample(values, len(values))
    middle = len(values) // 2
    parts = [monitor.summarise(chunk(a=part)) for part in (shuffled[:middle], shuffled[middle:])]
    merged = monitor.merge(*parts) if middle else parts[1]
    assert np.array_equal(merged.sums, whole.sums)


def test_a_mean_is_rounded_once() -> None:
    assert value("mean(a)", chunk(a=[1e300, 1.0, -1e300])) == 1 / 3
    assert value("mean(a)", chunk(a=[0.1] * 10)) == 0.1
    assert value("mean(a)", chunk(a=[5e-324, 5e-324])) == 5e-324
    assert value("mean(a)", chunk(a=[1.7e308] * 3)) == 1.7e308
    assert value("mean(a)", chunk(a=[float("inf"), 2.0])) == 2.0


def test_without_a_value_no_comparison_holds() -> None:
    window = chunk(a=[1.0, float("nan"), 3.0, float("nan")])
    for sign, compare in COMPARE.items():
        held = sum(compare(number, 1.0) for number in (1.0, 3.0))
        assert value(f"share(a {sign} 1)", window) == held / 4
    assert value("share(not a < 100)", window) == 0.5
    assert value("share(a / 0 == a / 0)", chunk(a=[0.0, 1.0])) == 0.5  # 0/0 is no value


def test_a_broken_rule_is_drift_in_words() -> None:
    reference = chunk(age=[20.0] + [40.0] * 999)
    finding = judged("share(age < 21) < 0.01", reference, chunk(age=[20.0] * 3 + [40.0] * 97))
    assert (finding.value, finding.threshold, finding.drift) == (0.03, 0.01, True)
    assert (finding.measure, finding.column) == ("share(age < 21) < 0.01", "age")
    assert finding.detail["says"] == (
        "broken: 0.03, and it must be < 0.01 (0.001 in the reference)"
    )
    kept = judged("share(age < 21) < 0.01", reference, reference)
    assert (kept.drift, kept.since) == (False, None)


def test_a_limit_may_be_relative_to_the_reference() -> None:
    reference = chunk(age=[20.0] * 10 + [40.0] * 90)
    rule = "share(age < 21) < 2 * reference"
    finding = judged(rule, reference, chunk(age=[20.0] * 20 + [40.0] * 80))
    assert (finding.threshold, finding.drift) == (0.2, True)
    assert judged(rule, reference, chunk(age=[20.0] * 19 + [40.0] * 81)).drift is False


def test_a_rule_that_the_reference_breaks_is_measured_and_not_judged() -> None:
    reference = chunk(age=[20.0, 40.0])
    finding = judged("share(age < 21) < 0.01", reference, chunk(age=[20.0, 40.0, 40.0, 40.0]))
    assert (finding.value, finding.drift) == (0.25, None)
    assert "the reference itself breaks it (0.5)" in str(finding.detail["says"])
    assert "<= 2 * reference" in str(finding.detail["says"])


@pytest.mark.parametrize("mean", [3.0, -3.0])
@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_the_limit_that_is_proposed_then_holds_on_the_reference(sign: str, mean: float) -> None:
    reference = chunk(c=[mean - 1, mean + 1])
    broken = {"<": mean - 2, "<=": mean - 2, ">": mean + 2, ">=": mean + 2, "==": 7, "!=": mean}
    says = str(judged(f"mean(c) {sign} {broken[sign]}", reference, reference).detail["says"])
    (proposed,) = re.findall(r"such as `(.*)`", says)
    assert judged(f"mean(c) {proposed}", reference, reference).drift is False


@pytest.mark.parametrize("rule", ["mean(a) < 1", "1 / count(a > 0) + min(a) < 1", "max(a) < 1"])
def test_without_values_there_is_no_verdict(rule: str) -> None:
    finding = judged(rule, chunk(a=[0.0, 0.5]), chunk(a=[float("nan")] * 3))
    assert (finding.value, finding.drift) == (None, None)
    assert "no value in this window" in str(finding.detail["says"])


def test_the_score_is_a_column() -> None:
    window = chunk([0.2, 0.9], a=[1.0, 2.0])
    finding = judged("mean(score) <= 0.6", window, window)
    assert finding.value == pytest.approx(0.55)
    assert finding.column == "probability"
    assert value("mean(score)", chunk([0.2], score=[7.0])) == 7.0  # a feature of that name is meant


def test_several_rules_are_several_findings_and_share_their_functions() -> None:
    monitor = RuleMonitor(options("mean(a) < 9", "mean( a ) > -9", "missing(a) < 1"), make_chunk())
    summary = monitor.summarise(make_chunk(seed=1))
    assert len(summary.counts) == 2
    findings = judge_summaries(monitor, [summary]).findings
    assert [finding.drift for finding in findings] == [False, False, False]
    assert len({finding.measure for finding in findings}) == 3


def test_a_broken_rule_remembers_since_when() -> None:
    monitor = RuleMonitor(options("mean(a) < 1"), chunk(a=[0.0]))
    summary = monitor.summarise(chunk(a=[5.0]))
    (first,) = judge_summaries(monitor, [summary]).findings
    assert first.since is not None
    earlier = Finding(first.measure, 5.0, drift=True, since=first.since.replace(year=2020))
    (second,) = judge_summaries(monitor, [summary], [earlier]).findings
    assert second.since == earlier.since


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ("share(agee < 21) < 0.01", "position 7: there is no column 'agee'; did you mean 'age'?"),
        ("mean(`x y`) < 1", "position 6: there is no column 'x y'; there are: age, income, score"),
        ("mean(age) < mean(probability)", "the model's score is 'score'"),
    ],
)
def test_an_unknown_column_is_named_with_a_suggestion(rule: str, hint: str) -> None:
    with pytest.raises(PluginError) as caught:
        RuleMonitor(options(rule), make_chunk(5, ("age", "income")))
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "Field required"),
        ({"rule": []}, "at least 1 item"),
        ({"rule": 7}, "valid tuple"),
        ({"rule": ["mean(a) < 1", "mean(a) < 1"]}, "is there twice; remove one"),
        ({"rule": ["mean(a) < 1", "mean(a)"]}, "position 8, at the end: expected a comparison"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RuleOptions.model_validate(given)
    assert reason in str(caught.value)
