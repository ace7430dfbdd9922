"""Rows of the log: one, many as columns, the header, and how all become the bytes of a CSV file."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from monitorkit.schema import RESERVED, FeatureSchema

FIXED = RESERVED
"""The columns before the features."""


CHUNK = 256
"""Rows that become text in one call into Rust, which lets no other thread in meanwhile: 0.1 ms."""

MANY = 256
"""Rows from which pyarrow writes them: it takes 0.2 ms to begin, half the time for 10,000 rows, and
lets other threads go on meanwhile."""


class Prediction(NamedTuple):
    """One answered row.

    Attributes:
        prediction_id: unique; those of one request sort as its rows do.
        timestamp: ISO-8601, UTC, microseconds, `Z`.
        model_version: of the model that answered.
        prediction: the label.
        probability: of the positive class.
        features: in schema order, None where missing.
    """

    prediction_id: str
    timestamp: str
    model_version: str
    prediction: int | bool | str
    probability: float
    features: Sequence[float | None]


@dataclass(slots=True, eq=False, repr=False)
class Predictions(Sequence[Prediction]):
    """Answered rows as columns, each as long as there are rows.

    A batch of 10,000 in this form takes a few objects beside its texts; as many tuples and lists
    take twice as long to make, and the garbage collector looks at each of them again and again.

    Attributes:
        ids, timestamps, versions, labels, probabilities: as `Prediction` has them.
        features: (rows, columns) in schema order, NaN where missing.
    """

    ids: Sequence[str]
    timestamps: Sequence[str]
    versions: Sequence[str]
    labels: Sequence[int | bool | str]
    probabilities: Sequence[float]
    features: NDArray[np.float64]

    @classmethod
    def of(cls, predictions: Iterable[Prediction]) -> Predictions:
        """Some rows as columns; those that are columns already are taken as they are.

        Raises:
            ValueError: the rows have different numbers of features.
        """
        if isinstance(predictions, cls):
            return predictions
        columns = [list(column) for column in zip(*predictions, strict=True)] or [[]] * 6
        ids, timestamps, versions, labels, probabilities, rows = columns
        return cls(ids, timestamps, versions, labels, probabilities, np.array(rows, np.float64))

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        """One row, or a stretch of them as columns."""
        if isinstance(index, slice):
            return Predictions(
                self.ids[index],
                self.timestamps[index],
                self.versions[index],
                self.labels[index],
                self.probabilities[index],
                self.features[index],
            )
        return Prediction(
            self.ids[index],
            self.timestamps[index],
            self.versions[index],
            self.labels[index],
            self.probabilities[index],
            _or_none(self.features[index].tolist()),
        )

    def __iter__(self) -> Iterator[Prediction]:
        """The rows one by one."""
        yield from map(
            Prediction,
            self.ids,
            self.timestamps,
            self.versions,
            self.labels,
            self.probabilities,
            map(_or_none, self.features.tolist()),
        )


class Formatter:
    r"""Makes CSV lines of rows of one schema; a line is a row, whatever its texts hold.

    Numbers are written so that they read back to the last bit, whole ones without `.0`. (When many
    are written at once, exponents begin at other sizes than when few are.) A newline in a label or
    a version is written as `\n` (two characters), a return as `\r`.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.columns = schema.names

    def lines(self, predictions: Sequence[Prediction]) -> bytes:
        """The lines of some rows.

        Raises:
            ValueError: a row has not as many features as the schema.
        """
        if not predictions:
            return b""
        rows = Predictions.of(predictions)
        width = rows.features.shape[1]
        if width != len(self.columns):
            raise ValueError(f"{width} values for {len(self.columns)} features")
        text = _written_by_arrow(rows) if len(rows) >= MANY else None
        return _written(rows) if text is None else text


def header(columns: Sequence[str]) -> bytes:
    """The first line of a segment with these features."""
    return _encoded(",".join(_field(name) for name in (*FIXED, *columns)) + "\n")


def features_in(line: bytes) -> tuple[str, ...] | None:
    """The feature columns that a header names; None when it is no header of ours."""
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        names = next(csv.reader([text], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return None
    known = tuple(names[: len(FIXED)]) == FIXED and len(names) > len(FIXED)
    return tuple(names[len(FIXED) :]) if known else None


def _written(rows: Predictions) -> bytes:
    """The lines of any rows."""
    parts: list[str] = []
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        ids = rows.ids[part]
        if _SPECIAL.search("".join(ids)):
            ids = [_field(identity) for identity in ids]
        parts += [
            f"{identity},{timestamp},{_field(version)},{_label(label)},{cells}\n"
            for identity, timestamp, version, label, cells in zip(
                ids,
                rows.timestamps[part],
                rows.versions[part],
                rows.labels[part],
                _cells(rows.probabilities[part], rows.features[part]),
                strict=True,
            )
        ]
    return _encoded("".join(parts))


def _written_by_arrow(rows: Predictions) -> bytes | None:
    """The lines of rows without a text that needs quotes; None: there is one."""
    import pyarrow as pa  # noqa: PLC0415 - who writes no batches needs none
    from pyarrow import csv as arrow_csv  # noqa: PLC0415

    unquoted = arrow_csv.WriteOptions(include_header=False, quoting_style="none")
    sink = pa.BufferOutputStream()
    try:
        columns = [
            pa.array(rows.ids),
            pa.array(rows.timestamps),
            pa.array([_field(version) for version in rows.versions]),
            pa.array([_label(label) for label in rows.labels]),
            pa.array(rows.probabilities, pa.float64()),
            *(pa.array(column, from_pandas=True) for column in rows.features.T),
        ]
        names = [str(number) for number in range(len(columns))]
        arrow_csv.write_csv(pa.RecordBatch.from_arrays(columns, names), sink, unquoted)
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return None
    text: bytes = sink.getvalue().to_pybytes()
    return text


@lru_cache(maxsize=4096, typed=True)
def _label(label: int | bool | str) -> str:
    return _field(label) if isinstance(label, str) else str(label)


def _or_none(numbers: list[float]) -> list[float | None]:
    return [None if math.isnan(number) else number for number in numbers]


def _cells(probabilities: Sequence[float], features: NDArray[np.float64]) -> list[str]:
    """The cells of each row's probability and features.

    JSON's numbers are the shortest that read back to the last bit, as `repr` writes them, and
    pydantic-core writes a row of them in a fifth of the time.
    """
    numbers = np.empty((len(features), features.shape[1] + 1))
    numbers[:, 0] = probabilities
    numbers[:, 1:] = features
    text = to_json(numbers.tolist()).decode()
    text = text.replace(".0,", ",").replace(".0]", "]")
    if "N" in text or "I" in text:
        text = text.replace("NaN", "").replace("Infinity", "inf")
    return text[2:-2].split("],[")


_SPECIAL = re.compile(r'[,"\r\n]')


@lru_cache(maxsize=4096)
def _field(text: str) -> str:
    """One CSV field; an empty text is quoted, since an empty cell means missing."""
    text = text.replace("\n", "\\n").replace("\r", "\\r")
    if not text or _SPECIAL.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _encoded(text: str) -> bytes:
    # A lone surrogate is no reason to refuse a row.
    return text.encode("utf-8", errors="backslashreplace")
