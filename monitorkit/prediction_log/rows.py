"""A row of the log: `Prediction`, the header, and how rows become the bytes of a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from monitorkit.contracts import SCORE_COLUMN
from monitorkit.schema import FeatureSchema

FIXED = ("prediction_id", "timestamp", "model_version", "prediction", SCORE_COLUMN)
"""The columns before the features."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered row.

    Attributes:
        prediction_id: unique; ids sort as rows do.
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


class Formatter:
    r"""Makes CSV lines of rows of one schema; a line is a row, whatever its texts hold.

    A newline in a label or a version is written as `\n` (two characters), a return as `\r`.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.columns = schema.names
        self._cells = tuple(_integer if f.type == "integer" else _number for f in schema.features)

    def lines(self, predictions: Sequence[Prediction]) -> bytes:
        """The lines of some rows.

        Raises:
            ValueError: a row has not as many features as the schema.
        """
        cells = self._cells
        parts = []
        for row in predictions:
            features = ",".join(
                [cell(value) for cell, value in zip(cells, row.features, strict=True)]
            )
            parts.append(
                f"{_text(row.prediction_id)},{_text(row.timestamp)},{_text(row.model_version)},"
                f"{_label(row.prediction)},{_number(row.probability)},{features}\n"
            )
        return _encoded("".join(parts))


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


def _number(value: float | None) -> str:
    # str, not repr: the same for floats, and without the type's name for numpy's.
    return "" if value is None or value != value else str(value)  # noqa: PLR0124 - NaN is missing


def _integer(value: float | None) -> str:
    text = _number(value)
    return text[:-2] if text.endswith(".0") and text != "-0.0" else text


_SPECIAL = re.compile(r'[,"\r\n]')


def _text(text: str) -> str:
    return _field(text) if not text or _SPECIAL.search(text) else text


def _label(label: float | str) -> str:
    return _text(label) if isinstance(label, str) else str(label)


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
