"""Wrong fields in words that a client understands, made from what pydantic found."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import ValidationError

from monitorkit.contracts import Json
from monitorkit.schema import Feature, FeatureSchema

SHOWN_ERRORS = 100
_SHOWN_INPUT = 100
_HINTED_NAME = 100
_MOST_HINTS = 3
_MOST_COMPARED = 2500
"""Characters of names that hints are looked for in: it takes up to 2 ms, on the event loop."""

Known = Mapping[str, Feature | None]
"""The fields that a request may have, by every accepted spelling."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field.

    Attributes:
        field: as the client spells it; None: the row as a whole, or the body.
        message: what is wrong with it.
        input: what was given, when it is short enough to repeat.
        row: index in a batch.
    """

    field: str | None
    message: str
    input: Json = None
    row: int | None = None


def known_fields(schema: FeatureSchema) -> Known:
    """The features by each of their spellings."""
    taken = schema.spellings
    return {spelling: feature for feature in schema.features for spelling in taken[feature.name]}


def trimmed(row: Any, known: Known) -> tuple[Any, int]:
    """An object without entries that nobody would be told of, and how many these are.

    pydantic makes an error of each that is unknown, which takes seconds for a hundred thousand.
    What is left of such an object has unknown ones still.
    """
    most = len(known) + SHOWN_ERRORS
    if not isinstance(row, dict) or len(row) <= most:
        return row, 0
    return dict(islice(row.items(), most)), len(row) - most


def field_errors(error: ValidationError, known: Known, row: int | None = None) -> list[FieldError]:
    """The wrong fields of one object in words, under the name that the client used.

    At most `SHOWN_ERRORS`: a body of a hundred thousand unknown fields must cost nobody seconds.
    """
    found = []
    hints = min(_MOST_HINTS, _MOST_COMPARED // (1 + sum(map(len, known))))
    for part in error.errors(include_url=False)[:SHOWN_ERRORS]:
        name = str(part["loc"][0]) if part["loc"] else None
        feature = known.get(name) if name is not None else None
        message = _message(part, name, feature)
        if part["type"] == "extra_forbidden" and feature is None and hints:
            hints -= 1
            message += _hint(str(name)[:_HINTED_NAME], known)
        shown = None if part["type"] == "missing" else _shown(part["input"])
        found.append(FieldError(name, message, shown, row))
    return found


def _hint(name: str, known: Known) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _message(  # noqa: C901, PLR0911 - a table of words
    part: Any, name: str | None, feature: Feature | None
) -> str:
    context = part.get("ctx", {})
    match part["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden" if feature is not None:
            return f"given twice: as {feature.name!r} and as {name!r}; send one of them"
        case "extra_forbidden":
            return "is unknown"
        case "model_type" | "model_attributes_type":
            return "must be an object"
        case "bool_type":
            return "must be true or false"
        case "float_type" if part["input"] is None:
            return "must be a number, not null; the model has learned no missing values here"
        case "float_type" | "float_parsing":
            nullable = feature is not None and feature.nullable
            return "must be a number or null" if nullable else "must be a number"
        case "finite_number":
            missing = "; null means missing" if feature is not None and feature.nullable else ""
            return f"must be a finite number (NaN and Infinity are not JSON{missing})"
        case "whole_number":
            return "must be a whole number"
        case "greater_than_equal":
            return f"must be at least {_number(context['ge'])}"
        case "less_than_equal":
            return f"must be at most {_number(context['le'])}"
    return str(part["msg"])


def _number(value: float) -> str:
    if abs(value) >= 1e16:  # noqa: PLR2004 - from here on a float is written with an exponent
        return f"{value:.4g}"
    return str(int(value)) if float(value).is_integer() else repr(value)


def _shown(value: object) -> Json:
    """The input, when it is a plain value and short."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return value if len(value) <= _SHOWN_INPUT else value[:_SHOWN_INPUT] + "…"
    if isinstance(value, int) and value.bit_length() > 1024:  # noqa: PLR2004 - beyond a float
        return None
    return value if isinstance(value, int | float) else None
