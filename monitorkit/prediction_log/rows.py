"""A row of the log: `Prediction`, the header, and how rows become the bytes of a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from pydantic_core import to_json

from monitorkit.contracts import SCORE_COLUMN
from monitorkit.schema import FeatureSchema

FIXED = ("prediction_id", "timestamp", "model_version", "prediction", SCORE_COLUMN)
"""The columns before the features."""


CHUNK = 256
"""Rows that become text in one call into Rust, which lets no other thread in meanwhile: 0.1 ms."""


class Prediction(NamedTuple):
    """One answered row; a tuple, for a dataclass takes three times as long to make.

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
        for row in predictions:
            if len(row.features) != width:
                raise ValueError(f"{len(row.features)} values for {width} features")
        parts: list[str] = []
        for start in range(0, len(predictions), CHUNK):
            chunk = predictions[start : start + CHUNK]
            plain = not _SPECIAL.search("".join([row.prediction_id for row in chunk]))
            for row, cells in zip(chunk, _cells(chunk), strict=True):
                identity, timestamp, version, label, _, _ = row
                if not plain:
                    identity = _field(identity)
                if isinstance(label, str):
                    label = _field(label)
                parts.append(f"{identity},{timestamp},{_field(version)},{label},{cells}\n")
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


def _cells(predictions: Sequence[Prediction]) -> list[str]:
    """The cells of each row's probability and features.

    JSON's numbers are the shortest that read back to the last bit, as `repr` writes them, and
    pydantic-core writes a row of them in a fifth of the time.
    """
    rows = [(probability, *features) for _, _, _, _, probability, features in predictions]
    text = to_json(rows, fallback=float).decode()  # float: numpy's numbers
    text = text.replace("null", "").replace(".0,", ",").replace(".0]", "]")
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
