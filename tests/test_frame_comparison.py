"""`monitorkit.compare`: the service's monitors on two frames, of any of three libraries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from monitorkit_plugins.ks import Ks, KsOptions
from scipy import stats

import monitorkit
from monitorkit import Chunk, Finding, Judgement, frame_comparison
from monitorkit.errors import ConfigError, FrameError, PluginError
from monitorkit.frames import paired
from monitorkit.testing import judge_summaries

Make = Callable[[dict[str, Any]], Any]

LIBRARIES: dict[str, Make] = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


def data(rows: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "age": random.normal(50 + shift, 15, rows),
        "late": random.poisson(0.4, rows),
        "member": random.random(rows) < 0.5,
        "city": ["x"] * rows,
        "p": random.beta(1, 5, rows),
    }


@pytest.mark.parametrize("current", LIBRARIES)
@pytest.mark.parametrize("reference", LIBRARIES)
def test_frames_of_all_libraries_give_the_same(reference: str, current: str) -> None:
    one, other = data(2000, 1), data(2000, 2, shift=8)
    expected = monitorkit.compare(pd.DataFrame(one), pd.DataFrame(other), score="p")
    found = monitorkit.compare(LIBRARIES[reference](one), LIBRARIES[current](other), score="p")
    assert found.drifted == ("age",)
    assert found.columns == ("age", "late", "member", "probability")
    assert [c["findings"] for c in found.to_dict()["columns"]] == [
        c["findings"] for c in expected.to_dict()["columns"]
    ]
    assert list(found.skipped) == ["city"]
    assert type(found.to_frame()) is type(LIBRARIES[reference](one))


def test_the_largest_difference_of_all_is_found() -> None:
    """Where every column with many values has moved, none shows that rows do not repeat."""
    one, other = data(2000, 1), data(2000, 2, shift=1000)
    del one["p"], other["p"]
    found = monitorkit.compare(pd.DataFrame(one), pd.DataFrame(other), monitors=["anytime_drift"])
    assert found.drifted == ("age",)
    (distance,) = [
        f for f in found.findings["anytime_drift"] if (f.column, f.measure) == ("age", "distance")
    ]
    assert distance.value == pytest.approx(1)


def test_the_time_of_day_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pd.DataFrame(data(2000, 1)), pd.DataFrame(data(2000, 2, shift=5))
    first = monitorkit.compare(one, other)
    for minute in range(0, 1024, 97):

        class Later(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Later:
                return cls(2026, 3, 1, tzinfo=tz) + timedelta(minutes=minute)  # noqa: B023

        monkeypatch.setattr(frame_comparison, "datetime", Later)
        assert monitorkit.compare(one, other).to_dict() == first.to_dict()


def test_it_is_the_plugin_that_judges() -> None:
    one, other = data(500, 1), data(500, 2, shift=3)
    comparison = monitorkit.compare(pd.DataFrame(one), pl.DataFrame(other), monitors=["ks"])
    values = [stats.ks_2samp(one["age"], other["age"], method="asymp").statistic]
    (age,) = [finding for finding in comparison.findings["ks"] if finding.column == "age"]
    assert [age.value] == pytest.approx(values)

    names = ("age", "late", "member", "p")

    def chunk(columns: dict[str, Any]) -> Chunk:
        features = np.column_stack([columns[name] for name in ("age", "late", "member", "p")])
        return Chunk.of_rows(names, features.astype(float), np.full(500, np.nan))

    monitor = Ks(KsOptions(score=False), chunk(one))
    judged = judge_summaries(monitor, [monitor.summarise(chunk(other))]).findings
    assert comparison.findings["ks"] == tuple(judged)


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_values_are_missing(library: str) -> None:
    full: dict[str, Any] = {"a": [1.0, 2.0, 3.0, 4.0], "n": [1, 2, 3, 4]}
    gaps: dict[str, Any] = {"a": [1.0, None, None, 4.0], "n": [None, 2, 3, None]}
    make = LIBRARIES[library]
    found = monitorkit.compare(make(full), make(gaps), monitors=["missing_and_range"])
    shares = [f.value for f in found.findings["missing_and_range"] if f.measure == "missing_share"]
    assert shares == [0.5, 0.5]


def test_nullable_types_of_pandas() -> None:
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "yes": pd.array([True, None, False], dtype="boolean"),
            "real": pd.array([1.5, None, 2.5], dtype="Float64"),
        }
    )
    found = monitorkit.compare(frame, frame, monitors=["missing_and_range"])
    shares = [f.value for f in found.findings["missing_and_range"] if f.measure == "missing_share"]
    assert shares == pytest.approx([1 / 3] * 3)


def test_what_is_not_compared_is_named_with_the_reason() -> None:
    times = pd.date_range("2026-01-01", periods=3)
    one = pd.DataFrame({"a": [1, 2, 3], "t": times, "o": [1, "x", None], "gone": [1, 2, 3]})
    other = pd.DataFrame({"a": [1, 2, 3], "t": times, "o": [1, 2, 3], "new": [1, 2, 3]})
    other["a_category"] = one["a_category"] = pd.Categorical(["x", "y", "x"])
    skipped = monitorkit.compare(one, other).skipped
    assert set(skipped) == {"t", "o", "gone", "new", "a_category"}
    assert "Datetime in the reference frame; turn it into numbers, such as the hour" in skipped["t"]
    assert skipped["gone"] == "not in the current frame"
    assert skipped["new"] == "not in the reference frame"
    assert "one column of 0 and 1" in skipped["a_category"]


GOOD = pd.DataFrame({"a": [1.0, 2.0], "name": ["x", "y"]})


@pytest.mark.parametrize(
    ("current", "options", "reason"),
    [
        ([1, 2], {}, "current: a list is no data frame in memory. Give one of pandas, polars"),
        (pl.LazyFrame({"a": [1]}), {}, "Collect it first: frame.collect()"),
        (pd.DataFrame({"a": []}), {}, "current: it has no rows"),
        (pd.DataFrame({0: [1.0]}), {}, "the column name 0 is no text"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), {}, "current: "),
        (pd.DataFrame({"b": [1.0]}), {}, "no column has numbers in both (a: not in the current"),
        (GOOD, {"score": "p"}, "score: there is no column 'p' in either frame"),
        (GOOD, {"score": "name"}, "score: column 'name' is left out: String"),
    ],
)
def test_what_cannot_be_compared_is_a_clear_error(
    current: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(FrameError) as caught:
        monitorkit.compare(GOOD, current, **options)
    assert reason in str(caught.value)


def test_one_monitor_may_be_named_alone() -> None:
    one, other = pd.DataFrame(data(200, 1)), pd.DataFrame(data(200, 2))
    found = monitorkit.compare(one, other, monitors="ks")
    assert found.to_dict() == monitorkit.compare(one, other, monitors=["ks"]).to_dict()


def test_wrong_monitors_and_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown monitor 'kss'; did you mean 'ks'"):
        monitorkit.compare(GOOD, GOOD, monitors="kss")
    with pytest.raises(ConfigError, match="did you mean 'ks'"):
        monitorkit.compare(GOOD, GOOD, monitors=["kss"])
    with pytest.raises(ConfigError, match="unknown key"):
        monitorkit.compare(GOOD, GOOD, monitors={"ks": {"alpha": 1}})
    with pytest.raises(PluginError, match="there is no column x"):
        monitorkit.compare(GOOD, GOOD, monitors={"ks": {"columns": ["x"]}})
    none: Any = None
    with pytest.raises(ConfigError, match="options of 'ks' are no mapping"):
        monitorkit.compare(GOOD, GOOD, monitors={"ks": none})


def test_a_rule_can_be_asked() -> None:
    rule = {"rule": {"rule": "share(age < 21) <= 2 * reference"}}
    one, other = pd.DataFrame(data(500, 1)), pd.DataFrame(data(500, 1, shift=-40))
    found = monitorkit.compare(one, other, monitors=rule)
    assert found.drifted == ("age",)
    assert "broken: " in found.to_frame()["says"].iloc[0]


def test_what_is_said_of_no_column_alone_is_told_everywhere() -> None:
    rule = {"rule": {"rule": "share(age < 21 and late > 0) < 0.01"}}
    one, other = pd.DataFrame(data(500, 1)), pd.DataFrame(data(500, 1, shift=-40))
    found = monitorkit.compare(one, other, monitors=rule)
    assert found.drifted == ()
    assert found.to_dict()["whole"]["drift"] is True
    frame = found.to_frame()
    assert frame["says"].str.startswith("broken: ").tolist() == [True]
    assert frame["column"].isna().all()
    assert re.search(r"^\(the whole\) +drift +", repr(found), flags=re.MULTILINE)
    page = found._repr_html_()
    assert "0 of 4 columns drifted, and the whole: 500 rows" in page
    assert "broken: " in page


def test_every_finding_of_a_monitor_is_in_the_frame() -> None:
    one, other = pd.DataFrame(data(500, 1)), pd.DataFrame(data(500, 2))
    found = monitorkit.compare(one, other, score="p", monitors=["proxy_metrics"])
    assert len(found.to_frame()) == len(found.findings["proxy_metrics"]) > 30
    assert "(the whole)" not in repr(found)  # it judges nothing


def test_a_column_that_has_the_name_of_the_score_is_not_mixed_with_it() -> None:
    one, other = data(2000, 1), data(2000, 2)
    for frame in (one, other):
        frame["probability"] = frame["p"]
    other["p"] = other["p"] / 2
    found = monitorkit.compare(pd.DataFrame(one), pd.DataFrame(other), score="p")
    assert found.columns == ("age", "late", "member", "probability")
    assert found.drifted == ("probability",)
    assert "p is compared under this name" in found.skipped["probability"]


def test_the_same_frame_has_not_drifted() -> None:
    frame = pd.DataFrame(data(3000, 1))
    assert monitorkit.compare(frame, frame, score="p").drifted == ()


def test_a_result_is_frozen_json_and_text() -> None:
    found = monitorkit.compare(pd.DataFrame(data(2000, 1)), pd.DataFrame(data(2000, 2, shift=9)))
    with pytest.raises(AttributeError):
        found.rows = 1  # type: ignore[misc] # the test
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["drifted"] == ["age"]
    assert document["columns"][0]["findings"][0]["says"].startswith("drifted: a distance of ")
    assert repr(found).splitlines()[0] == "2,000 rows against 2,000 of the reference"
    assert re.search(r"^age +drift +distance 0\.", repr(found), flags=re.MULTILINE)
    assert re.search(r"^city +skipped +String", repr(found), flags=re.MULTILINE)
    frame = found.to_frame()
    assert set(frame["verdict"]) <= {
        "drifted", "stable", "undecided", "drift", "no drift found", "not judged"
    }  # fmt: skip
    assert frame["value"].dtype == "float64"


def test_the_page_is_complete_and_what_is_in_it_is_escaped() -> None:
    evil = "<script>alert(1)</script>\"'"
    one, other = data(800, 1), data(800, 2, shift=20)
    for columns in (one, other):
        columns[evil] = columns["age"]
        columns["<b>text"] = columns["city"]
    found = monitorkit.compare(pd.DataFrame(one), pd.DataFrame(other))
    page = found._repr_html_()
    assert "<script" not in page
    assert "<b>text" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    assert page.count("<svg") == len(found.columns)
    assert f"{len(found.drifted)} of {len(found.columns)} columns drifted" in page
    assert page.count("<tr") == page.count("</tr>") == len(found.columns) + 1


def test_a_histogram_of_another_kind_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Finding("ks", 0.1, column="age", detail={"histogram": {"bins": [1], "counts": [2]}})
    monkeypatch.setattr(Ks, "judge", lambda *_: Judgement([own]))
    found = monitorkit.compare(pd.DataFrame(data(50, 1)), pd.DataFrame(data(50, 2)), monitors="ks")
    assert "<svg" not in found._repr_html_()


def test_the_example_of_the_page_is_true() -> None:
    text = (Path(__file__).parents[1] / "docs" / "notebooks.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    printed = re.findall(r"```\n(\(.*?)\n```", text, flags=re.DOTALL)
    scope: dict[str, Any] = {}
    exec(first.replace("print(", "found = ("), scope)  # noqa: S102 - our own page
    assert [repr(scope["found"])] == printed
    exec(second, scope)  # noqa: S102 - as above


def test_a_feature_may_be_called_as_the_score_where_there_is_none() -> None:
    one, other = data(500, 1), data(500, 2)
    found = {}
    for name in ("p", "probability"):
        frames = [pd.DataFrame({name: each["p"], "age": each["age"]}) for each in (one, other)]
        compared = monitorkit.compare(*frames, monitors=["wasserstein"])
        found[name] = next(f for f in compared.findings["wasserstein"] if f.column == name)
    assert found["p"].value == found["probability"].value
    norm = found["p"].detail["norm"]
    assert norm == found["probability"].detail["norm"] == pytest.approx(np.std(one["p"]))


def test_a_reference_with_infinite_values_is_told_and_alarms_nobody() -> None:
    """A ratio, divided by zero in one row of twenty."""
    one = pd.DataFrame(data(500, 1))
    one["ratio"] = np.where(np.arange(500) % 20 == 0, np.inf, one["age"])
    found = monitorkit.compare(one, one, monitors=["missing_and_range", "wasserstein"])
    assert found.drifted == ()
    assert found.skipped["ratio"] == "infinite values in the reference frame; make them missing"
    two = pd.DataFrame(data(500, 2))
    two["ratio"] = one["ratio"]
    clean = one.assign(ratio=one["age"])
    assert "ratio" in monitorkit.compare(clean, two, monitors=["missing_and_range"]).drifted


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_whole_numbers_that_float64_has_not_are_the_nearest_ones(kind: str) -> None:
    values = np.array([2**53 + 1, 2**62 + 1, 5], kind)
    frames: list[Any] = [
        pa.table({"id": values}),
        pd.DataFrame({"id": pd.Series(values, dtype=pd.ArrowDtype(pa.type_for_alias(kind)))}),
        pd.DataFrame({"id": values}),
        pl.DataFrame({"id": values}),
    ]
    expected = values.astype(np.float64).tolist()
    for frame in frames:
        assert paired(frame, frame, None).reference.features[:, 0].tolist() == expected
    wide = pl.DataFrame({"id": pl.Series([2**53 + 1, None], dtype=pl.Int128)})
    assert paired(wide, wide, None).reference.features[0, 0] == float(2**53)
    assert np.isnan(paired(wide, wide, None).reference.features[1, 0])
    gaps = pa.table({"id": pa.array([2**53 + 1, None], kind)})
    assert np.isnan(paired(gaps, gaps, None).reference.features[1, 0])


def test_names_that_are_there_twice_are_told() -> None:
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "a"])
    with pytest.raises(FrameError, match=r"several columns are called 'a'. Rename"):
        monitorkit.compare(frame, frame)


def test_columns_of_several_levels_are_told_with_what_to_do() -> None:
    frame = pd.DataFrame([[1.0, 2.0]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")]))
    with pytest.raises(FrameError, match=r"'_'.join\(map\(str, c\)\)"):
        monitorkit.compare(frame, frame)
    frame.columns = ["_".join(map(str, c)) for c in frame.columns]
    assert monitorkit.compare(frame, frame).columns == ("a_x", "b_y")


def test_a_score_alone_is_not_enough_and_it_says_so() -> None:
    frame = pd.DataFrame({"p": [0.1, 0.2]})
    with pytest.raises(FrameError, match=r"no column beside the score 'p' has numbers in both"):
        monitorkit.compare(frame, frame, score="p")


def test_a_judgement_that_the_service_would_refuse_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = pd.DataFrame(data(50, 1))
    monkeypatch.setattr(Ks, "judge", lambda *_: None)
    with pytest.raises(PluginError, match=r"judge returned a NoneType, not a Judgement"):
        monitorkit.compare(frame, frame, monitors="ks")


@pytest.mark.parametrize("kind", ["my kind", "", "k" * 80])
def test_a_kind_that_cannot_be_one_is_unknown(kind: str) -> None:
    frame = pd.DataFrame(data(50, 1))
    with pytest.raises(ConfigError, match="unknown monitor"):
        monitorkit.compare(frame, frame, monitors=[kind])


def test_scores_that_are_no_probabilities_are_told_beside_what_is_measured() -> None:
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"age": random.random(1000), "p": random.random(1000) * 100})
    found = monitorkit.compare(frame, frame, score="p", monitors="proxy_metrics")
    mean = next(f for f in found.findings["proxy_metrics"] if f.measure == "probability_mean")
    outside = int(((frame["p"] < 0) | (frame["p"] > 1)).sum())
    assert mean.detail["rows_without_score"] == outside > 900


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("psi", {"threshold": float("inf")}),
        ("wasserstein", {"threshold": float("inf")}),
        ("proxy_metrics", {"hours": [10**12]}),
        ("proxy_metrics", {"hours": [-1]}),
        ("proxy_metrics", {"hours": [1, 1]}),
    ],
)
def test_options_that_no_judgement_could_use_are_refused(kind: str, options: Any) -> None:
    frame = pd.DataFrame(data(50, 1))
    with pytest.raises(ConfigError, match=next(iter(options))):
        monitorkit.compare(frame, frame, score="p", monitors={kind: options})
