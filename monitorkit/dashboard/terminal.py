"""`status`: what the dashboard says at a glance, for a terminal or as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitorkit import client, tables
from monitorkit.config import Config
from monitorkit.contracts import CycleNote
from monitorkit.dashboard import glance, timeline
from monitorkit.dashboard.columns import Column, columns
from monitorkit.dashboard.formats import NOTHING, day_and_time, number, share
from monitorkit.dashboard.glance import Sentence
from monitorkit.dashboard.index import RECENT, History, Index
from monitorkit.dashboard.outlines import Number
from monitorkit.results import Results
from monitorkit.units import several

SCHEMA_VERSION = 1
TIMEOUT = 5.0
SECONDS = 0.5
"""For results older than the newest `RECENT`."""

CELLS = 24
"""Cycles in a sparkline of the table."""

_STYLES = {"good": "green", "warn": "yellow", "bad": "red", "quiet": "dim"}
_VERDICTS = {"drifted": "red", "undecided": "dim", "left out": "dim", "not judged": "dim"}
_BARS = "▁▂▃▄▅▆▇█"
_NOTE: TypeAdapter[CycleNote | None] = TypeAdapter(CycleNote | None)
_FOREIGN = "what answers there is not monitorkit"

Told = Sequence[tuple[str, Sentence]]
"""What each sentence is about, and the sentence."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a service says of itself.

    Attributes:
        url: where it was asked.
        health: its answer; None: it gave none that is monitorkit's.
        reason: why not.
    """

    url: str
    health: Mapping[str, Any] | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to say.

    Attributes:
        service: whether one answers, and what.
        history: what the results on this disk come to.
        sentences: what each of them is about, and the sentence.
        found: the columns of the newest result, in the order in which people want to know them.
    """

    service: Service
    history: History
    sentences: Told
    found: Sequence[Column]

    @property
    def answers(self) -> bool:
        """Whether a service does."""
        return self.service.health is not None


def run(config: Config, url: str | None = None) -> Status:
    """Ask the service, read the results, and print what both come to.

    Args:
        config: says where the service listens and where results are.
        url: of the service; None: as the configuration has it.
    """
    status = look(config, url)
    show(status, tables.stdout())
    return status


def look(config: Config, url: str | None = None) -> Status:
    """The same, printing nothing."""
    service = ask((url or client.address(config)).rstrip("/"))
    index = Index(Results(config.storage.results))
    history = index.read_on(SECONDS, at_least=RECENT) or History()
    found = columns(history.latest) if history.latest is not None else []
    drift = glance.drifting(history.latest, found)
    if service.health is not None:
        try:
            return Status(service, history, _running(service.health, history, drift), found)
        except (KeyError, TypeError, ValidationError):
            service = Service(service.url, None, _FOREIGN)
    nobody = Sentence("bad", "Not running", [f"{service.url}: {service.reason}"])
    return Status(service, history, [("Serving", nobody), ("Drift", drift)], found)


def ask(url: str) -> Service:
    """What the service at an address says at /health."""
    try:
        with httpx.Client(timeout=TIMEOUT, **client.options(url)) as session:
            return Service(url, session.get(f"{url}/health").json())
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Service(url, None, str(error) or type(error).__name__)
    except ValueError:
        return Service(url, None, _FOREIGN)


def _running(health: Mapping[str, Any], history: History, drift: Sentence) -> Told:
    """What a service says, beside the drift.

    Raises:
        KeyError, TypeError, ValidationError: it is not monitorkit.
    """
    measures = history.outlines[0].measures if history.outlines else {}
    note = _NOTE.validate_python(health["last_cycle"])
    return [
        ("Serving", glance.serving(health)),
        ("Drift", drift),
        ("Predictions", glance.predictions(health, measures)),
        ("Monitoring", glance.watching(note)),
    ]


