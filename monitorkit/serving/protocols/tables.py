"""Tables as other protocols send them, brought to the rows that `/predict` takes.

A table has its columns in any order, under any spelling that `/predict` takes. NaN and null are
missing values. A column that the model does not read is left out when every column that it does
read is there, as MLflow does; else it may be one of these, misspelled, and is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from monitorkit.schema import Feature, FeatureSchema
from monitorkit.serving import fields, problems
from monitorkit.serving.problems import Problem
from monitorkit.serving.served import Served, Values

SHOWN_NAMES = 10
_SHOWN_NAME = 100


def bad_request(detail: str) -> Problem:
    """400: what was sent is not what the protocol says."""
    return Problem("invalid-request", detail)


def read_rows(
    served: Served, names: Sequence[object], rows: Iterable[Sequence[Any]]
) -> list[Values]:
    """Validate rows whose columns are named once, for all of them.

    Args:
        served: whose row model decides.
        names: of the columns, as they were sent.
        rows: as many values each as there are names.

    Raises:
        Problem: 400 for the columns, 422 for everything that is wrong with the values.
    """
    return served.accept(_named(pick(served.schema, names), flags(served.schema), rows))


def read_records(served: Served, records: Iterable[Any]) -> list[Values]:
    """Validate rows that are objects with names of their own.

    Raises:
        Problem: 422 for everything that is wrong with them.
    """
    known = fields.known_fields(served.schema)
    own = [name for name, feature in known.items() if feature is not None and is_flag(feature)]
    width = len(served.schema.features)

    def cleaned() -> Iterator[Any]:
        for record in records:
            if not isinstance(record, dict):
                yield record
                continue
            named = {name: _present(value) for name, value in record.items() if name in known}
            if len(named) < len(record) and len(named) != width:
                named = {name: _present(value) for name, value in record.items()}
            yield _with_flags(named, own) if own else named

    return served.accept(cleaned())


def pick(schema: FeatureSchema, names: Sequence[object]) -> dict[str, int]:
    """Where the columns of a table are that the model reads.

    Args:
        schema: of the model.
        names: of the table's columns.

    Returns:
        Position by the feature's name; a nullable feature may have none.

    Raises:
        Problem: 400 for columns that are missing, given twice, or unknown while others are missing.
    """
    known = fields.known_fields(schema)
    found: dict[str, int] = {}
    unknown = []
    for position, name in enumerate(names):
        feature = known.get(name) if isinstance(name, str) else None
        if feature is None:
            unknown.append(name)
        elif feature.name in found:
            raise bad_request(f"Column {feature.name!r} is given twice; send it once.")
        else:
            found[feature.name] = position
    absent = [feature for feature in schema.features if feature.name not in found]
    required = [feature.name for feature in absent if not feature.nullable]
    if required or (absent and unknown):
        wrong = []
        if required:
            wrong.append(f"columns are missing: {_listed(required)}")
        if unknown:
            wrong.append(f"columns are unknown: {_listed(unknown)}{_hint(unknown, absent)}")
        if unknown and not required:
            wrong.append(
                "unknown ones are left out only when all that the model reads are there, and it "
                f"also reads {_listed([feature.name for feature in absent])}"
            )
        text = "; ".join(wrong)
        raise bad_request(f"{text[0].upper()}{text[1:]}.")
    return found


def flags(schema: FeatureSchema) -> frozenset[str]:
    """The features that are true or false: whole numbers from 0 to 1."""
    return frozenset(feature.name for feature in schema.features if is_flag(feature))


def is_flag(feature: Feature) -> bool:
    """Whether a feature is true or false."""
    return (feature.type, feature.minimum, feature.maximum) == ("integer", 0, 1)


def check_count(rows: int, limit: int) -> None:
    """Refuse more rows than one request may have.

    Raises:
        Problem: 413.
    """
    if rows > limit:
        raise problems.too_many_rows(rows, limit)


def _named(
    positions: Mapping[str, int], own: frozenset[str], rows: Iterable[Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """Rows as objects."""
    items = list(positions.items())
    own &= positions.keys()
    for row in rows:
        # Not a number: the one value that is not itself.
        named = {
            name: value if (value := row[position]) == value else None for name, position in items
        }
        yield _with_flags(named, own) if own else named


def _present(value: Any) -> Any:
    return value if value == value else None  # noqa: PLR0124 - NaN is not itself


def _with_flags(row: dict[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """A row in which true is 1 and false 0, where that is what the model means."""
    for name in own:
        value = row.get(name)
        if isinstance(value, bool):
            row[name] = int(value)
    return row


def _listed(names: Sequence[object]) -> str:
    shown = ", ".join(repr(str(name)[:_SHOWN_NAME]) for name in names[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _hint(unknown: Sequence[object], absent: Sequence[Feature]) -> str:
    """What the first unknown column may have meant."""
    names = [feature.name for feature in absent]
    for name in unknown[:SHOWN_NAMES]:
        near = difflib.get_close_matches(str(name)[:_SHOWN_NAME], names, n=1)
        if near:
            return f" (did you mean {near[0]!r}?)"
    return ""
