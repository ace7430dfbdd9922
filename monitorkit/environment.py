"""Environment variables as the configuration table that they override."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from monitorkit.errors import ConfigError

PREFIX = "MONITORKIT_"
_DELIMITER = "__"

KEY_VARIABLE = "MONITORKIT_KEY"
"""Holds the API key that `simulate` and `status` send; no key of the configuration."""

KEY_PREFIX = "mk_"
"""Of API keys that are made here: tells what it is where one is found lying about."""

_OF_A_SERVICE = re.compile(
    PREFIX + r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes puts into pods beside a Service called monitorkit, and an address as PORT."""

_FREE = object()
"""The type of a key below a table that takes any key."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the environment says.

    Attributes:
        table: as TOML would give it; the values of single keys are text.
        variables: by key, the variable that set it.
    """

    table: Mapping[str, Any]
    variables: Mapping[tuple[str, ...], str]

    def variable_of(self, key: tuple[int | str, ...]) -> str | None:
        """The variable that set a key, or a table around it, or something in it, if one did."""
        parts = tuple(str(part) for part in key)
        for length in range(len(parts), 0, -1):
            variable = self.variables.get(parts[:length])
            if variable is not None:
                return variable
        inside = (name for set_, name in self.variables.items() if set_[: len(parts)] == parts)
        return next(inside, None)


def name_of(*key: str) -> str:
    """The variable that sets a key."""
    return PREFIX + _DELIMITER.join(key).upper()


def read(model: type[BaseModel]) -> Overrides:
    """Read all variables of ours: `MONITORKIT_SERVING__PORT` is the key `serving.port`.

    Tables and lists are written as JSON. Case does not matter, except in the names of features in
    `MONITORKIT_SCHEMA__MonthlyIncome__MINIMUM` and in arguments of one
    letter, as in `MONITORKIT_TRAINING__LOGISTIC_REGRESSION__C`.

    Args:
        model: says which keys are tables and lists.

    Raises:
        ConfigError: naming a variable that contradicts another, or is no JSON.
    """
    table: dict[str, Any] = {}
    variables: dict[tuple[str, ...], str] = {}
    for variable in sorted(os.environ, key=lambda name: (name.count(_DELIMITER), name)):
        if not variable.upper().startswith(PREFIX) or _is_of_others(variable):
            continue
        key = _key(variable)
        inner = table
        for part in key[:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(variable, (f"`{part}` has no keys of its own",))
        inner[key[-1]] = _value(variable, os.environ[variable], _type_of(model, key))
        variables[key] = variable
    return Overrides(table, variables)


def may_be_key(text: str) -> bool:
    """Whether a text can be an API key, and stand in a header: plain signs without spaces."""
    return text.isascii() and text.isprintable() and " " not in text


def _is_of_others(variable: str) -> bool:
    """Whether a variable that begins as ours do is no key of the configuration."""
    if variable == f"{PREFIX}PORT":
        return "://" in os.environ[variable]
    return variable == KEY_VARIABLE or _OF_A_SERVICE.fullmatch(variable) is not None


def _key(variable: str) -> tuple[str, ...]:
    first, *rest = variable[len(PREFIX) :].split(_DELIMITER)
    section = first.lower()
    if section == "schema" and len(rest) > 1:
        return section, _DELIMITER.join(rest[:-1]), rest[-1].lower()
    if section == "schema":
        return section, *rest
    if section == "training" and len(rest) == 2 and len(rest[1]) == 1:  # noqa: PLR2004 - a table and its key
        # The arguments of estimators are in lower case, but for single letters: `C`.
        return section, rest[0].lower(), rest[1]
    return section, *(part.lower() for part in rest)


def _value(variable: str, text: str, type_: Any) -> Any:
    """Text, which the model reads as what it needs; JSON where it needs more than a word."""
    if type_ is _FREE:
        try:
            return json.loads(text)
        except ValueError:
            return text
    if not _is_structured(type_):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        problem = f'is not JSON: {error}. Write a list as ["a", "b"], a table as {{"key": 1}}'
        raise ConfigError(variable, (problem,)) from error


def _type_of(model: type[BaseModel], key: tuple[str, ...]) -> Any:
    """The annotation of a key; None for one that there is not."""
    type_: Any = model
    for part in key:
        if isinstance(type_, type) and issubclass(type_, BaseModel):
            fields = type_.model_fields.items()
            type_ = next((f.annotation for name, f in fields if part == (f.alias or name)), None)
        elif get_origin(type_) is dict:
            type_ = get_args(type_)[1]
            type_ = _FREE if type_ is Any else type_
        else:
            return None
    return type_


def _is_structured(type_: Any) -> bool:
    is_table = isinstance(type_, type) and issubclass(type_, BaseModel)
    return is_table or get_origin(type_) in (dict, tuple)
