"""`status`: what the dashboard says at a glance, for a terminal or as JSON."""

from __future__ import annotations

import math
import shlex
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitorkit import client, tables
from monitorkit.config import Config
from monitorkit.contracts import CycleNote
from monitorkit.dashboard import glance, timeline
from monitorkit.dashboard.columns import Column, columns
from monitorkit.dashboard.fitting import Field, fitted
from monitorkit.dashboard.formats import NOTHING, date_and_time, day_and_time, number, share
from monitorkit.dashboard.glance import Sentence
from monitorkit.dashboard.index import RECENT, History, Index
from monitorkit.dashboard.outlines import Number
from monitorkit.errors import ResultsUnreadable
from monitorkit.redaction import redacted
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
        state: what that comes to.
        newest: the run_id of the newest result that it knows, empty when there is none; None: it
            does not tell, as without the key that it wants.
    """

    url: str
    health: Mapping[str, Any] | None
    reason: str | None = None
    state: str = "Not running"
    newest: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to say.

    Attributes:
        service: whether one answers, and what.
        folder: where results are sought.
        elsewhere: why those in the folder are not the service's; None: they are, or none answers.
        history: what the results on this disk come to; nothing, when they are elsewhere.
        sentences: what each of them is about, and the sentence.
        found: the columns of the newest result, in the order in which people want to know them.
        unreadable: why the results in the folder cannot be read; None: they can.
    """

    service: Service
    folder: Path
    elsewhere: str | None
    history: History
    sentences: Told
    found: Sequence[Column]
    unreadable: str | None = None

    @property
    def answers(self) -> bool:
        """Whether a service does."""
        return self.service.health is not None


def run(config: Config, url: str | None = None, file: Path | None = None) -> Status:
    """Ask the service, read the results, and print what both come to.

    Args:
        config: says where the service listens and where results are.
        url: of the service; None: as the configuration has it.
        file: that was given with --config, for commands to type next.
    """
    status = look(config, url)
    show(status, tables.console(), file)
    return status


def look(config: Config, url: str | None = None) -> Status:
    """The same, printing nothing.

    Raises:
        ResultsUnreadable: no service answers, and there is nothing else to tell.
    """
    service = ask((url or client.address(config)).rstrip("/"))
    results = Results(config.storage.results)
    unreadable = None
    try:
        history = Index(results).read_on(SECONDS, at_least=RECENT) or History()
    except ResultsUnreadable as error:
        if service.health is None:
            raise
        history, unreadable = History(), str(error)
    found = columns(history.latest) if history.latest is not None else []
    drift = glance.drifting(history.latest, found, history.damaged)
    if service.health is not None:
        try:
            elsewhere = None
            if unreadable is not None:
                drift = Sentence("bad", "Not known", [unreadable])
            else:
                elsewhere = _elsewhere(service, service.health, history, results.folder)
            if elsewhere is not None:
                history, found = History(), []
                drift = Sentence("quiet", "Not known here", [elsewhere])
            told = _running(service.health, history, drift)
            return Status(service, results.folder, elsewhere, history, told, found, unreadable)
        except (KeyError, TypeError, ValidationError):
            service = Service(service.url, None, _FOREIGN)
    nobody = Sentence("bad", service.state, [redacted(f"{service.url}: {service.reason}")])
    told = [("Serving", nobody), ("Drift", drift)]
    return Status(service, results.folder, None, history, told, found)


def ask(url: str) -> Service:
    """What the service at an address says at /health."""
    try:
        with httpx.Client(timeout=TIMEOUT, **client.options(url)) as session:
            health = session.get(f"{url}/health").json()
            return Service(url, health, newest=_newest(session, url))
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            return Service(url, None, f"no answer within {TIMEOUT:g} s ({reason})", "No answer")
        if _is_distrust(error):
            reason += "; SSL_CERT_FILE may name a file of authorities to trust"
            return Service(url, None, reason, "Not trusted")
        return Service(url, None, reason)
    except ValueError:
        return Service(url, None, _FOREIGN)


