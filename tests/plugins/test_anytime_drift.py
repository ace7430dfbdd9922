"""anytime_drift: one alarm for one change, said so that a person understands it, and the laws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
from monitorkit_plugins.anytime_drift import AnytimeDrift, AnytimeDriftOptions, _where_to
from numpy.typing import NDArray
from pydantic import ValidationError

from monitorkit import SCORE_COLUMN, Bucket, Chunk, Finding, Outcome, Timeline
from monitorkit.errors import PluginError
from monitorkit.monitoring.cycle import summarise_drift
from monitorkit.testing import check_monitor, judge_summaries, make_chunk

REFERENCE = make_chunk(6000, missing=0.0)
MONITOR = AnytimeDrift(AnytimeDriftOptions(), REFERENCE)
NOW = datetime(2026, 3, 1, 12, 32, tzinfo=UTC)
LENGTH = timedelta(minutes=4)
ROWS = 200


def part(seed: int, shift: float = 0.0) -> Chunk:
    chunk = make_chunk(ROWS, seed=seed, missing=0.0)
    features = chunk.features.copy()
    features[:, 0] += shift
    return Chunk(chunk.ids, chunk.times, chunk.columns, features, chunk.scores)


class Stream:
    """Buckets of rows, one for each cycle, of which a window of the last 150 is judged."""

    def __init__(self, monitor: AnytimeDrift = MONITOR) -> None:
        self.monitor = monitor
        self.buckets: list[Bucket[Any]] = []
        self.now = NOW
        self.findings: Sequence[Finding] = ()

    def cycle(self, shift: float = 0.0) -> None:
        summary = self.monitor.summarise(part(len(self.buckets) + 1000, shift))
        self.buckets.append(Bucket(self.now, ROWS, summary, LENGTH))
        self.now += LENGTH
        since = self.now - 150 * LENGTH
        shown = [bucket for bucket in self.buckets if bucket.start >= since]
        window = Timeline(shown, self.now, self.monitor.merge, bucket=LENGTH, since=since)
        judged = self.monitor.judge(window, self.findings)
        record = json.dumps([finding.detail for finding in judged.findings])
        assert json.loads(record) == [dict(finding.detail) for finding in judged.findings]
        self.findings = judged.findings

    def quantile(self, at: str) -> tuple[float, float]:
        before, now = cast("dict[str, list[float]]", self.finding().detail["quantiles"])[at]
        return before, now

    def finding(self, column: str = "a", measure: str = "distance") -> Finding:
        (found,) = (f for f in self.findings if (f.column, f.measure) == (column, measure))
        return found

    def shifted(self) -> bool:
        return any(f.drift for f in self.findings if (f.column, f.measure) == ("a", "shift"))

    def until(self, *, shifted: bool, shift: float = 0.0) -> None:
        """Cycles until there is an alarm of a shift, or none."""
        for _ in range(150):
            if self.shifted() == shifted:
                return
            self.cycle(shift)
        pytest.fail(f"after a look-back of cycles shifted is still {not shifted}")

    def alarms(self) -> list[str]:
        """Of the column `a`."""
        found = [f.detail["alarm"] for f in self.findings if f.column == "a"]
        return [str(alarm) for alarm in found if alarm]


def test_it_keeps_the_laws() -> None:
    check_monitor(
        AnytimeDrift(AnytimeDriftOptions(), make_chunk(800)), make_chunk(300, seed=1), tolerance=0
    )


def test_a_change_is_one_alarm_until_it_is_over() -> None:
    stream = Stream()
    for _ in range(90):
        stream.cycle()
        assert not any(finding.drift for finding in stream.findings)
    changed = stream.now
    kinds = []
    for _ in range(40):
        stream.cycle(shift=2.0)
        kinds.append(stream.alarms())
    assert kinds[0].count("new") == 1
    assert sum(kind.count("new") for kind in kinds) == 1  # whichever measures show it
    assert stream.finding().detail["alarm"] == "continuing"
    assert stream.finding().drift
    assert stream.finding().since == changed
    assert {f.column for f in stream.findings if f.drift} == {"a"}

    after = []
    for _ in range(120):
        stream.cycle()
        after.append(stream.finding().detail["alarm"])
    back = after.index("recovered")
    assert after[:back] == ["continuing"] * back
    assert after[back + 1 :] == [None] * (len(after) - back - 1)
    assert back > 40  # so many rows it takes to be sure
    stream.cycle(shift=2.0)
    assert stream.finding().detail["alarm"] == "new"


def test_a_small_shift_of_all_values_is_told_of_in_their_unit_before_the_distance_is_sure() -> None:
    stream = Stream()
    for _ in range(30):
        stream.cycle()
    quiet = stream.finding(measure="shift")
    assert (quiet.value, quiet.drift) == (0.0, False)
    assert str(quiet.detail["says"]).endswith(
        "no shift of all values explains the rows better than what is near enough"
    )
    changed = stream.now
    for _ in range(20):
        stream.cycle(shift=-0.34)  # a quarter of the interquartile range
        assert not stream.finding().drift
        if stream.shifted():
            break
    found = stream.finding(measure="shift")
    assert found.value == pytest.approx(-0.34, abs=0.02)
    assert found.since == changed
    assert (found.threshold, found.interval) == (None, None)
    assert found.detail["alarm"] == "new"
    assert str(found.detail["says"]) == (
        f"drifted since {changed:%Y-%m-%d %H:%M} UTC: of a few shifts of all values 0.342 lower "
        "explains the rows best"
    )
    for _ in range(10):
        stream.cycle(shift=-0.34)
    assert stream.finding().drift
    assert stream.finding().detail["alarm"] == "continuing"  # the same change


def test_a_shift_that_goes_on_is_not_over_because_its_distance_is_near_enough() -> None:
    """With a tolerance of 0.3 it is the tails that show it."""
    stream = Stream(AnytimeDrift(AnytimeDriftOptions(tolerance=0.3), REFERENCE))
    for _ in range(40):
        stream.cycle()
    alarms = []
    for _ in range(100):
        stream.cycle(shift=-0.34)
        alarms.append(stream.finding(measure="shift").detail["alarm"])
    begin = alarms.index("new" if "new" in alarms else "continuing")

    assert begin < 40
    assert set(alarms[begin + 1 :]) == {"continuing"}
    assert stream.finding().detail["verdict"] == "stable"


def test_a_shift_is_over_though_the_distance_of_all_rows_is_not_sure() -> None:
    """The distance has not drifted, and is told of all rows; those since then are enough."""
    stream = Stream()
    stream.until(shifted=True, shift=-0.25)
    assert not stream.finding().drift
    stream.until(shifted=False)
    over = stream.finding(measure="shift")

    assert over.detail["alarm"] == "recovered"
    assert over.detail["verdict"] == "stable"
    assert str(over.detail["rows_since"]) > str(stream.finding().detail["rows_since"])


def test_a_shift_is_over_when_the_distance_is_near_enough_for_sure() -> None:
    stream = Stream()
    for _ in range(10):
        stream.cycle(shift=-0.34)
    assert stream.finding(measure="shift").drift
    stream.until(shifted=False)
    found = stream.finding(measure="shift")
    assert found.detail["alarm"] == "recovered"
    assert str(found.detail["says"]).startswith("stable: the distance is near enough, and no shift")
    assert not stream.finding().drift


def test_a_result_of_before_there_was_a_shift_goes_on() -> None:
    stream = Stream()
    for _ in range(10):
        stream.cycle(shift=2.0)
    stream.findings = [f for f in stream.findings if f.measure != "shift"]
    stream.cycle(shift=2.0)
    assert stream.finding(measure="shift").detail["alarm"] == "continuing"
    assert stream.finding().detail["alarm"] == "continuing"


def test_a_drift_is_found_after_a_clock_that_was_ahead_was_set_right() -> None:
    """What the alarm remembers of the days to come would hide every start until then."""
    stream = Stream()
    ahead = timedelta(days=30)
    stream.now += ahead
    for _ in range(60):
        stream.cycle(shift=2.0)
    assert stream.finding().drift
    stream.now -= ahead
    stream.buckets = []  # of the days to come, which no window has any more
    for _ in range(400):
        stream.cycle()
        if not stream.finding().drift:
            break
    assert not stream.finding().drift
    for _ in range(150):
        stream.cycle()
    for _ in range(30):
        stream.cycle(shift=3.0)
    assert stream.finding().drift


def test_good_rows_of_long_ago_do_not_end_a_drift_that_goes_on() -> None:
    stream = Stream()
    for _ in range(140):
        stream.cycle()
    for _ in range(60):
        stream.cycle(shift=1.0)
        assert stream.finding().drift
        assert stream.finding().detail["alarm"] in {"new", "continuing"}


def test_after_a_recovery_only_later_rows_are_told_of() -> None:
    stream = Stream()
    for _ in range(60):
        stream.cycle(shift=2.0)
    while stream.finding().detail["alarm"] != "recovered":
        stream.cycle()
    back = stream.now
    for _ in range(5):
        stream.cycle()
        finding = stream.finding()
        assert datetime.fromisoformat(str(finding.detail["rows_since"])) >= back - 2 * LENGTH
        assert not finding.drift
        assert finding.value is not None
        assert finding.value < 0.2  # of few rows


def test_findings_of_another_kind_of_monitor_are_no_alarms() -> None:
    summary = MONITOR.summarise(part(1))
    other = [Finding("distance", 0.3, "a", drift=True, detail={"alarm": ["x"], "shown": 3})]

    assert judge_summaries(MONITOR, [summary], other) == judge_summaries(MONITOR, [summary])


def test_no_column_at_all_is_refused() -> None:
    with pytest.raises(PluginError, match="no column is chosen"):
        AnytimeDrift(AnytimeDriftOptions(exclude=("a", "b", "c"), score=False), REFERENCE)


def test_a_drift_that_the_window_does_not_show_any_more_is_over() -> None:
    """With too few rows to be sure that it is."""
    stream = Stream()
    for _ in range(10):
        stream.cycle()
    for _ in range(5):
        stream.cycle(shift=3.0)
    assert stream.finding().drift
    silence = timedelta(days=2)
    stream.now += silence
    stream.buckets.clear()
    stream.cycle()

    assert stream.finding().detail["alarm"] == "recovered"
    assert stream.finding().detail["verdict"] == "undecided"
    assert not stream.finding().drift


def test_an_alarm_goes_on_while_there_is_no_start_to_look_from() -> None:
    """Rows of one moment of the day: late in the look-back no start before them is followed."""
    night, day = datetime(2026, 3, 2, 2, tzinfo=UTC), timedelta(days=1)
    findings: Sequence[Finding] = ()
    kinds, values = [], []
    for cycle in range(2 * 288):
        now = night + timedelta(minutes=5 * (cycle + 1))
        shown = [
            Bucket(begin, ROWS, MONITOR.summarise(part(seed, shift=3.0)), LENGTH)
            for seed, begin in enumerate((night, night + day))
            if now - day <= begin < now
        ]
        window = Timeline(shown, now, MONITOR.merge, bucket=LENGTH, since=now - day)
        findings = MONITOR.judge(window, findings).findings
        (finding,) = [f for f in findings if (f.column, f.measure) == ("a", "distance")]
        outcome = Outcome("m", "anytime_drift", "drift", tuple(findings), 0.0)
        verdict = summarise_drift([outcome], "m", 0.5)
        assert verdict is not None
        assert verdict.drifted_features == ("a",)
        assert verdict.num_features_evaluated == 3
        assert not verdict.dataset_drift_detected
        kinds.append(finding.detail["alarm"])
        values.append(finding.value)
        assert finding.drift
        assert finding.since == night
    assert kinds == ["new"] + ["continuing"] * (len(kinds) - 1)
    assert values.count(None) > 20, "there was nothing to look from for a while"


def test_an_alarm_that_no_start_shows_for_a_look_back_is_over() -> None:
    night, day = datetime(2026, 3, 2, 2, tzinfo=UTC), timedelta(days=1)
    drifted = Bucket(night, ROWS, MONITOR.summarise(part(1, shift=3.0)), LENGTH)
    now = night + timedelta(minutes=5)
    findings = MONITOR.judge(
        Timeline([drifted], now, MONITOR.merge, bucket=LENGTH, since=now - day), ()
    ).findings
    kept = {f.detail["alarm"] for f in findings if f.column == "a" and f.drift}
    assert "new" in kept
    later = night + timedelta(hours=1.5)  # of a look-back of an hour nothing is left to look from
    late = Bucket(later - timedelta(minutes=1), 1, MONITOR.summarise(part(2).take(slice(1))))
    window = Timeline([late], later, MONITOR.merge, since=later - timedelta(minutes=2))
    (finding,) = [
        f
        for f in MONITOR.judge(window, findings).findings
        if (f.column, f.measure) == ("a", "distance")
    ]
    assert (finding.detail["alarm"], finding.drift) == ("recovered", False)


def test_a_finding_says_what_happened_in_the_features_units() -> None:
    stream = Stream()
    for _ in range(20):
        stream.cycle()
    for _ in range(4):
        stream.cycle(shift=-2.0)
    finding = stream.finding()
    before, now = stream.quantile("0.5")

    assert finding.statistic == "Kolmogorov-Smirnov distance"
    assert finding.detail["direction"] == "lower"
    assert before == pytest.approx(np.median(REFERENCE.features[:, 0]), abs=0.01)
    assert now == pytest.approx(before - 2, abs=0.15)
    assert finding.interval is not None
    assert finding.threshold == 0.05 < finding.interval[0] < finding.interval[1]
    says = str(finding.detail["says"])
    assert says.startswith("drifted since 2026-03-01 13:52 UTC: a distance of 0.")
    assert "0.05 is near enough; values are lower: median" in says
    assert stream.finding("b").statistic == "total variation distance"


@pytest.mark.parametrize(
    ("direction", "quantiles", "told"),
    [
        ("higher", {"0.5": (1, 2), "0.95": (3, 9)}, "values are higher: median from 1 to 2"),
        ("higher", {"0.5": (0, 0), "0.95": (1, 3)}, "values are higher: 95 % quantile from 1 to 3"),
        ("lower", {"0.25": (5, 4), "0.5": (9, 9.5)}, "values are lower: 25 % quantile from 5 to 4"),
        ("spread otherwise", {"0.5": (1, 1.5)}, "values are spread otherwise: median from 1 to"),
        ("lower", {"0.5": (1, 2), "0.95": (3, 3)}, ""),
        (None, {"0.5": (1, 2)}, ""),
        ("higher", {}, ""),
    ],
)
def test_no_quantile_says_the_opposite_of_where_values_went(
    direction: str | None, quantiles: dict[str, tuple[float, float]], told: str
) -> None:
    found = _where_to(quantiles, direction)
    assert told in found
    assert bool(told) == bool(found)


@pytest.mark.parametrize("rows", [1, 5])
def test_where_a_reference_of_few_rows_excludes_nothing_nothing_is_stable(rows: int) -> None:
    few = make_chunk(rows)
    monitor = AnytimeDrift(AnytimeDriftOptions(), few)
    findings = judge_summaries(monitor, [monitor.summarise(make_chunk(3000, seed=1))]).findings
    distances = [finding for finding in findings if finding.measure == "distance"]
    assert {(f.threshold, f.detail["verdict"]) for f in distances} == {(1.0, "undecided")}
    assert all(finding.detail["rows_needed"] is None for finding in distances)


def quantile_by_sorting(values: NDArray[np.float64], at: float) -> float:
    return float(np.sort(values)[max(int(np.ceil(at * len(values))) - 1, 0)])


def test_quantiles_of_the_window_are_those_of_its_rows() -> None:
    rows = np.concatenate([part(seed, shift=0.7).features[:, 0] for seed in range(9)])
    summaries = [MONITOR.summarise(part(seed, shift=0.7)) for seed in range(9)]
    finding = judge_summaries(MONITOR, summaries).findings[1]
    quantiles = cast("dict[str, list[float]]", finding.detail["quantiles"])
    gaps = np.diff(np.sort(REFERENCE.features[:, 0]))

    for at in (0.05, 0.25, 0.5, 0.75):
        _, now = quantiles[f"{at:g}"]
        assert now == pytest.approx(quantile_by_sorting(rows, at), abs=float(np.max(gaps[50:-50])))


def test_what_is_undecided_says_how_many_rows_it_takes() -> None:
    findings = judge_summaries(MONITOR, [MONITOR.summarise(part(1))]).findings
    effect, finding = findings[:2]

    assert finding.drift is False
    assert finding.detail["verdict"] == "undecided"
    assert str(finding.detail["says"]).startswith("undecided (200 rows, some ")
    assert effect.measure == "design_effect"
    assert effect.value == 1
    assert effect.detail == {"estimated": True}  # by repeats: there is one bucket only


def test_columns_without_values_are_excluded() -> None:
    features = REFERENCE.features.copy()
    features[:, 1] = np.nan
    empty = Chunk(REFERENCE.ids, REFERENCE.times, REFERENCE.columns, features, REFERENCE.scores)
    monitor = AnytimeDrift(AnytimeDriftOptions(), empty)
    findings = judge_summaries(monitor, [monitor.summarise(part(1))]).findings

    assert [f.column for f in findings if f.measure == "excluded"] == ["b"]
    assert ("b", "missing_share") in {(f.column, f.measure) for f in findings}


def test_columns_can_be_chosen() -> None:
    options = AnytimeDriftOptions(columns=("a",), score=True)
    monitor = AnytimeDrift(options, REFERENCE)
    findings = judge_summaries(monitor, [monitor.summarise(part(1))]).findings

    assert {finding.column for finding in findings} == {None, "a", SCORE_COLUMN}


@pytest.mark.parametrize("text", ["1 in 365 days", "0.5 in 30d", "1 in 1 day", "2 in 720h"])
def test_rates_are_read(text: str) -> None:
    assert AnytimeDriftOptions(false_alarms=text).false_alarms == text


@pytest.mark.parametrize(
    "text",
    [
        "1 per year",
        "0 in 30d",
        "1 in 0d",
        "1 in many days",
        "-1 in 3d",
        "1 in 365",
        "1 in 5 dayish",
    ],
)
def test_other_rates_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValidationError, match=r"1 in 30d|write a duration"):
        AnytimeDriftOptions(false_alarms=text)
