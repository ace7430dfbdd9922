"""What of a monitor's judgement a result can hold, and whoever reads results can take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from monitorkit.contracts import Finding, Judgement

_NUMBER, _TEXT = (int, float, type(None)), (str, type(None))
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "measure": ((str,), "text"),
    "column": (_TEXT, "text"),
    "statistic": (_TEXT, "text"),
    "value": (_NUMBER, "number"),
    "p_value": (_NUMBER, "number"),
    "threshold": (_NUMBER, "number"),
    "interval": ((tuple, list, type(None)), "two numbers"),
    "drift": ((bool, type(None)), "true, false or None"),
    "since": ((datetime, type(None)), "time with a zone"),
    "detail": ((Mapping,), "mapping"),
}
_PAIR = [True, True]


def why_not(judgement: object) -> str | None:
    """What is wrong with a judgement; None: nothing."""
    if not isinstance(judgement, Judgement):
        return f"judge returned a {type(judgement).__name__}, not a Judgement"
    if not isinstance(judgement.findings, Sequence):
        return f"its findings are a {type(judgement.findings).__name__}, not a list"
    for finding in judgement.findings:
        if not isinstance(finding, Finding):
            return f"a finding is a {type(finding).__name__}, not a Finding"
        problem = _wrong_with(finding)
        if problem is not None:
            return f"finding {finding.measure!r} of column {finding.column!r} {problem}"
    for name, content in judgement.attachments.items():
        if not isinstance(content, bytes) or not _is_plain(name):
            return f"attachment {name!r} is not bytes under a plain file name"
    return None


def _is_plain(name: str) -> bool:
    """Whether a file may have such a name, in the folder where reports are."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and Path(name).name == name and name[0] != "." and "\0" not in name


def _wrong_with(finding: Finding) -> str | None:
    record = {name: getattr(finding, name) for name in _KINDS}
    for name, (kinds, what) in _KINDS.items():
        if not isinstance(record[name], kinds):
            return f"has no {what} as {name}: {record[name]!r}"
    interval, since = record["interval"], record.pop("since")
    if interval is not None and [isinstance(each, int | float) for each in interval] != _PAIR:
        return f"has no two numbers as interval: {interval!r}"
    if since is not None and since.utcoffset() is None:
        return f"has no time with a zone as since: {since!r}"
    try:
        json.dumps(record, allow_nan=False, default=_fields)
    except (TypeError, ValueError, RecursionError) as error:
        return f"is not JSON-safe: {error}"
    return None


def _fields(value: object) -> dict[str, Any]:
    """A dataclass inside of a finding as the result will have it."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"a {type(value).__name__} cannot stand in a result")
