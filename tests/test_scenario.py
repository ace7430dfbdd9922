"""Scenarios: the same rows for the same seed, shifted as asked, and fitted to the schema."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from some_customers import SCHEMA, some_features

from monitorkit.errors import ConfigError
from monitorkit.scenario import Plan, Shift, parse_shift, plan, resolve
from monitorkit.schema import Feature, FeatureSchema, FeatureType, request_model

NAMES = (
    "RevolvingUtilizationOfUnsecuredLines",
    "age",
    "NumberOfTime30-59DaysPastDueNotWorse",
    "DebtRatio",
    "MonthlyIncome",
    "NumberOfOpenCreditLinesAndLoans",
    "NumberOfTimes90DaysLate",
    "NumberRealEstateLoansOrLines",
    "NumberOfTime60-89DaysPastDueNotWorse",
    "NumberOfDependents",
)


def column(planned: Plan, name: str) -> list[Any]:
    return [row[name] for row in planned.rows]


@pytest.mark.parametrize(
    ("text", "shift"),
    [
        ("income=0.8", Shift("income", "=", 0.8)),
        ("utilisation:=1.0", Shift("utilisation", ":=", 1.0)),
        (" Debt Ratio += -2e3 ", Shift("Debt Ratio", "+=", -2000.0)),
        ("NumberOfTime30-59Days=2", Shift("NumberOfTime30-59Days", "=", 2.0)),
    ],
)
def test_a_shift_is_read(text: str, shift: Shift) -> None:
    assert parse_shift(text) == shift


@pytest.mark.parametrize("text", ["", "income", "income=", "=2", ":=2", "income=x", "income=nan",
                                  "income:=inf", "income==2", "income*=2",
                                  "income-=2"])  # fmt: skip
def test_what_is_no_shift_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write NAME=0\.8 to multiply") as caught:
        parse_shift(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("age", "age"),
        ("MonthlyIncome", "MonthlyIncome"),
        ("income", "MonthlyIncome"),
        ("INCOME", "MonthlyIncome"),
        ("monthly_income", "MonthlyIncome"),
        ("incme", "MonthlyIncome"),
        ("utilisation", "RevolvingUtilizationOfUnsecuredLines"),
        ("utilization", "RevolvingUtilizationOfUnsecuredLines"),
        ("revolving", "RevolvingUtilizationOfUnsecuredLines"),
        ("debt", "DebtRatio"),
        ("dependants", "NumberOfDependents"),
        ("NumberOfTime30_59DaysPastDueNotWorse", "NumberOfTime30-59DaysPastDueNotWorse"),
        ("30-59", "NumberOfTime30-59DaysPastDueNotWorse"),
        ("late", "NumberOfTimes90DaysLate"),
    ],
)
def test_a_feature_is_found_by_what_people_call_it(name: str, feature: str) -> None:
    assert resolve(name, NAMES) == feature


@pytest.mark.parametrize("name", ["年齢", "größe", "GRÖẞE"])
def test_names_in_other_scripts_are_found(name: str) -> None:
    assert resolve(name, ("収入", "年齢", "größe")) == ("年齢" if name == "年齢" else "größe")


@pytest.mark.parametrize(
    ("name", "known", "feature"),
    [
        ("年収", ("年収 (￥)", "age"), "年収 (￥)"),
        ("grosse", ("Größe", "x"), "Größe"),
        ("resume", ("Résumé_2023", "x1"), "Résumé_2023"),
    ],
)
def test_a_part_of_a_name_in_any_script_will_do(
    name: str, known: tuple[str, ...], feature: str
) -> None:
    assert resolve(name, known) == feature


@pytest.mark.parametrize(
    ("name", "known"),
    [("年齢_2023", ("年収_2023", "age")), ("gre", ("Größe", "x")), ("é1", ("x1", "y2"))],
)
def test_another_name_in_another_script_is_not_meant(name: str, known: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="no feature like"):
        resolve(name, known)


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("PastDue", ("NumberOfTime30-59DaysPastDueNotWorse", "NumberOfTime60-89DaysPastDue")),
        ("number", ("NumberOfDependents", "NumberRealEstateLoansOrLines")),
        ("salary", NAMES),
        ("", NAMES),
        ("!", NAMES),
    ],
)
def test_what_may_be_several_or_none_is_refused_with_the_candidates(
    name: str, candidates: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name, NAMES)
    assert all(candidate in str(caught.value) for candidate in candidates)


def test_the_seed_decides_and_no_row_comes_twice_while_there_are_others() -> None:
    features = some_features()
    drawn = plan(features, SCHEMA, rows=100, seed=1)
    assert plan(features, SCHEMA, rows=100, seed=1) == drawn
    assert plan(features, SCHEMA, rows=100, seed=2).rows != drawn.rows
    assert sorted(column(drawn, "DebtRatio")) == sorted(features[:, 2])
    assert drawn.repeated == 0
    again = plan(features, SCHEMA, rows=250, seed=1)
    counts = [column(again, "DebtRatio").count(value) for value in features[:, 2]]
    assert set(counts) == {2, 3}
    assert again.repeated == 150


def test_without_a_shift_the_rows_are_the_data() -> None:
    features = some_features()
    planned = plan(features, SCHEMA, rows=100)
    expected = {
        (int(age), None if np.isnan(income) else income, ratio) for age, income, ratio in features
    }
    assert {tuple(row.values()) for row in planned.rows} == expected
    assert all(isinstance(value, int) for value in column(planned, "age"))
    assert planned.clipped == {}
    json.dumps(planned.rows, allow_nan=False)


def test_shifts_multiply_set_and_add_in_their_order() -> None:
    features = some_features()
    before = plan(features, SCHEMA, rows=50)
    shifts = [
        Shift("MonthlyIncome", "=", 0.8),
        Shift("MonthlyIncome", "+=", 7.0),
        Shift("DebtRatio", ":=", 1.0),
    ]
    after = plan(features, SCHEMA, rows=50, shifts=shifts)
    pairs = list(zip(column(before, "MonthlyIncome"), column(after, "MonthlyIncome"), strict=True))
    assert (None, None) in pairs  # what is missing stays missing
    assert all(now == was * 0.8 + 7.0 for was, now in pairs if was is not None)
    assert set(column(after, "DebtRatio")) == {1.0}
    assert column(after, "age") == column(before, "age")
    np.testing.assert_array_equal(features, some_features())  # the caller's array is untouched


def test_setting_a_value_leaves_none_missing() -> None:
    planned = plan(some_features(), SCHEMA, rows=100, shifts=[Shift("MonthlyIncome", ":=", 3.0)])
    assert set(column(planned, "MonthlyIncome")) == {3.0}


def test_values_fit_the_schema_and_what_was_clipped_is_counted() -> None:
    features = some_features()
    shifts = [Shift("age", "=", 1.5), Shift("MonthlyIncome", "+=", -5000.0)]
    planned = plan(features, SCHEMA, rows=100, shifts=shifts)
    ages, incomes = column(planned, "age"), column(planned, "MonthlyIncome")
    assert all(isinstance(age, int) and 18 <= age <= 100 for age in ages)
    assert min(income for income in incomes if income is not None) == 0
    assert planned.clipped == {
        "age": int((np.rint(features[:, 0] * 1.5) > 100).sum()),
        "MonthlyIncome": int((features[:, 1] < 5000).sum()),
    }
    assert planned.clipped["age"] > 0


def test_whole_numbers_stay_whole_between_crooked_bounds() -> None:
    schema = FeatureSchema((Feature("x", "integer", minimum=0.5, maximum=2.5),))
    planned = plan(np.array([[0.0], [1.0], [9.0]]), schema, rows=3)
    assert sorted(column(planned, "x")) == [1, 1, 2]


def test_a_shift_beyond_all_numbers_is_still_json() -> None:
    planned = plan(some_features(), SCHEMA, rows=5, shifts=[Shift("DebtRatio", "=", 1e308 * 10)])
    shift = Shift("DebtRatio", "=", 1.7e308)
    planned = plan(some_features() * 100, SCHEMA, rows=5, shifts=[shift])
    json.dumps(planned.rows, allow_nan=False)
    assert planned.clipped["DebtRatio"] > 0


@pytest.mark.parametrize("kind", ["number", "integer"])
def test_a_shift_beyond_what_a_request_may_hold_is_clipped_to_that(kind: FeatureType) -> None:
    schema = FeatureSchema((Feature("x", kind),))
    for largest in (1e40, -1e40):
        planned = plan(np.ones((3, 1)), schema, rows=3, shifts=[Shift("x", "=", largest)])
        assert planned.clipped == {"x": 3}
        for row in planned.rows:
            request_model(schema).model_validate_json(json.dumps(row))
