"""The language of rules: what it reads, and that whatever else it is given is a clear error."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitorkit.rule_language import (
    FUNCTIONS,
    MOST_CHARACTERS,
    Call,
    Column,
    Number,
    Operation,
    Reference,
    Unary,
    nodes,
    parse,
)

AGE = Column("age", 0)


def test_a_rule_is_what_is_measured_a_comparison_and_a_limit() -> None:
    rule = parse("share(age < 21) < 2 * reference")
    assert rule.left == Call("share", Operation("<", AGE, Number(21)))
    assert (rule.sign, rule.right) == ("<", Operation("*", Number(2), Reference()))


def test_products_bind_before_sums_and_both_from_the_left() -> None:
    rule = parse("1 - 2 - 3 * -count() / 4 > 0")
    product = Operation("/", Operation("*", Number(3), Unary("-", Call("count", None))), Number(4))
    assert rule.left == Operation("-", Operation("-", Number(1), Number(2)), product)


def test_and_binds_before_or_and_not_before_both() -> None:
    a, b, c = (Operation("<", Column(name, 0), Number(1)) for name in "abc")
    rule = parse("share(a < 1 or not b < 1 and (c < 1 or a < 1)) < 1")
    both = Operation("and", Unary("not", b), Operation("or", c, a))
    assert rule.left == Call("share", Operation("or", a, both))


def test_parentheses_hold_conditions_and_numbers() -> None:
    rule = parse("share((age + 1) * 2 < (3) and ((age > 1))) < (1)")
    twice = Operation("*", Operation("+", AGE, Number(1)), Number(2))
    both = Operation("and", Operation("<", twice, Number(3)), Operation(">", AGE, Number(1)))
    assert rule.left == Call("share", both)


@pytest.mark.parametrize("text", ["`a-b c`", '"a-b c"', "'a-b c'"])
def test_a_column_that_is_no_name_stands_in_quotes(text: str) -> None:
    assert parse(f"mean({text}) < 1").left == Call("mean", Column("a-b c", 0))


@pytest.mark.parametrize("name", ["Alter_2", "größe", "share", "NumberOfTimes90DaysLate"])
def test_names_of_columns(name: str) -> None:
    assert parse(f"mean({name}) < 1").left == Call("mean", Column(name, 0))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "position 1, at the end: expected a number, `reference`, or share(...)"),
        ("share(age < 21)", "position 16, at the end: expected a comparison with a limit"),
        ("share(age < 21) < ", "position 19, at the end: expected a number"),
        ("share(age < ) < 1", "position 13, at ') < 1': expected a column or a number"),
        ("share(age) < 1", "position 10, at ') < 1': expected a comparison, as in age < 21"),
        ("mean(age < 21) < 1", "position 10, at '< 21) < 1': mean is of a column; share(...)"),
        ("mean() < 1", "expected a column or a number"),
        ("shar(age < 21) < 1", "there is no function 'shar'; did you mean 'share'?"),
        ("exec('x') < 1", "there is no function 'exec'; use share(...)"),
        ("__import__('os') < 1", "there is no function '__import__'"),
        ("age < 21", "position 1, at 'age < 21': a column stands inside a function"),
        ("`age` < 21", "a column stands inside a function"),
        ("mean(age) < refrence", "did you mean 'reference'?"),
        ("mean(mean(age)) < 1", "position 6, at 'mean(age)) < 1': there are no functions inside"),
        ("mean(reference) < 1", "`reference` stands outside functions"),
        ("reference < mean(age)", "use it right"),
        ("0.01 > share(age < 21)", "the left side measures nothing"),
        ("0 < share(age < 21) < 1", "a rule is one comparison; write two rules"),
        ("share(18 < age < 21) < 1", "position 16, at '< 21) < 1': write `18 < age and age < 21`"),
        ("share(age = 21) < 1", "position 11, at '= 21) < 1': write `==` to compare"),
        ("share(a < 1 && b < 1) < 1", "write `and`"),
        ("share(a < 1 | b < 1) < 1", "write `or`"),
        ("share(age < 21) < 1%", "position 20, at '%': write a share as a number"),
        ("share(age < 0,5) < 1", "write numbers with a point"),
        ("mean(`age) < 1", "the quote is not closed"),
        ("mean(a.b) < 1", "put a column's name in backticks"),
        ("mean(a.__class__) < 1", "position 7, at '.__class__) < 1'"),
        ("mean(age) < 1 mean(age)", "expected the end of the rule"),
        ("mean(age < 1", "share(...) is of a condition"),
        ("mean(age", "position 9, at the end: expected `)`"),
        ("mean(age) < 1e999", "the number is too large"),
        ("(" * 100 + "mean(age) < 1", "levels of nesting"),
        ("mean(age) < " + "-" * 100 + "1", "levels of nesting"),
        ("share(" + "not " * 100 + "age < 1) < 1", "levels of nesting"),
        ("mean(age) < 1" + " " * MOST_CHARACTERS, "500 are the most"),
        ("share(and < 1) < 1", "expected a column or a number"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_position(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="rule") as caught:
        parse(text)
    assert problem in str(caught.value)


PIECES = st.sampled_from(
    [*FUNCTIONS, "and", "or", "not", "reference", "age", "`a b`", "1", "0.5", "1e3", "(", ")",
     "()", "<", "<=", "==", "!=", "+", "-", "*", "/", "share(age < 21)", "mean(age)", " ", "%"]
)  # fmt: skip
NEAR = st.lists(PIECES, max_size=25).map(" ".join)


@settings(max_examples=400, deadline=None)
@given(st.one_of(NEAR, st.text(max_size=60), NEAR.map("share(age < 21) < ".__add__)))
@example("(" * 499)
@example("not " * 120)
@example("share(" * 80)
@example("1 + " * 120 + "count() < 1")
def test_any_text_is_a_rule_or_a_clear_error(text: str) -> None:
    try:
        rule = parse(text)
    except ValueError as error:
        refused: ValueError | None = error
    else:
        refused = None
        assert any(isinstance(node, Call) for node in nodes(rule.left))
    if refused is not None:
        assert type(refused) is ValueError
        assert len(text) > MOST_CHARACTERS or re.search(r"position [0-9]+, at ", str(refused))
