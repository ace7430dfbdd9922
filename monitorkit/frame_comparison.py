"""`monitorkit.compare`: the monitors on two data frames, without a service, a registry or a log."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from monitorkit import comparison_html, judgements, plugin_manager
from monitorkit.contracts import SCORE_COLUMN, Bucket, Finding, Timeline
from monitorkit.errors import ConfigError, PluginError
from monitorkit.frames import Pair, paired
from monitorkit.histograms import is_histogram
from monitorkit.settings import MonitorEntry

MONITORS = ("anytime_drift", "psi")
"""What is asked when nothing else is said: neither alarms for a difference that is tiny."""

START = datetime(1970, 1, 1, tzinfo=UTC) + 28_000 * timedelta(minutes=1024)
"""When the rows of a frame came, which has no times: always the same, so that the same frames have
the same verdict, and at a start that may spend the most (`sequential.starts`)."""

STRETCHES = 6
"""A frame is so many, one after the other: what they have in common is no repetition. With two more
a monitor would take a frame that is sorted for bursts."""

_SINCE = re.compile(r"^drifted since [0-9: -]+ UTC")


@dataclass(frozen=True)
class Comparison:
    """What the monitors found in one frame against another.

    Attributes:
        rows, reference_rows: of the two frames.
        columns: what was compared, in the order of the reference; the score is `probability`.
        findings: by monitor's kind, as in a result of the service.
        skipped: columns that were not compared, with the reason.
    """

    rows: int
    reference_rows: int
    columns: tuple[str, ...]
    findings: Mapping[str, tuple[Finding, ...]]
    skipped: Mapping[str, str]
    _library: Any = field(repr=False, compare=False)

    @property
    def drifted(self) -> tuple[str, ...]:
        """The columns of which some monitor says drift."""
        return tuple(name for name in self.columns if self._verdict(name))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it: a number that is not finite is None, a time is ISO-8601."""
        return {
            "rows": self.rows,
            "reference_rows": self.reference_rows,
            "drifted": list(self.drifted),
            "columns": [self._column(name) for name in self.columns],
            "whole": self._column(None),  # what is said of no column alone
            "skipped": dict(self.skipped),
        }

    def to_frame(self) -> Any:
        """One row per finding, in a frame of the library that the reference frame is of."""
        import narwhals as nw  # noqa: PLC0415 - for those who compare frames

        numbers, texts = ("value", "threshold", "p_value"), ("column", "monitor", "measure")
        document = self.to_dict()
        entries = [*document["columns"], document["whole"]]
        found = [finding for entry in entries for finding in entry["findings"]]
        data = {
            **{key: [finding[key] for finding in found] for key in (*texts, *numbers)},
            "verdict": [finding["verdict"] for finding in found],
            "says": [finding["says"] for finding in found],
        }
        schema = {key: nw.Float64() if key in numbers else nw.String() for key in data}
        return nw.from_dict(data, schema, backend=self._library).to_native()

    def _column(self, name: str | None) -> dict[str, Any]:
        findings = [
            {
                "column": name,
                "monitor": monitor,
                "measure": finding.measure,
                "value": _finite(finding.value),
                "threshold": _finite(finding.threshold),
                "p_value": _finite(finding.p_value),
                "drift": finding.drift,
                "interval": None if finding.interval is None else [*map(_finite, finding.interval)],
                "statistic": finding.statistic,
                "verdict": finding.detail.get("verdict") or _in_words(finding.drift),
                "says": _said(finding),
            }
            for monitor, some in self.findings.items()
            for finding in some
            if finding.column == name
        ]
        return {
            "column": name,
            "drift": self._verdict(name),
            "verdict": _in_words(self._verdict(name)),
            "histogram": next(
                (
                    finding.detail["histogram"]
                    for some in self.findings.values()
                    for finding in some
                    if finding.column == name and is_histogram(finding.detail.get("histogram"))
                ),
                None,
            ),
            "findings": findings,
        }

    def _verdict(self, name: str | None) -> bool | None:
        """Drift when any monitor says so; None when none judges the column, or the whole."""
        verdicts = [
            finding.drift
            for some in self.findings.values()
            for finding in some
            if finding.column == name and finding.drift is not None
        ]
        return any(verdicts) if verdicts else None

    def _repr_html_(self) -> str:
        return comparison_html.page(self.to_dict())

    def __repr__(self) -> str:
        lines = [f"{self.rows:,} rows against {self.reference_rows:,} of the reference"]
        document = self.to_dict()
        entries = [*document["columns"], *comparison_html.judged_whole(document)]
        names = [entry["column"] for entry in entries]
        width = max(map(len, (*names, *self.skipped)), default=0)
        for column in entries:
            values = [
                f"{finding['measure']} {finding['value']:.3g}"
                for finding in column["findings"]
                if finding["value"] is not None
            ]
            told = f"{column['column']:<{width}}  {column['verdict']:<14}  {', '.join(values)}"
            lines.append(told.rstrip())
        lines += [f"{name:<{width}}  {'skipped':<14}  {why}" for name, why in self.skipped.items()]
        return "\n".join(lines)


