"""The feature schema: names, types and bounds, and the pydantic request model made from them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, create_model
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from monitorkit.errors import SchemaError

SCHEMA_VERSION = 1

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that a request may hold: trees compute in float32, and refuse a larger one;
linear models answer NaN when a sum of them overflows."""

FeatureType = Literal["integer", "number"]


RESERVED = ("prediction_id", "timestamp", "model_version", "prediction", "probability")
"""What the columns of the prediction log before the features are called."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column that the model reads.

    `minimum` and `maximum` are inclusive; None means unbounded. A nullable feature may be missing.
    """

    name: str
    type: FeatureType = "number"
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be served or logged.

        Raises:
            SchemaError: for an empty, unprintable or reserved name, an unknown type, wrong bounds.
        """
        if not self.name or not self.name.isprintable():
            raise SchemaError(self.name, "the name is empty or not printable", "Rename the column.")
        if self.name in RESERVED:
            problem = "the prediction log has a column of this name, which is no feature"
            raise SchemaError(self.name, problem, "Rename the column.")
        if self.type not in get_args(FeatureType):
            raise SchemaError(
                self.name,
                f"type {self.type!r} is unknown",
                f"Use one of {', '.join(get_args(FeatureType))}.",
            )
        for bound in (self.minimum, self.maximum):
            if bound is not None and not math.isfinite(bound):
                raise SchemaError(
                    self.name, f"a bound is {bound}", "Leave a bound out where there is none."
                )
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise SchemaError(
                self.name,
                f"minimum {self.minimum:g} is above maximum {self.maximum:g}",
                "Swap or correct them.",
            )

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that is taken."""
        return (
            -LARGEST if self.minimum is None else max(self.minimum, -LARGEST),
            LARGEST if self.maximum is None else min(self.maximum, LARGEST),
        )


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """The model's columns, in the order in which the model reads them."""

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        """Refuse an empty schema and a name that stands for two columns.

        Raises:
            SchemaError: for no features, or a name given twice.
        """
        if not self.features:
            raise SchemaError("(none)", "the model reads no features", "Log it with its columns.")
        for name, count in Counter(self.names).items():
            if count > 1:
                raise SchemaError(name, "two columns have this name", "Rename one of them.")

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in model order."""
        return tuple(feature.name for feature in self.features)

    @property
    def spellings(self) -> dict[str, tuple[str, ...]]:
        """By column, what requests may call it; its own name comes first."""
        return spellings(self.names)

    def with_bounds(self, overrides: Mapping[str, Mapping[str, Any]]) -> FeatureSchema:
        """Return this schema with some features' fields replaced (the `[schema]` table).

        Raises:
            SchemaError: when an override names a feature that the model does not read.
        """
        for name in overrides:
            if name not in self.names:
                raise SchemaError(
                    name,
                    "the model does not read it",
                    f"[schema] may name: {', '.join(self.names)}.",
                )
        return FeatureSchema(
            tuple(
                replace(feature, **overrides[feature.name])
                if feature.name in overrides
                else feature
                for feature in self.features
            )
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe form; `from_json` reads it back."""
        return {
            "schema_version": SCHEMA_VERSION,
            "features": [asdict(feature) for feature in self.features],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FeatureSchema:
        """Read what `to_json` wrote.

        Raises:
            SchemaError: for another schema_version.
        """
        if value.get("schema_version") != SCHEMA_VERSION:
            raise SchemaError(
                "(all)",
                f"schema_version {value.get('schema_version')!r} is not {SCHEMA_VERSION}",
                "It was written by another version of monitorkit.",
            )
        return cls(tuple(Feature(**feature) for feature in value["features"]))


def spellings(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By column, the spellings that may stand for it: its own, and one with underscores.

    Clients in languages where `-` cannot be in a name send `NumberOfTime30_59...`. A spelling that
    two columns would share, as `x<1` and `x>1` do, stands for neither.

    Args:
        names: of all columns.
    """
    underscored = {name: re.sub(r"[^0-9A-Za-z_]", "_", name) for name in names}
    owners = Counter([*underscored, *(s for name, s in underscored.items() if s != name)])
    return {
        name: (name, second) if second != name and owners[second] == 1 else (name,)
        for name, second in underscored.items()
    }


def infer(columns: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> FeatureSchema:
    """Read types and nullability off training data; bounds are for people to state.

    Args:
        columns: one float array per column, NaN where missing, in model order.
    """
    features = []
    for name, values in columns.items():
        numbers = np.asarray(values, dtype=np.float64)
        present = numbers[~np.isnan(numbers)]
        finite = len(present) > 0 and bool(np.isfinite(present).all())
        whole = finite and _are_whole(present)
        features.append(
            Feature(name, "integer" if whole else "number", nullable=len(present) < len(numbers))
        )
    return FeatureSchema(tuple(features))


class Row(BaseModel):
    """Base of every request model: unknown fields are refused, nothing is coerced from text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def request_model(schema: FeatureSchema) -> type[Row]:
    """Make the pydantic model that validates one row.

    Values are floats (the model computes in float64); an integer feature takes `47` and `47.0`,
    not `47.5`. `tuple(row.__dict__.values())` is in schema order. A nullable feature may be null
    or left out.
    """
    fields: dict[str, Any] = {}
    known = schema.spellings
    for position, feature in enumerate(schema.features):
        names = known[feature.name]
        lowest, highest = feature.range
        number: Any = Annotated[float, Field(ge=lowest, le=highest)]
        extra = None
        if feature.type == "integer":
            # Not `multiple_of=1`, which takes 47.0000000001 for 47.
            number, extra = Annotated[number, AfterValidator(_whole)], _as_integer
        fields[f"f{position}"] = (
            number | None if feature.nullable else number,
            Field(
                default=None if feature.nullable else ...,
                validation_alias=AliasChoices(*names) if len(names) > 1 else names[0],
                serialization_alias=feature.name,
                title=feature.name,
                json_schema_extra=extra,
            ),
        )
    return create_model("PredictionRequest", __base__=Row, **fields)


def table_validator(schema: FeatureSchema) -> SchemaValidator:
    """Validates arrays of rows as `request_model` does each, but for whole numbers.

    A row becomes `((), values)`, the arguments of no function, by field in schema order. That takes
    half of the time: it is without an object, and without a call into Python for each integer (see
    `integers_are_whole`).
    """
    fields = []
    known = schema.spellings
    for position, feature in enumerate(schema.features):
        lowest, highest = feature.range
        paths: list[list[str | int]] = [[name] for name in known[feature.name]]
        value: CoreSchema = core_schema.float_schema(
            ge=lowest, le=highest, allow_inf_nan=False, strict=True
        )
        if feature.nullable:
            value = core_schema.with_default_schema(
                core_schema.nullable_schema(value), default=None
            )
        fields.append(
            core_schema.arguments_parameter(f"f{position}", value, mode="keyword_only", alias=paths)
        )
    row = core_schema.arguments_schema(fields)
    return SchemaValidator(core_schema.list_schema(row, strict=True))


def integers_are_whole(schema: FeatureSchema, table: NDArray[np.float64]) -> bool:
    """Whether the integer features of some rows are whole numbers, or missing.

    Args:
        schema: of the rows.
        table: (rows, features) finite numbers, NaN where missing.
    """
    integers = [feature.type == "integer" for feature in schema.features]
    found = table[:, integers]
    return _are_whole(found[~np.isnan(found)])


def values(rows: Iterable[Row]) -> list[list[float | None]]:
    """The rows' values in schema order, None where missing."""
    return [list(row.__dict__.values()) for row in rows]


def _are_whole(numbers: NDArray[np.float64]) -> bool:
    return bool((np.floor(numbers) == numbers).all())


def _whole(value: float) -> float:
    if not value.is_integer():
        raise PydanticCustomError("whole_number", "must be a whole number")
    return value


def _as_integer(schema: dict[str, Any]) -> None:
    """OpenAPI says `integer`, which includes 47.0, where pydantic says `number`."""
    for part in (schema, *schema.get("anyOf", ())):
        if part.get("type") == "number":
            part["type"] = "integer"
