"""The schema: what a request may hold, in every spelling, and what it may not."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from monitorkit import schema
from monitorkit.contracts import SCORE_COLUMN
from monitorkit.errors import SchemaError
from monitorkit.prediction_log.rows import FIXED
from monitorkit.schema import Feature, FeatureSchema, FeatureType, request_model, spellings

LATE = "NumberOfTime30-59DaysPastDueNotWorse"
SCHEMA = FeatureSchema(
    (
        Feature("age", "integer", minimum=18, maximum=120),
        Feature(LATE, "integer", minimum=0),
        Feature("MonthlyIncome", nullable=True, minimum=0),
        Feature("DebtRatio"),
    )
)
WIDEST = {"minimum": -schema.LARGEST, "maximum": schema.LARGEST}
MODEL = request_model(SCHEMA)
GOOD: dict[str, Any] = {"age": 47, LATE: 0, "MonthlyIncome": 5400.5, "DebtRatio": -0.25}


def read(**changes: Any) -> list[float | None]:
    """The values of a row as `/predict` reads them."""
    text = json.dumps({**GOOD, **changes})
    return schema.values([MODEL.model_validate_json(text)])[0]


def refusal(**changes: Any) -> list[tuple[str, str]]:
    """Which fields are refused, and why."""
    with pytest.raises(ValidationError) as caught:
        read(**changes)
    return [(str(error["loc"][0]), error["type"]) for error in caught.value.errors()]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names}


# Requests


def test_values_are_floats_in_schema_order_whatever_the_order_of_the_request() -> None:
    text = json.dumps(dict(reversed(GOOD.items())))
    row = MODEL.model_validate_json(text)
    assert schema.values([row]) == [[47.0, 0.0, 5400.5, -0.25]]
    assert all(type(value) is float for value in row.__dict__.values())


def test_a_column_has_its_own_spelling_and_one_with_underscores() -> None:
    underscored = "NumberOfTime30_59DaysPastDueNotWorse"
    assert spellings([LATE, "age", "mean radius (µm)", "Größe", "年龄", "收入"]) == {
        LATE: (LATE, underscored),
        "age": ("age",),
        "mean radius (µm)": ("mean radius (µm)", "mean_radius___m_"),
        "Größe": ("Größe", "Gr__e"),
        "年龄": ("年龄",),
        "收入": ("收入",),
    }
    assert SCHEMA.spellings == spellings(SCHEMA.names)
    row = MODEL.model_validate_json(json.dumps({**without(LATE), underscored: 2}))
    assert schema.values([row])[0][1] == 2.0


def test_both_spellings_at_once_are_refused() -> None:
    assert refusal(NumberOfTime30_59DaysPastDueNotWorse=0) == [
        ("NumberOfTime30_59DaysPastDueNotWorse", "extra_forbidden")
    ]


def test_unknown_fields_are_refused() -> None:
    assert refusal(salary=1) == [("salary", "extra_forbidden")]
    assert refusal(f0=1) == [("f0", "extra_forbidden")]  # how the model calls its fields inside


@pytest.mark.parametrize(
    ("name", "value", "type_"),
    [
        ("age", 17, "greater_than_equal"),
        ("age", 121, "less_than_equal"),
        ("age", 47.5, "whole_number"),
        ("age", 47.00000001, "whole_number"),
        ("MonthlyIncome", -0.01, "greater_than_equal"),
        ("age", "47", "float_type"),
        ("age", True, "float_type"),
        ("age", [47], "float_type"),
        ("age", None, "float_type"),
        ("DebtRatio", float("nan"), "finite_number"),
        ("DebtRatio", float("inf"), "finite_number"),
        ("DebtRatio", float("-inf"), "finite_number"),
        ("DebtRatio", 10**400, "finite_number"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: object, type_: str) -> None:
    assert refusal(**{name: value}) == [(name, type_)]


@pytest.mark.parametrize("value", [18, 120, 47.0])
def test_bounds_are_inclusive_and_whole_floats_are_integers(value: float) -> None:
    assert read(age=value)[0] == value


def test_every_wrong_field_is_told_at_once() -> None:
    assert len(refusal(age=1, DebtRatio="x", MonthlyIncome=-1, nonsense=1)) == 4


def test_a_nullable_feature_may_be_null_or_left_out_and_no_other() -> None:
    assert read(MonthlyIncome=None)[2] is None
    left_out = MODEL.model_validate_json(json.dumps(without("MonthlyIncome")))
    assert schema.values([left_out])[0][2] is None
    with pytest.raises(ValidationError, match="missing"):
        MODEL.model_validate_json(json.dumps(without("age")))


def test_the_json_schema_says_what_is_checked() -> None:
    described = MODEL.model_json_schema(by_alias=True)
    properties = described["properties"]
    assert properties["age"] == {
        "title": "age", "type": "integer", "minimum": 18, "maximum": 120,
    }  # fmt: skip
    assert properties["DebtRatio"] == {"title": "DebtRatio", "type": "number", **WIDEST}
    assert properties["MonthlyIncome"]["anyOf"] == [
        {**WIDEST, "type": "number", "minimum": 0},
        {"type": "null"},
    ]
    assert set(properties) == set(SCHEMA.names)
    assert described["required"] == ["age", LATE, "DebtRatio"]
    assert described["additionalProperties"] is False


def test_a_nullable_integer_is_an_integer_in_the_json_schema() -> None:
    model = request_model(FeatureSchema((Feature("x", "integer", nullable=True),)))
    choices = model.model_json_schema()["properties"]["x"]["anyOf"]
    assert choices == [{"type": "integer", **WIDEST}, {"type": "null"}]


# Schemas


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": ""}, "empty or not printable"),
        ({"name": "a\nb"}, "empty or not printable"),
        ({"name": "probability"}, "a column of this name"),
        ({"name": "timestamp"}, "a column of this name"),
        ({"name": "x", "type": "text"}, "type 'text' is unknown"),
        ({"name": "x", "minimum": 2, "maximum": 1}, "minimum 2 is above maximum 1"),
        ({"name": "x", "minimum": float("nan")}, "a bound is nan"),
        ({"name": "x", "maximum": float("inf")}, "a bound is inf"),
    ],
)
def test_a_feature_that_cannot_be_served_is_refused(values: Any, told: str) -> None:
    with pytest.raises(SchemaError, match=told):
        Feature(**values)


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (("x<1", "x>1"), "x_1"),
        (("a-b", "a_b"), "a_b"),
        (("a-b", "a b", "a b?"), "a_b"),
        (("年龄", "收入"), "__"),
        (("возраст", "зарплат"), "_______"),
    ],
)
def test_columns_that_underscores_make_alike_have_their_own_names_only(
    names: tuple[str, ...], alike: str
) -> None:
    found = FeatureSchema(tuple(Feature(name) for name in names))
    assert all(alike == name or alike not in found.spellings[name] for name in names)
    row = {name: float(value) for value, name in enumerate(names)}
    known = request_model(found).model_validate_json(json.dumps(row))
    assert schema.values([known]) == [list(row.values())]
    if alike in names:
        return
    row[alike] = row.pop(names[0])
    with pytest.raises(ValidationError) as caught:
        request_model(found).model_validate_json(json.dumps(row))
    assert {error["type"] for error in caught.value.errors()} == {"missing", "extra_forbidden"}
    assert schema.table_validator(found).isinstance_python([row]) is False


@pytest.mark.parametrize("names", [(), ("a", "a")])
def test_features_that_clients_could_not_tell_apart_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(SchemaError):
        FeatureSchema(tuple(Feature(name) for name in names))


def test_bounds_override_what_they_name_and_nothing_else() -> None:
    changed = SCHEMA.with_bounds({"age": {"maximum": 99}, "DebtRatio": {"nullable": True}})
    assert changed.features[0] == Feature("age", "integer", minimum=18, maximum=99)
    assert changed.features[3] == Feature("DebtRatio", nullable=True)
    assert changed.features[1:3] == SCHEMA.features[1:3]
    assert SCHEMA.with_bounds({}) == SCHEMA
    with pytest.raises(SchemaError, match=r"'salary': the model does not read it.*age, "):
        SCHEMA.with_bounds({"salary": {"minimum": 1}})


def test_types_and_nullability_are_read_off_the_data() -> None:
    found = schema.infer(
        {
            "whole": np.array([1.0, 2.0, -3.0]),
            "some": np.array([1.0, np.nan, 3.0]),
            "parts": np.array([1.0, 2.5, 3.0]),
            "none": np.array([np.nan, np.nan]),
            "endless": np.array([1.0, np.inf]),
        }
    )
    assert found.features == (
        Feature("whole", "integer"),
        Feature("some", "integer", nullable=True),
        Feature("parts"),
        Feature("none", nullable=True),
        Feature("endless"),
    )


bounds = st.none() | st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.isprintable)


@st.composite
def schemas(draw: st.DrawFn) -> FeatureSchema:
    features = []
    unique = st.lists(names, min_size=1, max_size=5, unique=True)
    for name in draw(unique):
        low, high = draw(bounds), draw(bounds)
        if low is not None and high is not None and low > high:
            low, high = high, low
        type_ = draw(st.sampled_from(get_args(FeatureType)))
        features.append(Feature(name, type_, draw(st.booleans()), low, high))
    return FeatureSchema(tuple(features))


@given(schemas())
def test_json_comes_back(found: FeatureSchema) -> None:
    text = json.dumps(found.to_json(), allow_nan=False)
    assert FeatureSchema.from_json(json.loads(text)) == found


def test_another_schema_version_is_refused() -> None:
    with pytest.raises(SchemaError, match="schema_version 2 is not 1"):
        FeatureSchema.from_json({**SCHEMA.to_json(), "schema_version": 2})


def test_the_names_of_the_logs_own_columns_are_reserved() -> None:
    assert schema.RESERVED == FIXED
    assert FIXED[-1] == SCORE_COLUMN
