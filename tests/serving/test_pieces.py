"""A batch that is read piece by piece is the same batch, whatever its text looks like."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitorkit.serving import served as module
from monitorkit.serving.problems import Problem
from monitorkit.serving.served import Served, matrix

LIMIT = 30

values = st.integers(18, 90) | st.floats(18, 90) | st.none() | st.sampled_from([True, "x", "},{"])
row = st.fixed_dictionaries(
    {
        "age": st.integers(18, 120),
        "NumberOfTime30-59DaysPastDueNotWorse": st.integers(0, 9) | st.just(2.0),
        "DebtRatio": st.floats(0, 1e9),
    },
    optional={
        "MonthlyIncome": st.none() | st.floats(-1e9, 1e9),
        "NumberOfTime30_59DaysPastDueNotWorse": st.just(1),
        "}, {": values,
        "f0": values,
        "age ": values,
    },
)
text = st.builds(
    json.dumps,
    st.lists(row, max_size=LIMIT + 5),
    indent=st.none() | st.integers(0, 2),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
).map(str.encode)
damaged = st.tuples(
    text, st.integers(0, 400), st.sampled_from([b"", b",", b"]", b"}", b"\xff", b"\x0c"])
)


def outcome(served: Served, body: bytes, *, whole: bool) -> Any:
    """Rows, or the problem."""
    read = served._read_row_by_row if whole else served.read_rows
    try:
        return repr(matrix([read(body, LIMIT)]).tolist())
    except Problem as problem:
        return (problem.status, problem.name, problem.detail, problem.errors)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 100)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text)
def test_any_batch(served: Served, body: bytes) -> None:
    assert outcome(served, body, whole=False) == outcome(served, body, whole=True)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damaged)
def test_any_batch_with_something_put_in_or_cut_off(
    served: Served, given_: tuple[bytes, int, bytes]
) -> None:
    body, position, noise = given_
    position = min(position, len(body))
    for changed in (body[:position] + noise + body[position:], body[:position] + noise):
        assert outcome(served, changed, whole=False) == outcome(served, changed, whole=True)


@pytest.mark.parametrize(
    "body",
    [
        b"[{},]",
        b"[{}]\x0c",
        b"\x0b[{}]",
        b"[,{}]",
        b"[{},,{}]",
        b"[{}},{]",
        b"[{}]]",
        b"[[{}]",
        b"[{}",
        b"{}",
        b"[]",
        b"",
    ],
)
def test_what_only_looks_like_an_array(served: Served, body: bytes) -> None:
    good = (
        b'{"age":30,"NumberOfTime30-59DaysPastDueNotWorse":0,"DebtRatio":1.5,"MonthlyIncome":null}'
    )
    body = body.replace(b"{}", good)
    assert outcome(served, body, whole=False) == outcome(served, body, whole=True)


def test_a_name_that_is_given_twice_counts_as_its_last_value(served: Served) -> None:
    body = (
        b'[{"age":1,"age":30,"NumberOfTime30-59DaysPastDueNotWorse":0,"DebtRatio":2,"DebtRatio":3}]'
    )
    np.testing.assert_array_equal(served._read_in_pieces(body, LIMIT), [[30.0, 0.0, 3.0, np.nan]])
    assert served._read_row_by_row(body, LIMIT) == [[30.0, 0.0, 3.0, None]]


GOOD = {"age": 30, "NumberOfTime30-59DaysPastDueNotWorse": 0, "DebtRatio": 1.5}


@pytest.mark.parametrize(
    "wrong",
    [
        '"DebtRatio": NaN',
        '"DebtRatio": Infinity',
        '"DebtRatio": -1',
        '"DebtRatio": 1e39',
        '"DebtRatio": "1.5"',
        '"DebtRatio": true',
        '"DebtRatio": null',
        '"MonthlyIncome": NaN',
        '"age": 30.5',
        '"age": 1e300',
        '"shoe size": 42',
        '"f0": 30',
        '"NumberOfTime30-59DaysPastDueNotWorse": 0.5',
    ],
)
def test_what_a_row_may_not_hold_is_not_taken_in_pieces(served: Served, wrong: str) -> None:
    good = [json.dumps(GOOD)] * 5
    name = wrong.partition(":")[0]
    row = ", ".join([*(f'"{k}": {v}' for k, v in GOOD.items() if f'"{k}"' != name), wrong])
    body = f"[{', '.join([*good, f'{{{row}}}'])}]".encode()

    assert served._read_in_pieces(f"[{', '.join(good)}]".encode(), LIMIT) is not None
    assert served._read_in_pieces(body, LIMIT) is None
    status, *_ = outcome(served, body, whole=False)
    assert status == 422


def test_the_order_of_fields_and_what_is_left_out_change_nothing(served: Served) -> None:
    shuffled = dict(reversed({**GOOD, "MonthlyIncome": 4.5}.items()))
    body = json.dumps([GOOD, shuffled, {**GOOD, "MonthlyIncome": None}]).encode()
    expected = [[30.0, 0.0, 1.5, np.nan], [30.0, 0.0, 1.5, 4.5], [30.0, 0.0, 1.5, np.nan]]
    np.testing.assert_array_equal(served._read_in_pieces(body, LIMIT), expected)


def test_a_sound_batch_takes_the_way_in_pieces(served: Served) -> None:
    rows = [
        {"age": 30 + n, "NumberOfTime30-59DaysPastDueNotWorse": 0, "DebtRatio": n / 7}
        for n in range(LIMIT)
    ]
    body = json.dumps(rows).encode()
    read = served._read_in_pieces(body, LIMIT)
    np.testing.assert_array_equal(read, matrix([served._read_row_by_row(body, LIMIT)]))
    assert served._read_in_pieces(body, LIMIT - 1) is None
