"""Lines of a segment as arrays: pyarrow for whole blocks, and around the lines that it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitorkit.prediction_log.segment import LINE_LIMIT, TOO_LONG

_BOM = b"\xef\xbb\xbf"
_NEWLINE = 10
_ASCII = 128

# Whatever pyarrow takes for a finite number, or for a time with its zone, is like these.
_LIKE_A_NUMBER = r"^[-+.eE0-9 \t\r]+$"
_LIKE_A_TIME = r"^[ \t]*\d{4}-\d\d-\d\d.*(Z|[-+]\d\d(:?\d\d)?)[ \t\r]*$"
_MOST_SHOWN = 40

_CALENDAR = (np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us"))
"""What Python has, in UTC; an offset may lead out of it."""

TABLE = ("id", "time", "version", "label", "score")
"""What the columns before the features are called in a table."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Parsed rows, in order.

    Attributes:
        ids: (rows,) prediction ids.
        times: (rows,) datetime64[us], UTC.
        versions: (rows,) int32, the model version of each: where it stands in `names`.
        names: the model versions, each once.
        scores: (rows,) probabilities.
        features: (rows, columns), NaN where missing.
        ends: (rows,) where each row's line ends: the offset of the byte after it.
    """

    ids: NDArray[np.str_]
    times: NDArray[np.datetime64]
    versions: NDArray[np.int32]
    names: tuple[str, ...]
    scores: NDArray[np.float64]
    features: NDArray[np.float64]
    ends: NDArray[np.int64]

    def model_versions(self) -> NDArray[np.object_]:
        """(rows,) the model version of each, as text."""
        return np.array(self.names, dtype=np.object_)[self.versions]

    def take(self, part: slice) -> Rows:
        """Some of the rows."""
        return Rows(
            self.ids[part],
            self.times[part],
            self.versions[part],
            self.names,
            self.scores[part],
            self.features[part],
            self.ends[part],
        )


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no row."""

    offset: int
    reason: str


class Refused(Exception):  # noqa: N818 - never leaves this package
    """At least one of the lines is no row."""


def parse(lines: bytes, columns: int, offset: int = 0) -> tuple[Rows | None, list[BadLine]]:
    """Parse whole lines, each ended by a newline; what one line holds harms no other.

    Args:
        lines: at least one.
        columns: the number of features.
        offset: where they begin, which offsets and ends are counted from.

    Returns:
        The rows (None: not one) and the lines that are none.
    """
    ends = line_ends(lines)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])
    if len(lines) <= LINE_LIMIT or (ends - starts).max() <= LINE_LIMIT:
        try:
            return _parsed(lines, ends + offset, columns), []
        except Refused:
            pass
    bad: list[BadLine] = []
    candidates = []
    for index, line in enumerate(lines.split(b"\n")[:-1]):
        reason = _obviously_bad(line, columns)
        if reason is None:
            candidates.append(index)
        else:
            bad.append(BadLine(int(starts[index]) + offset, reason))
    pieces: list[Rows] = []
    stack = [(np.array(candidates, dtype=np.int64), True)]
    while stack:  # halves of halves, the left one first
        which, unsure = stack.pop()
        if not len(which):
            continue
        some = b"".join([lines[starts[index] : ends[index]] for index in which])
        try:
            pieces.append(_parsed(some, ends[which] + offset, columns))
        except Refused as refusal:
            if len(which) == 1:
                bad.append(BadLine(int(starts[which[0]]) + offset, str(refusal)))
                continue
            surely = _surely_bad(some, len(which), columns) if unsure else {}
            if surely:
                bad += [
                    BadLine(int(starts[which[at]]) + offset, reason)
                    for at, reason in surely.items()
                ]
                stack.append((np.delete(which, list(surely)), False))
            else:
                half, again = len(which) // 2, surely is None
                stack += [(which[half:], again), (which[:half], again)]
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


def _surely_bad(lines: bytes, number: int, columns: int) -> dict[int, str] | None:
    """Lines in which a text is no number or no time whatever pyarrow takes for one, and why.

    All are found in one pass, for there may be millions of them: a segment that a tool wrote anew
    with `NA` where values are missing. Lines that are not among them may be bad, too.

    Returns:
        By line; None: some line is none even as text, so nothing can be said of the others.
    """
    import pyarrow as pa  # noqa: PLC0415 - as in `read_table`
    from pyarrow import compute  # noqa: PLC0415

    names = ("time", "score", *feature_names(columns))
    try:
        table = read_table(lines, number, columns, types=dict.fromkeys(names, pa.string()))
    except Refused:
        return None
    found: dict[int, str] = {}
    for name in names:
        pattern, what = _LIKE_A_NUMBER, "finite number"
        if name == "time":
            pattern, what = _LIKE_A_TIME, "time"
        column = _array(table.column(name))
        like = compute.match_substring_regex(column, pattern)  # null where it is missing
        rows = compute.indices_nonzero(compute.invert(like).fill_null(False))
        for row in rows.to_pylist():
            found.setdefault(row, f"{_shown(column[row].as_py())} is no {what}")
    return found


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def line_ends(lines: bytes) -> NDArray[np.int64]:
    """(lines,) where each line ends, in bytes from the beginning of all."""
    ends = np.flatnonzero(np.frombuffer(lines, dtype=np.uint8) == _NEWLINE)
    ends += 1
    return ends.astype(np.int64, copy=False)


def _parsed(lines: bytes, ends: NDArray[np.int64], columns: int) -> Rows:
    """All lines as rows.

    Raises:
        Refused: when one of them is none.
    """
    return rows_of(read_table(lines, len(ends), columns), columns, ends)