def compare(
    reference: Any,
    current: Any,
    *,
    score: str | None = None,
    monitors: str | Sequence[str] | Mapping[str, Mapping[str, Any]] = MONITORS,
) -> Comparison:
    """Compare a data frame with a reference, by the monitors that the service uses.

    Rows count as independent, but for the same ones near each other, as a client's are that asks
    ten times: a frame that was put together of copies, or sampled with replacement, says too much.

    Args:
        reference: a data frame of pandas, polars or pyarrow: what is normal.
        current: another one, to be judged; only columns of the same names are compared.
        score: a column with the model's score, which is compared as `probability`.
        monitors: a kind or several (`monitorkit plugins` lists them), or options by kind as in
            TOML.

    Returns:
        What was found; a notebook shows it as a page, `print` as text.

    Raises:
        FrameError: one is no data frame in memory, is empty, or there is nothing to compare.
        ConfigError: there is no such monitor, or it has no such option.
        PluginError: an option names a column that there is not.
    """
    pair = paired(reference, current, score)
    if isinstance(monitors, str):  # a sequence of its letters, else
        monitors = [monitors]
    wanted = monitors if isinstance(monitors, Mapping) else {kind: {} for kind in monitors}
    known = plugin_manager.kinds(plugin_manager.build())
    findings = {}
    for kind, options in wanted.items():
        if not isinstance(options, Mapping):
            problem = f"the options of {kind!r} are no mapping; {{}} is one without any"
            raise ConfigError("monitors", (problem,))
        given = {**_defaults(known, kind, score), **options}
        entry = MonitorEntry(name="compare", use=kind, options=given)
        findings[kind] = _judged(known, entry, pair)
    names = (*pair.reference.columns, *([] if score is None else [SCORE_COLUMN]))
    return Comparison(
        rows=len(pair.current),
        reference_rows=len(pair.reference),
        columns=names,
        findings=findings,
        skipped=pair.skipped,
        _library=pair.library,
    )


def _defaults(known: Sequence[plugin_manager.Kind], kind: str, score: str | None) -> dict[str, Any]:
    """Without a score there is none to compare."""
    found = next((k for k in known if (k.type, k.kind) == ("monitor", kind)), None)
    takes_score = found is not None and "score" in found.cls.options_type.model_fields
    return {"score": False} if takes_score and score is None else {}


def _judged(
    known: Sequence[plugin_manager.Kind], entry: MonitorEntry, pair: Pair
) -> tuple[Finding, ...]:
    monitor = plugin_manager.make_monitor(known, entry, pair.reference)
    size = -(-len(pair.current) // STRETCHES)
    starts = range(0, len(pair.current), size)
    parts = [pair.current.take(slice(start, start + size)) for start in starts]
    second = timedelta(seconds=1)
    buckets = [
        Bucket(START + number * second, len(part), summary, second)
        for number, (part, summary) in enumerate(
            zip(parts, monitor.summarise_each(parts), strict=True)
        )
    ]
    timeline = Timeline(buckets, START + timedelta(minutes=1), monitor.merge)
    judgement = monitor.judge(timeline, ())
    if (problem := judgements.why_not(judgement)) is not None:
        raise PluginError(entry.use, problem)
    return tuple(judgement.findings)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _said(finding: Finding) -> str:
    """The finding in a sentence; rows of a frame have no times, so there is no `since`."""
    says = finding.detail.get("says") or finding.detail.get("reason") or ""
    return _SINCE.sub("drifted", str(says))


def _in_words(drift: bool | None) -> str:
    return {True: "drift", False: "no drift found", None: "not judged"}[drift]
