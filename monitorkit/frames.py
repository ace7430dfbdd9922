"""Data frames of pandas, polars and pyarrow as chunks, by narwhals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.contracts import SCORE_COLUMN, Chunk
from monitorkit.errors import FrameError

_REMEDIES: Mapping[str, str] = {
    "String": "turn it into numbers, such as one column of 0 and 1 for each value",
    "Object": "turn it into numbers: pandas has to_numeric",
    "Categorical": "turn it into numbers, such as one column of 0 and 1 for each value",
    "Enum": "turn it into numbers, such as one column of 0 and 1 for each value",
    "Datetime": "turn it into numbers, such as the hour or the age in days",
    "Date": "turn it into numbers, such as the weekday or the age in days",
    "Duration": "turn it into numbers, such as seconds",
}


_WIDER_THAN_NUMPY = ("Int128", "UInt128")
"""Whole numbers that polars casts to floats itself."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two frames as chunks of the same columns.

    Attributes:
        reference, current: their rows.
        skipped: columns that are left out, with the reason.
        library: of the reference frame, as narwhals names it.
    """

    reference: Chunk
    current: Chunk
    skipped: Mapping[str, str]
    library: Any


def paired(reference: Any, current: Any, score: str | None) -> Pair:
    """Read two data frames.

    Args:
        reference: a frame of pandas, polars or pyarrow.
        current: another one, maybe of another of these libraries.
        score: the column with the model's score, or None.

    Raises:
        FrameError: one is no data frame, is empty, or there is nothing to compare.
    """
    frames = {"reference": _frame(reference, "reference"), "current": _frame(current, "current")}
    skipped: dict[str, str] = {}
    names: list[str] = []
    for name in dict.fromkeys([*frames["reference"].columns, *frames["current"].columns]):
        reasons = [_not_numbers(frame, which, name) for which, frame in frames.items()]
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is None and _has_infinities(frames["reference"], name):
            reason = "infinite values in the reference frame; make them missing"
        if name == score and reason is not None:
            raise FrameError("score", f"column {name!r} is left out: {reason}", _SCORE)
        if reason is not None:
            skipped[name] = reason
        elif name == SCORE_COLUMN and score not in {None, name}:
            skipped[name] = f"{score} is compared under this name; rename the column"
        elif name != score:
            names.append(name)
    if score is not None and score not in frames["reference"].columns:
        raise FrameError("score", f"there is no column {score!r} in either frame", _SCORE)
    if not names:
        told = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        which = "no column" if score is None else f"no column beside the score {score!r}"
        problem = f"{which} has numbers in both ({told or 'there are no others'})"
        raise FrameError("current", problem, "Give frames with numeric columns of the same names")
    return Pair(
        reference=_chunk(frames["reference"], names, score),
        current=_chunk(frames["current"], names, score),
        skipped=skipped,
        library=frames["reference"].implementation,
    )


_SCORE = "Name a column of numbers that both frames have, or leave `score` out"


def _frame(given: Any, which: str) -> Any:
    import narwhals as nw  # noqa: PLC0415 - for those who compare frames

    try:
        frame = nw.from_native(given, eager_only=True)
        names = frame.columns
    except TypeError as error:
        kind = type(given).__name__
        remedy = "Give one of pandas, polars or pyarrow"
        if hasattr(given, "collect"):
            remedy = "Collect it first: frame.collect()"
        raise FrameError(which, f"a {kind} is no data frame in memory", remedy) from error
    except (ValueError, nw.exceptions.NarwhalsError) as error:
        named = [str(name) for name in getattr(given, "columns", ())]
        twice = [repr(name) for name in dict.fromkeys(named) if named.count(name) > 1]
        problem = str(error).splitlines()[0]
        if twice:
            problem = f"several columns are called {' and '.join(twice[:3])}"
        raise FrameError(which, problem, "Rename its columns") from error
    if isinstance(names[0] if names else "", tuple):
        remedy = "Join their levels: frame.columns = ['_'.join(map(str, c)) for c in frame.columns]"
        raise FrameError(which, "its columns have several levels", remedy)
    if odd := [name for name in names if not isinstance(name, str)]:
        remedy = "Use text: frame.columns = frame.columns.astype(str)"
        raise FrameError(which, f"the column name {odd[0]!r} is no text", remedy)
    if not len(frame):
        raise FrameError(which, "it has no rows", "Give one with rows")
    return frame


def _not_numbers(frame: Any, which: str, name: str) -> str | None:
    """Why a column cannot be compared; None when it has numbers."""
    if name not in frame.columns:
        return f"not in the {which} frame"
    kind = frame.schema[name]
    if kind.is_numeric() or str(kind) == "Boolean":
        return None
    shown = str(kind).partition("(")[0]
    if shown == "Unknown":
        shown = str(getattr(frame[name].to_native(), "dtype", shown))
    remedy = _REMEDIES.get(shown, "only numbers and booleans are compared")
    return f"{shown} in the {which} frame; {remedy}"


def _chunk(frame: Any, names: list[str], score: str | None) -> Chunk:
    features = np.column_stack([_numbers(frame, name) for name in names])
    scores = np.full(len(frame), np.nan) if score is None else _numbers(frame, score)
    return Chunk.of_rows(names, features, scores)


def _numbers(frame: Any, name: str) -> NDArray[np.float64]:
    import narwhals as nw  # noqa: PLC0415 - as above

    column = frame[name]
    if not column.dtype.is_integer() or str(column.dtype) in _WIDER_THAN_NUMPY:
        return np.asarray(column.cast(nw.Float64).to_numpy(), np.float64)
    # pyarrow casts no whole number that float64 has not; the nearest one will do, as elsewhere.
    missing = column.is_null().to_numpy()
    return np.where(missing, np.nan, column.fill_null(0).to_numpy().astype(np.float64))


def _has_infinities(frame: Any, name: str) -> bool:
    return frame.schema[name].is_float() and bool(np.isinf(_numbers(frame, name)).any())
