"""Columns of cells as arrays of values, and what is wrong with single cells.

A column is a pyarrow array of texts (CSV) or of anything (Parquet).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from monitorkit.estimators import Class
from monitorkit.importing.batch import Problem
from monitorkit.schema import Feature
from monitorkit.training.table import FLAGS, MISSING

V = TypeVar("V")

Numbers = NDArray[np.float64]
NOT_A_NUMBER = "must be a number"
SHOWN = 60
UUID_BYTES = 16

_WHOLE = re.compile(r"-?[0-9]+\.0")


@dataclass(frozen=True, slots=True)
class Column(Generic[V]):
    """One value for each row.

    Attributes:
        values: (rows,); without meaning where there is a problem.
        problems: by row, what is wrong with its cell.
    """

    values: V
    problems: dict[int, Problem] = field(default_factory=dict)


def is_text(kind: Any) -> bool:
    """Whether a pyarrow type holds texts."""
    import pyarrow as pa  # noqa: PLC0415 - only when a file is imported

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_view = getattr(pa.types, "is_string_view", lambda _: False)  # since pyarrow 16
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_view(kind))


def shown(value: object) -> str:
    """A cell as a reason quotes it."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def python_values(array: Any) -> list[Any]:
    """Cells as Python has them, None where missing; a date beyond its calendar is a text."""
    try:
        values: list[Any] = array.to_pylist()
    except (OverflowError, ValueError):
        values = [_python_value(cell) for cell in array]
    return values


def _python_value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (OverflowError, ValueError):
        return str(getattr(cell, "value", "a value that Python has no word for"))


def plain_values(array: Any) -> list[Any]:
    """Cells as they are written to a rejects file: its ids are read as those of this column."""
    import pyarrow as pa  # noqa: PLC0415 - only when a file is imported

    kind = array.type
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if binary or pa.types.is_fixed_size_binary(kind) or pa.types.is_floating(kind):
        return texts(array)
    return python_values(array)


def texts(array: Any) -> list[str]:
    """Cells as texts, empty where missing; whole numbers that went through a float without `.0`.

    Of binary ones those of 16 bytes, by their type, are UUIDs; others are UTF-8, or hexadecimal
    digits when they are not.
    """
    import pyarrow as pa  # noqa: PLC0415 - only when a file is imported

    kind = array.type
    uuids = pa.types.is_fixed_size_binary(kind) and kind.byte_width == UUID_BYTES
    as_text = _uuid if uuids else _text
    values = ["" if value is None else as_text(value) for value in python_values(array)]
    if pa.types.is_floating(kind):
        values = [_whole(value) for value in values]
    return values


def _uuid(value: bytes) -> str:
    return str(UUID(bytes=value))


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.hex()


def distinct(array: Any) -> tuple[list[str], NDArray[np.intp]]:
    """The different texts of a column, and for each row which of them it has."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    if is_text(array.type):
        plain = array.cast(pa.string()).combine_chunks()
    else:
        plain = pa.array(texts(array), pa.string())
    coded = plain.dictionary_encode()
    words = texts(coded.dictionary)
    codes = coded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    return [*words, ""], codes.astype(np.intp)


def numbers(array: Any) -> Column[Numbers]:
    """Cells as numbers, each the nearest float64; NaN where missing."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    from pyarrow import compute  # noqa: PLC0415

    kind = array.type
    if pa.types.is_dictionary(kind) and not is_text(kind):
        array = array.cast(kind.value_type)
        kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _finite(_as_floats(array), array, is_missing=np.isnan)
    if not is_text(kind):
        cells = python_values(array)
        wrong = {n: Problem(NOT_A_NUMBER, shown(c)) for n, c in enumerate(cells) if c is not None}
        return Column(np.full(len(cells), math.nan), wrong)
    array = array.cast(pa.string())
    missing = compute.is_in(array, value_set=pa.array(sorted(MISSING)))
    try:
        values = _as_floats(compute.if_else(missing, None, array))
    except pa.ArrowInvalid:
        return _by_cell(array.to_pylist())
    gaps = missing.to_numpy() | array.is_null().to_numpy()
    return _finite(values, array, is_missing=lambda _: gaps)


def _as_floats(array: Any) -> Numbers:
    import pyarrow as pa  # noqa: PLC0415 - as above

    values: Numbers = array.cast(pa.float64(), safe=False).to_numpy()
    return values.copy() if not values.flags.writeable else values


def _finite(values: Numbers, array: Any, *, is_missing: Any) -> Column[Numbers]:
    """Numbers, of which those that are not finite are problems unless they are missing."""
    wrong = np.flatnonzero(~np.isfinite(values) & ~is_missing(values))
    return Column(values, {int(n): _not_finite(array[int(n)].as_py()) for n in wrong})


