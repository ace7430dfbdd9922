"""What is served: a model with the request validators made for it, and the slot that holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, from_json, to_json

from monitorkit.errors import SchemaError
from monitorkit.model import Model
from monitorkit.prediction_log import Predictions
from monitorkit.schema import (
    FeatureSchema,
    Row,
    integers_are_whole,
    request_model,
    table_validator,
)
from monitorkit.serving import fields, problems
from monitorkit.serving.fields import SHOWN_ERRORS

Values = list[float | None]
"""One row in schema order, None where missing."""

Rows = Sequence[Values] | NDArray[np.float64]
"""Validated rows: one by one, or as (rows, features) in schema order, NaN where missing."""


LARGE_ROW_BYTES = 32 * 1024
"""pydantic would take a second for the errors of a hundred thousand unknown fields."""

PIECE_BYTES = 32 * 1024
"""Of a batch, read at once: about 100 rows, which take 0.4 ms."""

MATRIX_ROWS = 1000
"""Rows that become an array at once: 0.4 ms."""


def _parsed(body: bytes | bytearray) -> Any:
    """A body's JSON.

    Raises:
        Problem: 400 for what is none.
    """
    try:
        return from_json(body)
    except ValueError as error:
        raise problems.not_json(str(error), body) from None


@dataclass(frozen=True, eq=False)
class Served:
    """One model version as requests meet it.

    Attributes:
        model: the loaded model.
        schema: the model's schema with the bounds of the configuration.
        request: the pydantic model of one row.
    """

    model: Model
    schema: FeatureSchema
    request: type[Row]
    _row: TypeAdapter[Row] = field(repr=False)
    _rows: SchemaValidator = field(repr=False)
    _version: str = field(repr=False)
    _labels: Mapping[int | bool | str, str] = field(repr=False)

    @classmethod
    def of(
        cls,
        model: Model,
        bounds: Mapping[str, Mapping[str, Any]],
        before: Served | None = None,
    ) -> Served:
        """Prepare a model for serving; takes some ten milliseconds, so not on the event loop.

        Args:
            model: what `monitorkit.model.load` returned.
            bounds: `config.bounds()`.
            before: what was served before; what was made for the same schema is used again, for
                nothing frees what reads requests: `pauses` keeps the garbage collector from it.

        Raises:
            SchemaError: the bounds name a feature that the model does not read, or make one
                nullable in which it cannot take a missing value.
        """
        given = model.card.schema.with_bounds(bounds)
        for feature in given.features:
            asked = bounds.get(feature.name, {}).get("nullable", False)
            if asked and feature.name not in model.accepts_missing:
                raise SchemaError(
                    feature.name,
                    f"[schema] makes it nullable, and {model.card.title()} takes no missing value",
                    "Remove `nullable` there, or train with an imputer.",
                )
        schema = FeatureSchema(
            tuple(
                replace(each, nullable=each.nullable and each.name in model.accepts_missing)
                for each in given.features
            )
        )
        if before is not None and before.schema == schema:
            request, row, rows = before.request, before._row, before._rows  # noqa: SLF001 - its own
        else:
            request, rows = request_model(schema), table_validator(schema)
            row = TypeAdapter(request)
        return cls(
            model,
            schema,
            request,
            row,
            rows,
            json.dumps(model.card.version),
            {label: json.dumps(label) for label in model.card.classes},
        )

    def read_row(self, body: bytes | bytearray) -> Values:
        """Read and validate one row, straight from its bytes.

        Raises:
            Problem: 400 for what is no JSON, 422 for what is no valid row.
        """
        if len(body) > LARGE_ROW_BYTES:
            return self._read_large_row(body)
        try:
            return list(self._row.validator.validate_json(body).__dict__.values())
        except ValidationError as error:
            raise problems.invalid(error, fields.known_fields(self.schema), body) from None

    def _read_large_row(self, body: bytes | bytearray) -> Values:
        """A row in a body that holds more than any: what is too much of it is never validated."""
        known = fields.known_fields(self.schema)
        kept, left = fields.trimmed(_parsed(body), known)
        try:
            return list(self._row.validator.validate_python(kept).__dict__.values())
        except ValidationError as error:
            wrong = fields.field_errors(error, known)
            raise problems.invalid_fields(wrong, error.error_count() + left) from None

    def read_rows(self, body: bytes | bytearray, limit: int) -> Rows:
        """Read and validate a JSON array of rows.

        Raises:
            Problem: 400 for what is no JSON, 413 for too many rows, 422 for what is no array of
                valid rows.
        """
        accepted = self._read_in_pieces(body, limit)
        return accepted if accepted is not None else self._read_row_by_row(body, limit)

    def _read_in_pieces(self, body: bytes | bytearray, limit: int) -> NDArray[np.float64] | None:
        """The rows of a body in which all is well; None: something is not, or is unusual.

        pydantic-core keeps the interpreter for itself until a text is read, 40 ms for 10,000 rows.
        So the array is cut at commas. Where is a guess, the result is none: when every piece in
        brackets of its own is an array of at least one row, then so is the whole, of the same rows.
        """
        text = bytes(body.strip(b" \t\r\n"))
        if not (text.startswith(b"[{") and text.endswith(b"}]")):
            return None
        validate = self._rows.validate_json
        accepted: list[NDArray[np.float64]] = []
        count = 0
        start, end = 1, len(text) - 1
        while start < end:
            brace = text.find(b"},", min(start + PIECE_BYTES, end), end)
            stop = brace + 1 if brace >= 0 else end
            try:
                rows = validate(b"[%b]" % text[start:stop])
            except ValidationError:
                return None
            count += len(rows)
            if not rows or count > limit:
                return None
            numbers = [*chain.from_iterable([row.values() for _, row in rows])]
            accepted.append(np.array(numbers, dtype=np.float64))
            start = stop + 1
        table = np.concatenate(accepted).reshape(count, -1)
        return table if integers_are_whole(self.schema, table) else None

    def _read_row_by_row(self, body: bytes | bytearray, limit: int) -> list[Values]:
        """The rows of any body, or everything that is wrong with them."""
        rows = _parsed(body)
        if not isinstance(rows, list):
            raise problems.not_an_array()
        if len(rows) > limit:
            raise problems.too_many_rows(len(rows), limit)
        return self.accept(rows)

    def accept(self, rows: Iterable[Any]) -> list[Values]:
        """Validate rows that are objects by now, one after the other.

        Raises:
            Problem: 422 with everything that is wrong with them.
        """
        known = fields.known_fields(self.schema)
        validate = self._row.validator.validate_python
        accepted = []
        wrong: list[fields.FieldError] = []
        count = 0
        for index, given in enumerate(rows):
            row, left = fields.trimmed(given, known)
            count += left
            try:
                accepted.append(list(validate(row).__dict__.values()))
            except ValidationError as error:
                count += error.error_count()
                if len(wrong) < SHOWN_ERRORS:
                    wrong += fields.field_errors(error, known, row=index)
        if count:
            raise problems.invalid_fields(wrong[:SHOWN_ERRORS], count)
        return accepted

    def encode(self, predictions: Predictions) -> str:
        """The JSON of some answers, with commas between. Ids and timestamps need no escaping."""
        probabilities = to_json(predictions.probabilities)[1:-1].decode().split(",")
        return ",".join(
            [
                f'{{"prediction_id":"{identity}","timestamp":"{timestamp}",'
                f'"model_version":{self._version},"prediction":{self._labels[label]},'
                f'"probability":{probability}}}'
                for identity, timestamp, label, probability in zip(
                    predictions.ids,
                    predictions.timestamps,
                    predictions.labels,
                    probabilities,
                    strict=True,
                )
            ]
        )


class Slot:
    """Holds what is served now; the reloader swaps it, and no answer mixes two models."""

    def __init__(self, current: Served | None = None) -> None:
        self.current = current

    def served(self) -> Served:
        """What is served now.

        Raises:
            Problem: 503 without a model.
        """
        if self.current is None:
            raise problems.no_model()
        return self.current


def example(schema: FeatureSchema) -> dict[str, float | int]:
    """A row that passes validation: each feature's value nearest to 1 within its bounds."""
    row: dict[str, float | int] = {}
    for feature in schema.features:
        value: float = 1
        if feature.minimum is not None:
            value = max(value, feature.minimum)
        if feature.maximum is not None:
            value = min(value, feature.maximum)
        if feature.type == "integer":
            value = math.ceil(value)
        row[feature.name] = int(value) if float(value).is_integer() else value
    return row


def matrix(parts: Sequence[Rows]) -> NDArray[np.float64]:
    """The rows of several callers as the model reads them: (rows, features), NaN where missing."""
    if len(parts) == 1:
        return _array(parts[0])
    if any(isinstance(rows, np.ndarray) for rows in parts):
        return np.concatenate([_array(rows) for rows in parts])
    return _array([row for rows in parts for row in rows])


def _array(rows: Rows) -> NDArray[np.float64]:
    if isinstance(rows, np.ndarray):
        return rows
    if len(rows) <= MATRIX_ROWS:
        return np.array(rows, dtype=np.float64)
    starts = range(0, len(rows), MATRIX_ROWS)
    return np.concatenate([_array(rows[start : start + MATRIX_ROWS]) for start in starts])
