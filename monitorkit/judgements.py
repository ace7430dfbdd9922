"""What of a monitor's judgement a result can hold, and whoever reads results can take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from monitorkit.contracts import Finding, Judgement


def why_not(judgement: object) -> str | None:
    """What is wrong with a judgement; None: nothing."""
    if not isinstance(judgement, Judgement):
        return f"judge returned a {type(judgement).__name__}, not a Judgement"
    for finding in judgement.findings:
        if not isinstance(finding, Finding):
            return f"a finding is a {type(finding).__name__}, not a Finding"
        problem = _wrong_with(finding)
        if problem is not None:
            return f"finding {finding.measure!r} of column {finding.column!r} {problem}"
    for name, content in judgement.attachments.items():
        if not isinstance(content, bytes) or Path(name).name != name or name.startswith("."):
            return f"attachment {name!r} is not bytes under a plain file name"
    return None


def _wrong_with(finding: Finding) -> str | None:
    record = asdict(finding)
    since = record.pop("since")
    for name, value, check, what in (
        ("measure", finding.measure, _is_text, "text"),
        ("column", finding.column, _is_text_or_none, "text"),
        ("statistic", finding.statistic, _is_text_or_none, "text"),
        ("value", finding.value, _is_number, "number"),
        ("p_value", finding.p_value, _is_number, "number"),
        ("threshold", finding.threshold, _is_number, "number"),
        ("interval", finding.interval, _is_pair, "two numbers"),
        ("drift", finding.drift, _is_verdict, "true, false or None"),
        ("since", since, _is_moment, "time with a zone"),
        ("detail", finding.detail, _is_mapping, "mapping"),
    ):
        if not check(value):
            return f"has no {what} as {name}: {value!r}"
    try:
        json.dumps(record, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"is not JSON-safe: {error}"
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def _is_pair(value: object) -> bool:
    if value is None:
        return True
    numbers = value if isinstance(value, tuple | list) else ()
    return len(numbers) == 2 and all(isinstance(each, int | float) for each in numbers)  # noqa: PLR2004


def _is_verdict(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_moment(value: object) -> bool:
    return value is None or (isinstance(value, datetime) and value.utcoffset() is not None)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)
