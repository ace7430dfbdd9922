"""Cells are checked as requests are: what a service would answer is taken, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from monitorkit.estimators import Class
from monitorkit.importing import cells
from monitorkit.schema import Feature, FeatureSchema, request_model
from monitorkit.training.table import MISSING


def column(values: list[Any], kind: Any = None) -> Any:
    return pa.chunked_array([pa.array(values, kind or pa.string())])


def numbers(values: list[str]) -> tuple[list[float], list[int]]:
    found = cells.numbers(column(values))
    return found.values.tolist(), sorted(found.problems)


bounds = st.none() | st.integers(-5, 5).map(float)
features = st.builds(
    lambda kind, nullable, low, high: Feature(
        "x",
        kind,
        nullable,
        low if None in (low, high) else min(low, high),
        high if None in (low, high) else max(low, high),
    ),
    st.sampled_from(["integer", "number"]),
    st.booleans(),
    bounds,
    bounds,
)
values = st.none() | st.integers(-8, 8).map(float) | st.floats(allow_nan=False)


@settings(max_examples=300, deadline=None)
@given(features, st.lists(values, min_size=1, max_size=8))
@example(Feature("x", "integer", nullable=True), [None, 1.0, 1.5])
def test_a_feature_is_taken_where_a_request_would_be(
    feature: Feature, given_values: list[float | None]
) -> None:
    request = request_model(FeatureSchema((feature,)))
    texts = ["" if value is None else repr(value) for value in given_values]
    for array in (column(texts), column(given_values, pa.float64())):
        found = cells.feature(array, feature)
        for row, value in enumerate(given_values):
            try:
                request.model_validate({"x": value})
            except ValidationError:
                assert row in found.problems, value
            else:
                assert row not in found.problems, value
                taken = found.values[row]
                assert math.isnan(taken) if value is None else taken == value


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(), min_size=1))
def test_numbers_are_the_nearest_to_what_is_written(written: list[float]) -> None:
    texts = [repr(number) for number in written]
    try:
        expected = [float(text) for text in texts]
    except OverflowError:
        return
    finite = [n for n, value in enumerate(expected) if math.isfinite(value)]
    found, problems = numbers(texts)
    assert [found[n] for n in finite] == [expected[n] for n in finite]
    assert len(problems) == len(expected) - len(finite)
    # One cell that is no number sends the others the slow way.
    slow, _ = numbers([*texts, "x"])
    assert [slow[n] for n in finite] == [found[n] for n in finite]


@pytest.mark.parametrize("word", sorted(MISSING))
def test_missing_values_may_be_spelled_as_in_training_data(word: str) -> None:
    assert np.isnan(numbers([word, "1"])[0][0])
    assert numbers([word, "1"])[1] == []


@pytest.mark.parametrize("word", ["1_0", "٣", "inf", "-nan", "1e999", "0x10", "1,5", "-", "x"])
def test_what_is_no_finite_number_is_a_problem(word: str) -> None:
    assert numbers(["1", word])[1] == [1]
    assert numbers([word, "", "y"])[1] == [0, 2]


def test_typed_columns_are_numbers_too() -> None:
    assert cells.numbers(column([1, None], pa.int8())).values.tolist()[0] == 1.0
    assert cells.numbers(column([2**53 + 1], pa.int64())).values.tolist() == [2.0**53]
    found = cells.numbers(column([1.5, math.nan, math.inf], pa.float32()))
    assert (found.values[0], sorted(found.problems)) == (1.5, [2])
    truth = cells.numbers(column([True, None], pa.bool_()))
    assert truth.problems == {0: ("must be a number", "True")}


@pytest.mark.parametrize(
    ("classes", "cell", "label"),
    [
        ((0, 1), "1", 1),
        ((0, 1), "1.0", 1),
        ((0, 1), "True", 1),
        ((False, True), "true", 1),
        ((False, True), "0", 0),
        (("no", "yes"), "yes", 1),
        (("0", "1"), "0", 0),
        ((1, 2), "2", 1),
        (("NA", "x"), "NA", 0),
    ],
)
def test_a_label_is_one_of_the_models_classes(
    classes: tuple[Class, Class], cell: str, label: int
) -> None:
    found = cells.labels(column([cell, "else", ""]), np.array([0.5, 0.5, 0.9]), classes)
    assert found.values[0] == label
    assert sorted(found.problems) == [1]
    assert found.values[2] == 1  # by its score


def test_a_long_cell_is_cut_in_a_reason() -> None:
    assert cells.shown("x" * 1000) == "'" + "x" * 59 + "…"


@pytest.mark.parametrize(
    "column",
    [pa.array([True, False, None]), pa.array(["True", "false", ""]), pa.array([1, 0, None])],
)
def test_true_and_false_are_1_and_0_of_a_feature_that_is_nothing_else(column: Any) -> None:
    flag = Feature("owner", "integer", minimum=0, maximum=1, nullable=True)
    found = cells.feature(pa.chunked_array([column]), flag)
    assert found.problems == {}
    assert found.values[:2].tolist() == [1, 0]
    assert math.isnan(found.values[2])
    age = Feature("age", "integer", maximum=120, nullable=True)
    other = cells.feature(pa.chunked_array([column]), age)
    assert len(other.problems) == (0 if pa.types.is_integer(column.type) else 2)


def test_texts_may_be_views() -> None:
    column = pa.array(["0.5", "", "x"], pa.string_view())
    found = cells.numbers(column)
    assert found.values[0] == 0.5
    assert list(found.problems) == [2]