def show(status: Status, console: Console) -> None:
    """Print it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for about, sentence in status.sentences:
        notes = [*sentence.notes]
        if sentence.since is not None:
            notes.insert(0, f"since {day_and_time(sentence.since)} UTC")
        table.add_row(
            Text(sentence.mark, _STYLES[sentence.tone]),
            Text(about, "bold"),
            Text(sentence.text),
            Text("; ".join(notes), "dim"),
        )
    console.print(table)
    if status.found:
        console.print(_columns(status))
    for line in _cycles(status.history):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _columns(status: Status) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("column", overflow="fold")
    table.add_column("verdict")
    for heading in ("distance", "interval", "limit"):
        table.add_column(heading, justify="right")
    recent = [numbers for _, numbers in reversed(status.history.recent[:CELLS])]
    table.add_column(f"last {several(len(recent), 'cycle')}")
    table.add_column("missing", justify="right")
    table.add_column("since (UTC)")
    for column in status.found:
        distance = column.distance
        limit = distance.threshold if distance is not None else None
        trend = sparkline([_value(each.distances.get(column.name)) for each in recent], limit)
        table.add_row(
            Text(column.name),
            Text(column.verdict, _VERDICTS.get(column.verdict, "")),
            NOTHING if distance is None else number(distance.value),
            _interval(distance),
            number(limit),
            trend,
            NOTHING if column.missing is None else share(column.missing.value),
            day_and_time(column.since) if column.since else NOTHING,
        )
    return table


def sparkline(values: Sequence[float | None], limit: float | None = None) -> str:
    """Numbers from 0 up as bars of eight heights; the highest of them is as high as a bar can be.

    Args:
        values: oldest first; None: a gap.
        limit: when nothing is higher, the top of the bars is twice this, so that small numbers
            look small.
    """
    there = [value for value in values if value is not None and math.isfinite(value)]
    top = max([*there, 2 * (limit or 0.0)], default=0.0)
    if top <= 0:
        return "".join(_BARS[0] if value is not None else " " for value in values)
    return "".join(
        _BARS[min(int(max(value, 0.0) / top * len(_BARS)), len(_BARS) - 1)]
        if value is not None and math.isfinite(value)
        else " "
        for value in values
    )


def _cycles(history: History) -> list[str]:
    if not history.outlines:
        return ["No result yet: `python -m monitorkit monitor --once` makes one."]
    newest = history.outlines[0]
    shown = list(reversed(history.outlines[:RECENT]))
    hours = sparkline([_value(outline.measures.get("predictions_1h")) for outline in shown])
    lines = [
        f"{several(history.total, 'result')}; the last {len(shown)}: {timeline.tally(shown)}.",
        f"The newest: {newest.run_id}, {several(newest.rows, 'row')} of model {newest.version}.",
    ]
    if hours.strip():
        lines.append(f"Predictions in an hour, last {several(len(shown), 'cycle')}: {hours}")
    for name, reason in newest.troubled.items():
        lines.append(f"Monitor {name}: {reason}")
    return lines


def _value(found: Number | None) -> float | None:
    return None if found is None else found.value


def _interval(distance: Number | None) -> str:
    if distance is None or distance.low is None or distance.high is None:
        return NOTHING
    return f"{number(distance.low)} to {number(distance.high)}"


def document(status: Status) -> dict[str, Any]:
    """It as JSON has it."""
    latest = status.history.latest
    drift = latest.drift if latest is not None else None
    return {
        "schema_version": SCHEMA_VERSION,
        "at": datetime.now(UTC),
        "service": {
            "url": status.service.url,
            "answers": status.answers,
            "reason": status.service.reason,
            "health": status.service.health,
        },
        "summary": {
            about.lower(): {
                "tone": sentence.tone,
                "text": sentence.text,
                "notes": list(sentence.notes),
                "since": sentence.since,
            }
            for about, sentence in status.sentences
        },
        "drift": None
        if drift is None or latest is None
        else {"run_id": latest.run_id, "finished_at": latest.finished_at, **asdict(drift)},
        "columns": [
            {
                "name": column.name,
                "verdict": column.verdict,
                "since": column.since,
                "says": list(column.says),
                "measure": column.measure,
                "distance": None if column.distance is None else asdict(column.distance),
                "missing": None if column.missing is None else column.missing.value,
                "rows": column.rows,
                "rows_needed": column.rows_needed,
            }
            for column in status.found
        ],
        "results": {
            "total": status.history.total,
            "recent": [
                {
                    "run_id": outline.run_id,
                    "finished_at": outline.finished_at,
                    "state": outline.state,
                    "rows": outline.rows,
                    "model_version": outline.version,
                    "drifted": list(outline.drifted),
                }
                for outline in status.history.outlines[:RECENT]
            ],
        },
    }
