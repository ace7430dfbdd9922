"""Every way in which a CSV file can be wrong is told by file, line, column and remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitorkit.errors import DataError
from monitorkit.schema import LARGEST
from monitorkit.training.table import MISSING, Table

PATH = Path("rows.csv")


def table(text: str | bytes) -> Table:
    return Table(PATH, text.encode() if isinstance(text, str) else text)


def refusal(text: str | bytes, column: str | None = None) -> DataError:
    """The error of a file, or of one of its columns; it always names the file and a remedy."""
    with pytest.raises(DataError) as caught:
        table(text).numbers(column or "a")
    assert str(caught.value).startswith("rows.csv")
    assert caught.value.remedy.endswith(".")
    return caught.value


@given(st.lists(st.floats(-LARGEST, LARGEST), min_size=1))
def test_numbers_come_back_bit_for_bit(numbers: list[float]) -> None:
    text = "a,b\n" + "".join(f"1,{number!r}\n" for number in numbers)
    assert table(text).numbers("b").tobytes() == np.array(numbers).tobytes()


@given(st.text(alphabet='0123456789.eE+-_naifNAI ,"\n\r;x\u0660'))
def test_a_column_is_finite_or_missing_or_refused(body: str) -> None:
    try:
        numbers = table("a,b\n" + body).numbers("b")
    except DataError:
        return
    assert not np.isinf(numbers).any()


@pytest.mark.parametrize("word", sorted(MISSING))
def test_every_spelling_of_a_missing_value(word: str) -> None:
    assert np.isnan(table(f"a,b\n1,{word}\n").numbers("b")).all()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter(end: str, mark: bytes) -> None:
    read = table(mark + end.join(["a,b", "1,2", "", "3,4", ""]).encode())
    assert read.columns == ["a", "b"]
    assert read.numbers("b").tolist() == [2, 4]


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_row_number_is_no_column(name: str) -> None:
    assert table(f"{name},a\n1,2\n").columns == ["a"]


@pytest.mark.parametrize("words", [("True", "False"), ("true", "FALSE")])
def test_a_column_of_true_and_false_is_one_of_1_and_0(words: tuple[str, str]) -> None:
    numbers = table(f"a,b\n1,{words[0]}\n2,{words[1]}\n3,\n4,{words[0]}\n").numbers("b")
    np.testing.assert_array_equal(numbers, [1, 0, np.nan, 1])


def test_true_among_numbers_is_none() -> None:
    assert refusal("a,b\n1,2\n1,True\n", "b").problem == "'True' is not a number"
    assert refusal("a,b\n1,yes\n1,True\n", "b").problem == "'yes' is not a number"


@pytest.mark.parametrize(
    "value", ["abc", "1,5", "0x10", "1_000", "\u0661\u0662", "-nan", " ", "True"]
)
def test_what_is_not_a_number_is_named(value: str) -> None:
    error = refusal(f'a,b\n1,2\n\n3,"{value}"\n', "b")
    assert (error.line, error.column, error.problem) == (4, "b", f"{value!r} is not a number")


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e999"])
def test_infinity_is_named(value: str) -> None:
    error = refusal(f"a,b\n1,{value}\n", "b")
    assert (error.line, error.column, error.problem) == (2, "b", f"{value!r} is infinite")


@pytest.mark.parametrize("value", ["1e39", "-3.5e38"])
def test_a_number_beyond_what_a_request_may_hold_is_named(value: str) -> None:
    error = refusal(f"a,b\n1,2\n\n3,{value}\n", "b")
    assert (error.line, error.column) == (4, "b")
    assert error.problem.startswith(f"{value!r} is beyond 3.403e+38")


def test_a_long_value_is_shown_in_part() -> None:
    assert len(refusal("a,b\n1," + "x" * 10_000 + "\n", "b").problem) < 80


def test_an_underscore_or_a_letter_elsewhere_does_no_harm() -> None:
    assert table("a_b,c,d\n1_0,\u00e9,5\n").numbers("d").tolist() == [5]


def test_line_numbers_count_lines_not_rows() -> None:
    assert refusal('a,b\n"x\ny",1\n2,z\n', "b").line == 4


@pytest.mark.parametrize("text", ["a,b\n1,2\n3\n", "a,b\n1,2\n3,4,5\n"])
def test_a_ragged_row_is_named(text: str) -> None:
    error = refusal(text)
    assert error.line == 3
    assert "2 columns" in error.problem


def test_two_columns_of_one_name() -> None:
    error = refusal("a,b,a\n1,2,3\n")
    assert (error.line, error.column) == (1, "a")


def test_a_column_without_a_name() -> None:
    assert "column 2 has no name" in refusal("a,,b\n1,2,3\n").problem


@pytest.mark.parametrize(
    ("text", "problem"), [("", "empty"), ("\n\n", "empty"), ("a,b\n", "no rows")]
)
def test_nothing_in_it(text: str, problem: str) -> None:
    assert problem in refusal(text).problem


def test_bytes_that_are_not_utf_8() -> None:
    error = refusal(b"a,b\n1,2\n3,\xff\n")
    assert error.line == 3
    assert "0xff" in error.problem


def test_a_nul_character() -> None:
    assert refusal("a,b\n1,\0\n").line == 2


@pytest.mark.parametrize(
    "text", ['a,b\n1,2\n3,"4\n', 'a,b\n1,2\n3,"4"x\n', 'a,b\n1,2\n"' + "x" * 200_000]
)
def test_a_quotation_mark_that_is_not_closed(text: str) -> None:
    error = refusal(text)
    assert error.line == 3
    assert "quotation mark" in error.remedy


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is a folder"):
        Table.read(tmp_path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: it cannot be read: No such file"):
        Table.read(tmp_path / "gone.csv")


def test_a_missing_column_and_what_is_nearly_spelled_so() -> None:
    with pytest.raises(DataError, match=r"'MonthlyIncome'.*has 'MonthlyIncom'.*Please"):
        table("MonthlyIncom,age\n1,2\n").require(["age", "MonthlyIncome"], "Please.")


def test_another_separator_is_pointed_out() -> None:
    with pytest.raises(DataError, match="commas"):
        table("a;b\n1;2\n").require(["b"], "Please.")