def _not_finite(cell: object) -> Problem:
    return Problem("must be a finite number", shown(cell))


def _by_cell(cells: Sequence[str | None]) -> Column[Numbers]:
    values = np.full(len(cells), math.nan)
    problems: dict[int, Problem] = {}
    for row, cell in enumerate(cells):
        if cell is None or cell in MISSING:
            continue
        number: float | None
        try:
            number = float(cell)
        except ValueError:
            number = None
        # float() takes more than numbers in a file may be: 1_000, and digits of other scripts.
        if number is None or "_" in cell or not cell.isascii():
            problems[row] = Problem(NOT_A_NUMBER, shown(cell))
        elif math.isfinite(number):
            values[row] = number
        else:
            problems[row] = _not_finite(cell)
    return Column(values, problems)


def feature(array: Any, which: Feature) -> Column[Numbers]:
    """One feature's cells, checked as a request is: type, bounds, and whether it may be missing.

    False and true are 0 and 1 where the feature is nothing else.
    """
    is_flag = which.type == "integer" and which.range == (0, 1)
    column = numbers(_as_flags(array) if is_flag else array)
    return Column(column.values, _checked(column, which))


def _as_flags(array: Any) -> Any:
    """Booleans, also those that are texts, as numbers; the rest of a column as it was."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    from pyarrow import compute  # noqa: PLC0415

    if pa.types.is_boolean(array.type):
        return array.cast(pa.int8())
    if not is_text(array.type):
        return array
    text = array.cast(pa.string())
    lower = compute.utf8_lower(text)
    for word, number in FLAGS.items():
        text = compute.if_else(compute.equal(lower, word), f"{number:.0f}", text)
    return text


def absent(rows: int, which: Feature) -> Column[Numbers]:
    """A feature that the file does not have."""
    column = Column(np.full(rows, math.nan))
    return Column(column.values, _checked(column, which))


def _checked(column: Column[Numbers], which: Feature) -> dict[int, Problem]:
    values = column.values
    gaps = np.isnan(values)
    found = {
        row: Problem(f"{which.name}: {kind}", got) for row, (kind, got) in column.problems.items()
    }
    if not which.nullable:
        kind = f"{which.name}: is missing, and the model has learned no missing values here"
        for row in np.flatnonzero(gaps):
            found.setdefault(int(row), Problem(kind))
    checks = []
    if which.type == "integer":
        checks.append((np.floor(values) != values, "must be a whole number"))
    lowest, highest = which.range
    checks.append((values < lowest, f"must be at least {_number(lowest)}"))
    checks.append((values > highest, f"must be at most {_number(highest)}"))
    for wrong, kind in checks:
        for row in np.flatnonzero(wrong & ~gaps):
            got = _number(float(values[row]))
            found.setdefault(int(row), Problem(f"{which.name}: {kind}", got))
    return found


def probability(array: Any) -> Column[Numbers]:
    """The probability of the positive class."""
    column = numbers(array)
    values, found = column.values, dict(column.problems)
    for row in np.flatnonzero(np.isnan(values)):
        found.setdefault(int(row), Problem("is missing"))
    for row in np.flatnonzero((values < 0) | (values > 1)):
        found.setdefault(int(row), Problem("must be from 0 to 1", _number(float(values[row]))))
    return Column(
        values, {row: Problem(f"probability: {kind}", got) for row, (kind, got) in found.items()}
    )


def labels(
    array: Any | None, scores: Numbers, classes: tuple[Class, Class]
) -> Column[NDArray[np.intp]]:
    """Which of the two classes each row was given; as the score says where the file does not."""
    derived = (scores > 0.5).astype(np.intp)  # noqa: PLR2004 - as `Model.labels`
    if array is None:
        return Column(derived)
    words, codes = distinct(array)
    known = np.array([_class_of(word, classes) for word in words], dtype=np.intp)
    found = known[codes]
    problems = {
        int(row): Problem(
            f"prediction: must be {classes[0]} or {classes[1]}", shown(words[codes[row]])
        )
        for row in np.flatnonzero(found == _UNKNOWN)
    }
    return Column(np.where(found == _NOT_GIVEN, derived, found), problems)


_UNKNOWN, _NOT_GIVEN = -1, -2


def _class_of(word: str, classes: tuple[Class, Class]) -> int:
    """Which class a text means."""
    for position, one in enumerate(classes):
        if word == str(one):
            return position
    if word in MISSING:
        return _NOT_GIVEN
    try:
        number = FLAGS[word.lower()] if word.lower() in FLAGS else float(word)
    except ValueError:
        return _UNKNOWN
    meant = [n for n, one in enumerate(classes) if not isinstance(one, str) and one == number]
    return meant[0] if meant else _UNKNOWN


def _whole(text: str) -> str:
    return text[:-2] if _WHOLE.fullmatch(text) else text


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)