def _is_distrust(error: BaseException | None) -> bool:
    """Whether a certificate is at the bottom of it, which httpx wraps into an error of its own."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def _newest(session: httpx.Client, url: str) -> str | None:
    """The newest result that a service knows; see `Service`."""
    try:
        listed = session.get(f"{url}/monitoring/results", params={"limit": 1}).json()
        if not listed["total"]:
            return ""
        return str(listed["results"][0]["run_id"])
    except (httpx.HTTPError, OSError, ValueError, LookupError, TypeError):
        return None


def _elsewhere(
    service: Service, health: Mapping[str, Any], history: History, folder: Path
) -> str | None:
    """Why the results on this disk are not those of a service; None: nothing speaks against it.

    They are, when the newest one that it knows is among them. Where it does not tell, its last
    cycle is what there is to go by, which may have been pruned: then all others are newer. A
    service that has just started remembers no cycle, and the model's name has to do.

    Raises:
        KeyError, TypeError, ValidationError: it is not monitorkit.
    """
    there = Results(folder).run_ids()  # those that cannot be read, too
    last = _NOTE.validate_python(health["last_cycle"])
    reason = f"the results of this service are not in {folder}"
    latest = history.latest
    if latest is not None and latest.model_name != health["model_name"]:
        return f"{reason}: the newest one there is of model {latest.model_name}"
    if service.newest is not None:
        theirs = service.newest in there if service.newest else not there
    elif last is not None and last.run_id is not None:
        theirs = bool(there) and (last.run_id in there or last.run_id < there[0])
    else:
        theirs = True
    return None if theirs else reason


def _running(health: Mapping[str, Any], history: History, drift: Sentence) -> Told:
    """What a service says, beside the drift.

    Raises:
        KeyError, TypeError, ValidationError: it is not monitorkit.
    """
    newest = history.outlines[0] if history.outlines else None
    note = _NOTE.validate_python(health["last_cycle"])
    serving = glance.serving(health)
    notes = [_model(health["model_name"], health["model_version"]), *serving.notes]
    return [
        ("Serving", replace(serving, notes=notes)),
        ("Drift", drift),
        ("Predictions", glance.predictions(health, newest)),
        ("Monitoring", glance.watching(note)),
    ]


def _model(name: str, version: str | None) -> str:
    return name if version is None else f"{name}, version {version}"


def show(status: Status, console: Console, file: Path | None = None) -> None:
    """Print it.

    Args:
        status: what there is to say.
        console: where.
        file: see `run`.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    for about, sentence in status.sentences:
        notes = [*sentence.notes]
        if sentence.since is not None:
            begins = "at" if about == "Monitoring" else "since"
            notes.insert(0, f"{begins} {day_and_time(sentence.since)} UTC")
        table.add_row(
            Text(sentence.mark, _STYLES[sentence.tone]),
            Text(about, "bold"),
            Text(sentence.text),
            Text("; ".join(notes), "dim"),
        )
    console.print(table)
    if status.found:
        console.print(_columns(status, console.width))
    for line in _last_lines(status, file):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _ago(at: datetime) -> str:
    """When that was, and how long ago."""
    passed = max(datetime.now(UTC) - at, timedelta())
    ago = several(passed.days, "day")
    if passed < timedelta(hours=1):
        ago = several(passed // timedelta(minutes=1), "minute")
    elif passed < timedelta(days=2):
        ago = several(passed // timedelta(hours=1), "hour")
    return f"{date_and_time(at)} UTC, {ago} ago"


def _columns(status: Status, width: int) -> Table:
    found = status.found
    recent = [numbers for _, numbers in reversed(status.history.recent[:CELLS])]
    limits = [column.distance.threshold if column.distance else None for column in found]
    trends = [
        sparkline([_value(each.distances.get(column.name)) for each in recent], limit)
        for column, limit in zip(found, limits, strict=True)
    ]
    distances = [NOTHING if c.distance is None else number(c.distance.value) for c in found]
    missing = [NOTHING if c.missing is None else share(c.missing.value) for c in found]
    since = [day_and_time(c.since) if c.since else NOTHING for c in found]
    styles = [_VERDICTS.get(column.verdict, "") for column in found]
    told = [Text(column.told, style) for column, style in zip(found, styles, strict=True)]
    short = [Text(column.verdict, style) for column, style in zip(found, styles, strict=True)]
    return fitted(
        Field("column", [Text(column.name) for column in found]),
        [
            Field("verdict", told, short=short),
            Field("distance", distances, right=True),
            Field("interval", [_interval(c.distance) for c in found], right=True, spared=5),
            Field("limit", [number(limit) for limit in limits], right=True, spared=2),
            Field(f"last {several(len(recent), 'cycle')}", trends, spared=3),
            Field("missing", missing, right=True, spared=4),
            Field("since (UTC)", since, spared=1 if {*since} == {NOTHING} else 0),
        ],
        width,
    )


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


def _last_lines(status: Status, file: Path | None) -> list[str]:
    history = status.history
    if status.elsewhere is not None:
        return ["Run `status` where the service keeps them, with the --config of the service."]
    if status.unreadable is not None:
        return []
    if history.latest is None or not history.outlines:
        given = "" if file is None else f" --config {shlex.quote(str(file))}"
        return [f"No result yet: `python -m monitorkit monitor --once{given}` makes one."]
    newest = history.outlines[0]
    shown = list(reversed(history.outlines[:RECENT]))
    hours = sparkline([_value(outline.measures.get("predictions_1h")) for outline in shown])
    model = _model(history.latest.model_name, newest.version)
    judged = f"{several(newest.rows, 'row')} of {model}, judged {_ago(newest.finished_at)}"
    lines = [
        f"{several(history.total, 'result')}; the last {len(shown)}: {timeline.tally(shown)}.",
        f"The newest: {newest.run_id}, {judged}.",
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
                "drifted_by": column.drifted_by,
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
            "folder": status.folder,
            "of_this_service": status.elsewhere is None
            if status.answers and status.unreadable is None
            else None,
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
