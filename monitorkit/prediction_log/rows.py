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

    Numbers are written so that they read back to the last bit, whole ones without `.0`. A newline
    in a label or a version is written as `\n` (two characters), a return as `\r`.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.columns = schema.names

    def lines(self, predictions: Sequence[Prediction]) -> bytes:
        """The lines of some rows.

        Raises:
            ValueError: a row has not as many features as the schema.
        """
        width = len(self.columns)
        parts = []
        for row in predictions:
            if len(row.features) != width:
                raise ValueError(f"{len(row.features)} values for {width} features")
            label = row.prediction
            parts.append(
                f"{_text(row.prediction_id)},{row.timestamp},{_field(row.model_version)},"
                f"{_field(label) if isinstance(label, str) else label},"
                f"{row.probability},{_numbers(row.features)}\n"
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


def _numbers(values: Sequence[float | None]) -> str:
    """The cells of a row's features."""
    # One call for the whole row: formatting them one by one takes twice as long.
    text = str(values if type(values) is list else list(values))[1:-1]
    if "(" in text or "na" in text:  # numpy's numbers, which say so; NaN, which is missing
        text = ", ".join(["None" if v is None or v != v else str(float(v)) for v in values])  # noqa: PLR0124
    return f"{text},".replace("None", "").replace(" ", "").replace(".0,", ",")[:-1]


_SPECIAL = re.compile(r'[,"\r\n]')


def _text(text: str) -> str:
    """A field that is no text of many rows."""
    return _field(text) if _SPECIAL.search(text) else text


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
