"""Lines of a segment as arrays: pyarrow for whole blocks, and around the lines that it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.prediction_log.segment import LINE_LIMIT, TOO_LONG

_BOM = b"\xef\xbb\xbf"
_NEWLINE = 10
_ASCII = 128


@dataclass(frozen=True, slots=True)
class Rows:
    """Parsed rows, in order.

    Attributes:
        ids: (rows,) prediction ids.
        times: (rows,) datetime64[us], UTC.
        versions: (rows,) model versions, as objects.
        scores: (rows,) probabilities.
        features: (rows, columns), NaN where missing.
        ends: (rows,) where each row's line ends, in bytes from the beginning of the lines.
    """

    ids: NDArray[np.str_]
    times: NDArray[np.datetime64]
    versions: NDArray[np.object_]
    scores: NDArray[np.float64]
    features: NDArray[np.float64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no row."""

    offset: int
    reason: str


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """At least one of the lines is no row."""


def parse(lines: bytes, columns: int) -> tuple[Rows | None, list[BadLine]]:
    """Parse whole lines, each ended by a newline; what one line holds harms no other.

    Args:
        lines: at least one.
        columns: the number of features.

    Returns:
        The rows (None: not one) and the lines that are none.
    """
    ends = np.flatnonzero(np.frombuffer(lines, dtype=np.uint8) == _NEWLINE).astype(np.int64) + 1
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])
    if len(lines) <= LINE_LIMIT or (ends - starts).max() <= LINE_LIMIT:
        try:
            return _parsed(lines, ends, columns), []
        except _Refused:
            pass
    bad: list[BadLine] = []
    candidates = []
    for index, line in enumerate(lines.split(b"\n")[:-1]):
        reason = _obviously_bad(line, columns)
        if reason is None:
            candidates.append(index)
        else:
            bad.append(BadLine(int(starts[index]), reason))
    pieces: list[Rows] = []
    stack = [np.array(candidates, dtype=np.int64)]
    while stack:  # halves of halves, the left one first
        which = stack.pop()
        if not len(which):
            continue
        some = b"".join([lines[starts[index] : ends[index]] for index in which])
        try:
            pieces.append(_parsed(some, ends[which], columns))
        except _Refused as refusal:
            if len(which) == 1:
                bad.append(BadLine(int(starts[which[0]]), str(refusal)))
            else:
                half = len(which) // 2
                stack += [which[half:], which[:half]]
    bad.sort(key=lambda line: line.offset)
    return _joined(pieces) if pieces else None, bad


def _obviously_bad(line: bytes, columns: int) -> str | None:
    """What can be said of one line without parsing it."""
    if len(line) >= LINE_LIMIT:
        return TOO_LONG
    if not line.strip():
        return "the line is empty"
    if b"\0" in line:
        return "it holds NUL bytes"
    if line.count(b",") < columns + 4:
        return "it has too few fields"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "it is not UTF-8"
    return None


def _parsed(lines: bytes, ends: NDArray[np.int64], columns: int) -> Rows:
    """All lines as rows.

    Raises:
        _Refused: when one of them is none.
    """
    # Imported here: the process that serves writes the log and never reads it.
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv as pa_csv  # noqa: PLC0415

    _check(lines)
    features = [f"f{position}" for position in range(columns)]
    types = {
        "id": pa.string(),
        "time": pa.timestamp("us", tz="UTC"),
        "version": pa.dictionary(pa.int32(), pa.string()),
        "score": pa.float64(),
        **dict.fromkeys(features, pa.float64()),
    }
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(lines),
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                block_size=len(lines) + 1,
                column_names=["id", "time", "version", "label", "score", *features],
            ),
            parse_options=pa_csv.ParseOptions(newlines_in_values=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=[""],
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        ).combine_chunks()
    except pa.ArrowInvalid as error:
        raise _Refused(str(error).partition("\n")[0]) from None
    if table.num_rows != len(ends):
        raise _Refused("its quotes do not match, or it is empty")
    ids, times, versions, scores = (_array(table.column(position)) for position in range(4))
    if times.null_count or scores.null_count:
        raise _Refused("the timestamp or the probability is missing")
    probabilities = _numbers(scores, np.dtype(np.float64))
    if not np.isfinite(probabilities).all():
        raise _Refused("the probability is no finite number")
    matrix = np.empty((len(ends), columns), order="F")  # monitors go column by column
    for position in range(columns):
        column = _array(table.column(4 + position))
        values = _numbers(column, np.dtype(np.float64))
        if column.null_count:
            values = np.where(_is_valid(column), values, np.nan)
        if np.count_nonzero(np.isfinite(values)) != len(values) - column.null_count:
            raise _Refused("a feature is no finite number")
        matrix[:, position] = values
    return Rows(
        _texts(ids),
        _numbers(times, np.dtype("datetime64[us]")),
        np.array(versions.dictionary.to_pylist(), dtype=np.object_)[
            _numbers(versions.indices, np.dtype(np.int32))
        ],
        probabilities,
        matrix,
        ends,
    )


def _check(lines: bytes) -> None:
    """Refuse what pyarrow would take, or take for something else depending on where a block begins.

    Raises:
        _Refused: when a line holds such a thing.
    """
    if b"\0" in lines:
        raise _Refused("it holds NUL bytes")
    if not lines.isascii():  # the label's column is not converted, so pyarrow does not check it
        try:
            lines.decode("utf-8")
        except UnicodeDecodeError:
            raise _Refused("it is not UTF-8") from None
        if lines.startswith(_BOM) or b"\n" + _BOM in lines:
            raise _Refused("it begins with a byte order mark")
    if b"\r" in lines and lines.count(b"\r") != lines.count(b"\r\n"):
        raise _Refused("it holds a carriage return")


def _array(column: Any) -> Any:
    """The one array of a column."""
    (array,) = column.chunks
    return array


def _numbers(array: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A pyarrow array's values, whatever they are where they are missing.

    `to_numpy` would import pandas: half a second and 55 MB, in a process that has no use for it.
    """
    _, data = array.buffers()
    return np.frombuffer(data, dtype=dtype, count=len(array), offset=array.offset * dtype.itemsize)


def _is_valid(array: Any) -> NDArray[np.bool_]:
    """Which values are there; at least one is not."""
    bits = np.frombuffer(array.buffers()[0], dtype=np.uint8)
    valid = np.unpackbits(bits, count=array.offset + len(array), bitorder="little")
    return valid[array.offset :].view(np.bool_)


def _texts(array: Any) -> NDArray[np.str_]:
    """A pyarrow string array as a numpy one; ids of one length, as ours are, without a detour."""
    import pyarrow as pa  # noqa: PLC0415

    _, offset_buffer, data = array.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32, count=len(array) + 1, offset=0)
    widths = np.diff(offsets)
    if not widths.all():
        raise _Refused("the prediction_id is empty")
    width = int(widths[0])
    raw = np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]]
    if (widths == width).all() and not (raw >= _ASCII).any():
        return raw.astype(np.uint32).view(f"<U{width}").astype(np.str_, copy=False)
    assert isinstance(array, pa.StringArray)  # noqa: S101
    return np.array(array.to_pylist(), dtype=np.str_)


def _joined(pieces: list[Rows]) -> Rows:
    return Rows(
        *(
            np.concatenate([getattr(piece, name) for piece in pieces])
            for name in ("ids", "times", "versions", "scores", "features", "ends")
        )
    )
