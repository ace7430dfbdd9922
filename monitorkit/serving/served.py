"""What is served: a model with the request validators made for it, and the slot that holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from monitorkit.errors import SchemaError
from monitorkit.model import Model
from monitorkit.prediction_log import Prediction
from monitorkit.schema import FeatureSchema, Row, request_model
from monitorkit.serving import fields, problems

Values = list[float | None]
"""One row in schema order, None where missing."""

SHOWN_ERRORS = 100


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
    _version: str = field(repr=False)
    _labels: Mapping[int | bool | str, str] = field(repr=False)

    @classmethod
    def of(cls, model: Model, bounds: Mapping[str, Mapping[str, Any]]) -> Served:
        """Prepare a model for serving; takes some ten milliseconds, so not on the event loop.

        Args:
            model: what `monitorkit.model.load` returned.
            bounds: `config.bounds()`.

        Raises:
            SchemaError: the bounds name a feature that the model does not read, or make one
                nullable in which it cannot take a missing value.
        """
        schema = model.card.schema.with_bounds(bounds)
        for feature in schema.features:
            if feature.nullable and feature.name not in model.accepts_missing:
                raise SchemaError(
                    feature.name,
                    f"[schema] makes it nullable, and {model.card.title()} takes no missing value",
                    "Remove `nullable` there, or train with an imputer.",
                )
        request = request_model(schema)
        return cls(
            model,
            schema,
            request,
            TypeAdapter(request),
            json.dumps(model.card.version),
            {label: json.dumps(label) for label in model.card.classes},
        )

    def read_row(self, body: bytes | bytearray) -> Values:
        """Read and validate one row, straight from its bytes.

        Raises:
            Problem: 400 for what is no JSON, 422 for what is no valid row.
        """
        try:
            return list(self._row.validator.validate_json(body).__dict__.values())
        except ValidationError as error:
            raise problems.invalid(error, fields.known_fields(self.schema), body) from None

    def read_rows(self, body: bytes | bytearray, limit: int) -> list[Values]:
        """Read and validate a JSON array of rows.

        Row by row in Python, not in one call into pydantic-core: that would hold the interpreter
        for 25 ms with 10,000 rows, where this lets the event loop in between when run in a thread.

        Raises:
            Problem: 400 for what is no JSON, 413 for too many rows, 422 for what is no array of
                valid rows.
        """
        try:
            rows = from_json(body)
        except ValueError as error:
            raise problems.not_json(str(error), body) from None
        if not isinstance(rows, list):
            raise problems.not_an_array()
        if len(rows) > limit:
            raise problems.too_many_rows(len(rows), limit)
        known = fields.known_fields(self.schema)
        validate = self._row.validator.validate_python
        accepted = []
        wrong: list[fields.FieldError] = []
        count = 0
        for index, row in enumerate(rows):
            try:
                accepted.append(list(validate(row).__dict__.values()))
            except ValidationError as error:
                count += error.error_count()
                if len(wrong) < SHOWN_ERRORS:
                    wrong += fields.field_errors(error, known, row=index)
        if count:
            raise problems.invalid_fields(wrong[:SHOWN_ERRORS], count)
        return accepted

    def encode(self, prediction: Prediction) -> str:
        """The JSON of one answer. Ids and timestamps are ours and need no escaping."""
        return (
            f'{{"prediction_id":"{prediction.prediction_id}","timestamp":"{prediction.timestamp}",'
            f'"model_version":{self._version},"prediction":{self._labels[prediction.prediction]},'
            f'"probability":{prediction.probability!r}}}'
        )


class Slot:
    """Holds what is served now; the reloader swaps it, and no answer mixes two models."""

    def __init__(self, current: Served | None = None) -> None:
        self.current = current


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


def matrix(rows: Sequence[Values]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Rows as the model reads them: (rows, features) float64, NaN where missing."""
    return np.array(rows, dtype=np.float64)
