"""The rows of a simulation: drawn from a data set, shifted, and fitted to what a model takes."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from monitorkit.errors import ConfigError
from monitorkit.schema import Feature, FeatureSchema, spellings

Operation = Literal["=", ":=", "+="]
Row = dict[str, int | float | None]


@dataclass(frozen=True, slots=True)
class Shift:
    """What is done to one feature of every row.

    Attributes:
        feature: its name, or what the user called it.
        operation: `=` multiplies, `:=` sets (missing values too), `+=` adds.
        number: by, to or of what.
    """

    feature: str
    operation: Operation
    number: float

    def __str__(self) -> str:
        return f"{self.feature}{self.operation}{self.number:g}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows to send.

    Attributes:
        rows: JSON objects, in the order in which they are sent.
        shifts: with the features' full names.
        clipped: by feature, how many values were beyond the bounds of the schema.
        repeated: how many rows stand in the plan before the same one.
    """

    rows: Sequence[Row]
    shifts: Sequence[Shift]
    clipped: Mapping[str, int]
    repeated: int


def parse_shift(text: str) -> Shift:
    """Read `NAME=0.8` (multiply), `NAME:=1.0` (set) or `NAME+=500` (add).

    Raises:
        ConfigError: when it is none of them.
    """
    match = re.fullmatch(r"\s*(.*?[^\s:+*/=-])\s*(:=|\+=|=)\s*(.+?)\s*", text)
    try:
        number = float(match[3]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number):
        problem = f"{text!r}: write NAME=0.8 to multiply, NAME:=1.0 to set, NAME+=500 to add"
        raise ConfigError("--shift", (problem,))
    return Shift(match[1], cast("Operation", match[2]), number)


def resolve(name: str, known: Sequence[str]) -> str:
    """The feature that is meant: its name, a part of it, or a near miss; case does not matter.

    Args:
        name: such as `income` for MonthlyIncome, or `utilisation` for one spelled with a z.
        known: the model's features.

    Raises:
        ConfigError: none is meant, or more than one.
    """
    wanted = _folded(name)
    folded = {feature: _folded(feature) for feature in known}
    spelled = spellings(known)
    ways: Sequence[Callable[[str], bool]] = (
        lambda feature: name in spelled[feature],
        lambda feature: name.casefold() == feature.casefold(),
        lambda feature: folded[feature] == wanted,
        lambda feature: folded[feature].startswith(wanted),
        lambda feature: wanted in folded[feature],
        lambda feature: _is_near(wanted, feature),
    )
    for means in ways if wanted else ways[:2]:  # nothing is left of a name in another script
        found = [feature for feature in known if means(feature)]
        if len(found) == 1:
            return found[0]
        if found:
            problem = f"{name!r} may be {', '.join(found)}; write more of the name"
            raise ConfigError("--shift", (problem,))
    problem = f"the model reads no feature like {name!r}; it reads {', '.join(known)}"
    raise ConfigError("--shift", (problem,))


def plan(
    features: NDArray[np.float64],
    schema: FeatureSchema,
    *,
    rows: int,
    shifts: Sequence[Shift] = (),
    seed: int = 0,
) -> Plan:
    """Draw rows without repetition as long as there are any, shift them, and fit them to a schema.

    Args:
        features: (all rows, columns) float64 in schema order, NaN where missing.
        schema: what the service takes: whole numbers are rounded, values out of bounds clipped.
        rows: how many to draw.
        shifts: with full names, applied in order.
        seed: the same one draws the same rows.
    """
    random = np.random.default_rng(seed)
    rounds = -(-rows // len(features))
    order = np.concatenate([random.permutation(len(features)) for _ in range(rounds)])[:rows]
    drawn = features[order]
    for shift in shifts:
        column = schema.names.index(shift.feature)
        with np.errstate(over="ignore"):  # infinities are clipped below
            if shift.operation == "=":
                drawn[:, column] *= shift.number
            elif shift.operation == "+=":
                drawn[:, column] += shift.number
            else:
                drawn[:, column] = shift.number
    clipped: dict[str, int] = {}
    columns: list[list[int | float | None]] = []
    for index, feature in enumerate(schema.features):
        values, count = _fitted(drawn[:, index], feature)
        if count:
            clipped[feature.name] = count
        columns.append(values)
    objects = [dict(zip(schema.names, row, strict=True)) for row in zip(*columns, strict=True)]
    return Plan(objects, tuple(shifts), clipped, max(0, rows - len(features)))


def _folded(name: str) -> str:
    """Letters and digits without case or accents; s and z are one letter, as in utilisation."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in plain if letter.isalnum()).replace("z", "s")


def _is_near(wanted: str, feature: str) -> bool:
    """Whether a feature, or one of the words that its name is made of, is nearly that.

    In scripts whose words are a sign or two, one that differs makes another word.
    """
    if not wanted.isascii():
        return False
    words = re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|[0-9]+", feature)
    names = [_folded(word) for word in (feature, *words)]
    return bool(difflib.get_close_matches(wanted, names, n=1, cutoff=0.8))


def _fitted(values: NDArray[np.float64], feature: Feature) -> tuple[list[int | float | None], int]:
    """One column as the service takes it, and how many of its values had to be clipped."""
    whole = feature.type == "integer"
    rounded = np.rint(values) if whole else values
    low, high = feature.range
    if whole:  # the bounds may lie between whole numbers
        low, high = np.ceil(low), np.floor(high)
    fitted = np.clip(rounded, low, high)
    clipped = int(np.count_nonzero(~np.isnan(rounded) & (fitted != rounded)))
    plain: list[Any] = [
        None if math.isnan(value) else int(value) if whole else value for value in fitted.tolist()
    ]
    return plain, clipped
