"""Rows and columns are the same rows, and make the same lines."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prediction_rows import SCHEMA, rows

from monitorkit.prediction_log import Prediction, Predictions
from monitorkit.prediction_log import rows as module
from monitorkit.prediction_log.rows import CHUNK, MANY, Formatter

numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(codec="utf-8"), max_size=5)
predictions = st.builds(
    Prediction,
    st.uuids().map(str) | texts,
    st.just("2026-01-02T03:04:05.123456Z"),
    texts,
    st.integers(0, 1) | st.booleans() | texts,
    numbers,
    st.lists(numbers | st.none(), min_size=3, max_size=3),
)


@given(st.lists(predictions, max_size=5))
def test_columns_give_back_their_rows(some: list[Prediction]) -> None:
    columns = Predictions.of(some)
    assert len(columns) == len(some)
    assert list(columns) == some
    assert [columns[n] for n in range(len(some))] == some
    assert [columns[-n - 1] for n in range(len(some))] == some[::-1]


@given(st.lists(predictions, max_size=8), st.slices(8))
def test_a_stretch_of_columns_has_the_rows_of_that_stretch(
    some: list[Prediction], stretch: slice
) -> None:
    taken = Predictions.of(some)[stretch]
    assert isinstance(taken, Predictions)
    assert list(taken) == some[stretch]


def test_columns_are_taken_as_they_are() -> None:
    columns = Predictions.of(rows(3))
    assert Predictions.of(columns) is columns


def test_a_row_that_is_not_there_is_an_index_error_as_in_any_sequence() -> None:
    columns = Predictions.of(rows(2))
    for index in (2, -3):
        with pytest.raises(IndexError):
            columns[index]


@given(st.lists(predictions, max_size=5))
def test_lines_read_back_to_the_last_bit(some: list[Prediction]) -> None:
    text = Formatter(SCHEMA).lines(some).decode()
    assert text.count("\n") == len(some)
    for line, row in zip(csv.reader(io.StringIO(text, newline="")), some, strict=True):
        assert line[0] == _escaped(row.prediction_id)
        assert line[2] == _escaped(row.model_version)
        assert line[3] == (
            _escaped(row.prediction) if isinstance(row.prediction, str) else str(row.prediction)
        )
        found = [float(cell) if cell else None for cell in line[4:]]
        assert [_bits(value) for value in found] == [
            _bits(value) for value in (row.probability, *row.features)
        ]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(predictions, min_size=1, max_size=5))
def test_many_lines_read_back_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, some: list[Prediction]
) -> None:
    monkeypatch.setattr(module, "MANY", 1)
    test_lines_read_back_to_the_last_bit.hypothesis.inner_test(some)  # type: ignore[attr-defined]


def test_many_lines_are_written_as_few_are() -> None:
    generator = np.random.default_rng(7)
    values = generator.uniform(0.001, 1, (MANY, 3)) * 10.0 ** generator.integers(0, 10, (MANY, 3))
    values[generator.random(values.shape) < 0.3] = np.nan
    values[generator.random(values.shape) < 0.3] //= 1
    values[:4, 0] = 0.0, -0.0, np.inf, -4.5
    columns = Predictions.of(rows(MANY))
    columns.features = values
    labels: list[int | bool | str] = [1, True, 0, False, "yes", "né"]
    columns.labels = (labels * MANY)[:MANY]
    formatter = Formatter(SCHEMA)
    few = b"".join(formatter.lines(columns[n : n + 1]) for n in range(MANY))
    assert formatter.lines(columns) == few


@pytest.mark.parametrize("text", ["a,b", 'say "yes"', "two\nlines", "", "\ud800", "a\rb"])
@pytest.mark.parametrize("column", ["ids", "versions", "labels"])
def test_a_text_among_many_that_needs_care_gets_it(text: str, column: str) -> None:
    columns = Predictions.of(rows(MANY))
    getattr(columns, column)[5] = text
    formatter = Formatter(SCHEMA)
    few = b"".join(formatter.lines(columns[n : n + 1]) for n in range(MANY))
    assert formatter.lines(columns) == few


def test_rows_of_many_chunks_and_of_one_make_the_same_lines() -> None:
    some = rows(2 * CHUNK + 7)
    formatter = Formatter(SCHEMA)
    assert formatter.lines(some) == b"".join(formatter.lines([row]) for row in some)
    assert formatter.lines(Predictions.of(some)) == formatter.lines(some)
    assert formatter.lines([]) == b""


@pytest.mark.parametrize("features", [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
def test_a_row_of_another_width_is_refused(features: list[float | None]) -> None:
    row = rows(1)[0]._replace(features=features)
    with pytest.raises(ValueError, match=f"{len(features)} values for 3 features"):
        Formatter(SCHEMA).lines([row])
    with pytest.raises(ValueError, match="inhomogeneous"):
        Formatter(SCHEMA).lines([*rows(1), row])


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _bits(value: Any) -> Any:
    """Tells 0.0 from -0.0."""
    return None if value is None else (value, math.copysign(1.0, value), np.float64(value).hex())