def read_table(
    lines: bytes,
    number: int,
    columns: int,
    *,
    labels: bool = False,
    types: Mapping[str, Any] | None = None,
) -> Any:
    """All lines as a pyarrow table, its columns called `TABLE` and `feature_names`.

    Args:
        lines: whole ones.
        number: how many they are.
        columns: the number of features.
        labels: whether the column `label` is wanted.
        types: of some columns, other ones than they have.

    Raises:
        Refused: when one of them is no row.
    """
    # Imported here: the process that serves writes the log and never reads it.
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv as pa_csv  # noqa: PLC0415

    _check(lines)
    text, time = pa.dictionary(pa.int32(), pa.string()), pa.timestamp("us", tz="UTC")
    fixed = dict(zip(TABLE, (pa.string(), time, text, text, pa.float64()), strict=True))
    features = dict.fromkeys(feature_names(columns), pa.float64())
    column_types = {**fixed, **features, **(types or {})}
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(lines),
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=len(lines) + 1, column_names=list(column_types)
            ),
            parse_options=pa_csv.ParseOptions(
                newlines_in_values=False,
                quote_char='"' if b'"' in lines else False,  # a twentieth faster without
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=column_types,
                include_columns=[name for name in column_types if labels or name != "label"],
                null_values=[""],
                strings_can_be_null=types is not None,
                quoted_strings_can_be_null=False,
            ),
        ).combine_chunks()
    except pa.ArrowInvalid as error:
        raise Refused(str(error).partition("\n")[0]) from None
    if table.num_rows != number:
        raise Refused("its quotes do not match, or it is empty")
    return table


def feature_names(columns: int) -> list[str]:
    """What the features are called in a table, whose own names may be anything."""
    return [f"f{position}" for position in range(columns)]


def rows_of(table: Any, columns: int, ends: NDArray[np.int64]) -> Rows:
    """The rows of a table.

    Args:
        table: as `read_table` makes it, each column in one piece.
        columns: the number of features.
        ends: (rows,) where each row's line ends.

    Raises:
        Refused: when one of them is no row.
    """
    ids, times, versions, scores = (
        _array(table.column(name)) for name in ("id", "time", "version", "score")
    )
    if times.null_count or scores.null_count:
        raise Refused("the timestamp or the probability is missing")
    moments = numbers(times, np.dtype("datetime64[us]"))
    if len(moments) and (moments.min() < _CALENDAR[0] or moments.max() > _CALENDAR[1]):
        raise Refused("the timestamp is beyond the calendar")
    probabilities = numbers(scores, np.dtype(np.float64))
    if not np.isfinite(probabilities).all():
        raise Refused("the probability is no finite number")
    (features,) = table.select(feature_names(columns)).to_batches()
    # Column by column, as monitors go. One call for all: there is a thread that counts meanwhile,
    # and the interpreter changes hands at each.
    matrix = features.to_tensor(null_to_nan=True, row_major=False).to_numpy()
    missing = sum(column.null_count for column in features.columns)
    if np.count_nonzero(np.isfinite(matrix)) != matrix.size - missing:
        raise Refused("a feature is no finite number")
    return Rows(
        _texts(ids),
        moments,
        numbers(versions.indices, np.dtype(np.int32)),
        tuple(versions.dictionary.to_pylist()),
        probabilities,
        matrix,
        ends,
    )


def _check(lines: bytes) -> None:
    """Refuse what pyarrow would take, or take for something else depending on where a block begins.

    Raises:
        Refused: when a line holds such a thing.
    """
    if b"\0" in lines:
        raise Refused("it holds NUL bytes")
    if not lines.isascii():  # the label's column is not converted, so pyarrow does not check it
        try:
            lines.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("it is not UTF-8") from None
        if lines.startswith(_BOM) or b"\n" + _BOM in lines:
            raise Refused("it begins with a byte order mark")
    if b"\r" in lines and lines.count(b"\r") != lines.count(b"\r\n"):
        raise Refused("it holds a carriage return")


def _array(column: Any) -> Any:
    """The one array of a column."""
    (array,) = column.chunks
    return array


def numbers(array: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A pyarrow array's values, whatever they are where they are missing.

    `to_numpy` would import pandas: half a second and 55 MB, in a process that has no use for it.
    """
    _, data = array.buffers()
    return np.frombuffer(data, dtype=dtype, count=len(array), offset=array.offset * dtype.itemsize)


def _texts(array: Any) -> NDArray[np.str_]:
    """A pyarrow string array as a numpy one; ids of one length, as ours are, without a detour."""
    import pyarrow as pa  # noqa: PLC0415

    _, offset_buffer, data = array.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32, count=len(array) + 1, offset=0)
    widths = np.diff(offsets)
    width = int(widths[0])
    raw = np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]]
    if width and (widths == width).all() and raw.max() < _ASCII:
        return raw.astype(np.uint32).view(f"<U{width}").astype(np.str_, copy=False)
    if not widths.all():
        raise Refused("the prediction_id is empty")
    assert isinstance(array, pa.StringArray)  # noqa: S101
    return np.array(array.to_pylist(), dtype=np.str_)


def _joined(pieces: list[Rows]) -> Rows:
    at: dict[str, int] = {}
    for piece in pieces:
        for name in piece.names:
            at.setdefault(name, len(at))
    positions = [np.array([at[name] for name in piece.names], np.int32) for piece in pieces]
    whole = {
        name: np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("ids", "times", "scores", "features", "ends")
    }
    versions = [to[piece.versions] for to, piece in zip(positions, pieces, strict=True)]
    return Rows(versions=np.concatenate(versions), names=tuple(at), **whole)
