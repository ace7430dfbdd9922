"""Turns what is known into HTML: fragments of the page, the page, and the report of one result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import monitorkit
from monitorkit.contracts import RunResult
from monitorkit.dashboard import formats, glance, plots, timeline
from monitorkit.dashboard.columns import Column, columns
from monitorkit.dashboard.index import History
from monitorkit.dashboard.outlines import Columns, Number, Outline
from monitorkit.dashboard.sources import Sources
from monitorkit.delivered import Delivered
from monitorkit.reference import Metadata
from monitorkit.units import several

STATIC = files("monitorkit.dashboard") / "static"

FRAGMENTS: Mapping[str, str] = {
    "glance": "At a glance",
    "changes": "What changed most",
    "time": "Over time",
    "score": "The score",
    "features": "Features",
    "cycles": "Cycles",
    "service": "Service",
}
"""The parts of the page that follow events, and their headings."""

MOST_CHANGES = 5
_TELLING = 0.02  # a missing share that moved less is no picture
_TOP_MISSING = 0.1  # that the scale of a missing share shows at least


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page shows beside the results.

    Attributes:
        health: what /health says.
        disk: bytes free and in all below the storage root; None: it cannot be told.
        reference: what is frozen; None: nothing that can be read.
        undelivered: results that sinks have still to take.
        delivered: what they took, and where that can be looked at.
    """

    health: Mapping[str, Any]
    watching: glance.Sentence
    next_cycle_at: Any
    cycles: Mapping[str, int]
    disk: tuple[int, int] | None
    reference: Metadata | None
    undelivered: Mapping[str, int]
    delivered: Delivered


@dataclass(frozen=True, slots=True)
class Row:
    """One column of a result with its plots."""

    column: Column
    overlay: Markup | None
    distance: Markup | None
    distance_top: str
    missing: Markup | None
    ends: tuple[str, str] | None


class Pages:
    """Renders.

    Args:
        sources: what there is to show.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._environment = environment()
        self._drawn: tuple[tuple[str, int], list[Row]] | None = None

    def fragment(self, name: str, history: History, facts: Facts) -> bytes:
        """One part of the page, without its section."""
        make: Mapping[str, Callable[[History, Facts], Mapping[str, Any]]] = {
            "glance": self._glance,
            "changes": self._changes,
            "time": self._time,
            "score": self._score,
            "features": self._features,
            "cycles": self._cycles,
            "service": self._service,
        }
        return self._render(f"{name}.html", name=name, **make[name](history, facts))

    def page(self, fragments: Mapping[str, tuple[str, bytes]], before: str | None = None) -> bytes:
        """The whole page.

        Args:
            fragments: digest and HTML by name; without them it is a shell.
            before: the cycles' part is that of older ones, and follows no events.
        """
        parts = []
        for name, title in FRAGMENTS.items():
            digest, html = fragments.get(name, ("", b""))
            parts.append((name, title, digest, Markup(html.decode())))  # noqa: S704 - our templates made it
        return self._render(
            "page.html",
            parts=parts,
            model_name=self._sources.config.registry.model_name,
            locked=self._sources.locked,
            still="cycles" if before else None,
            before=before,
            version=asset_version(),
        )

    def older(self, history: History, before: str, delivered: Delivered) -> bytes:
        """The cycles' part, of those before one."""
        table = self._table(history, before, delivered)
        return self._render("cycles.html", name="cycles", **table)

    def _render(self, template: str, **values: Any) -> bytes:
        return self._environment.get_template(template).render(values).encode()

    def _glance(self, history: History, facts: Facts) -> Mapping[str, Any]:
        latest = history.latest
        found = columns(latest) if latest is not None else []
        newest = history.outlines[0] if history.outlines else None
        drifting = glance.drifting(latest, found, history.damaged)
        return {
            "sentences": [
                ("Serving", glance.serving(facts.health)),
                ("Drift", drifting),
                ("Predictions", glance.predictions(facts.health, newest)),
                ("Monitoring", facts.watching),
            ],
            "health": facts.health,
            "latest": latest,
            "next_cycle_at": facts.next_cycle_at,
        }

    def _rows(self, history: History) -> list[Row]:
        """Drawn once for all parts that show them."""
        if history.latest is None:
            return []
        key = (history.latest.run_id, len(history.recent))
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, rows(history.latest, history.recent))
        return self._drawn[1]

    def _changes(self, history: History, _: Facts) -> Mapping[str, Any]:
        return {"latest": history.latest, "rows": changed(self._rows(history))}

    def _time(self, history: History, _: Facts) -> Mapping[str, Any]:
        shown = history.outlines[: timeline.SHOWN]
        return {
            "panels": timeline.panels(history.outlines),
            "strip": timeline.recent_strip(history.outlines) if shown else None,
            "tally": timeline.tally(shown),
            "first": shown[-1].finished_at if shown else None,
            "last": shown[0].finished_at if shown else None,
            "count": len(shown),
        }

    def _score(self, history: History, _: Facts) -> Mapping[str, Any]:
        score = (row for row in self._rows(history) if row.column.is_score)
        return {"latest": history.latest, "row": next(score, None)}

    def _features(self, history: History, _: Facts) -> Mapping[str, Any]:
        return {
            "latest": history.latest,
            "rows": [row for row in self._rows(history) if not row.column.is_score],
            "over": len(history.recent),
        }

    def _cycles(self, history: History, facts: Facts) -> Mapping[str, Any]:
        return self._table(history, None, facts.delivered)

    def _table(
        self, history: History, before: str | None, delivered: Delivered
    ) -> Mapping[str, Any]:
        start = 0
        if before is not None:
            start = next(
                (i for i, o in enumerate(history.outlines) if o.run_id < before),
                len(history.outlines),
            )
        page = history.outlines[start : start + timeline.PAGE]
        more = len(history.outlines) > start + timeline.PAGE
        return {
            "outlines": page,
            "before": before,
            "older": page[-1].run_id if page and more else None,
            "whole": timeline.whole_strip(history.outlines),
            "tally": timeline.tally(history.outlines),
            "read": len(history.outlines),
            "total": history.total,
            "shown": timeline.SHOWN,
            "oldest": history.outlines[-1].finished_at if history.outlines else None,
            "newest": history.outlines[0].finished_at if history.outlines else None,
            "mlflow": mlflow_run if self._sinks(mlflow=True) else None,
            "mlflow_links": self._links(page, delivered, self._sinks(mlflow=True)),
            "links": self._links(page, delivered, self._sinks(mlflow=False)),
        }

    def _sinks(self, *, mlflow: bool) -> list[str]:
        entries = self._sources.config.sinks
        return [entry.name for entry in entries if (entry.use == "mlflow") == mlflow]

    @staticmethod
    def _links(
        page: Sequence[Outline], delivered: Delivered, sinks: Sequence[str]
    ) -> Mapping[str, Sequence[tuple[str, str]]]:
        """By result, the sinks that say where it can be looked at, and where."""
        return {
            outline.run_id: [
                (sink, link)
                for sink in sinks
                if (link := delivered.link(sink, outline.run_id)) is not None
                and link.startswith(("http://", "https://"))
            ]
            for outline in page
        }

    def _service(self, history: History, facts: Facts) -> Mapping[str, Any]:
        return {
            "facts": facts,
            "health": facts.health,
            "versions": timeline.versions(history.outlines)[:8],
            "latest": history.latest,
            "complete": history.complete,
        }


def rows(result: RunResult, recent: Sequence[tuple[Outline, Columns]] = ()) -> list[Row]:
    """Every column of a result with its plots.

    Args:
        result: the newest one.
        recent: newest first, the numbers of it and of those before it; none: the plots show the
            result alone.
    """
    return [_row(column, list(reversed(recent))) for column in columns(result)]


def changed(found: Sequence[Row]) -> list[Row]:
    """The columns that drifted, the farthest first; none: there is nothing to tell."""
    return [row for row in found if row.column.drifted][:MOST_CHANGES]


def _row(column: Column, recent: Sequence[tuple[Outline, Columns]]) -> Row:
    histogram = column.histogram
    tolerance = column.distance.threshold if column.distance is not None else None
    overlay = ends = None
    if histogram is not None:
        told = f"{column.name}: shares of rows, the reference as bars and now as a line"
        if column.medians is not None:
            before, now = map(formats.number, column.medians)
            told += f"; median {before} in the reference, {now} now"
        farther = column.distance is not None and bool(column.distance.drift)
        overlay = plots.overlay(histogram, f"{told}.", drifted=farther)
        edges = histogram["edges"]
        ends = (formats.number(edges[0]), formats.number(edges[-1]))
    bands = _bands([c.distances.get(column.name) for _, c in recent])
    distance, top = None, 0.0
    if column.distance is not None:
        own = _bands([column.distance])
        top = plots.distance_scale(bands or own, tolerance)
        told = _told(column, len(bands))
        if len(bands) > 1:
            distance = plots.trend(bands, told, top=top, limit=tolerance)
        else:
            distance = plots.whisker(own[0], told, limit=tolerance, top=top)
    return Row(
        column=column,
        overlay=overlay,
        distance=distance,
        distance_top=formats.number(top),
        missing=_missing(column, [c.missing.get(column.name) for _, c in recent]),
        ends=ends,
    )


def _missing(column: Column, numbers: Sequence[Number | None]) -> Markup | None:
    bands = _bands(numbers)
    values = [band.value for band in bands]
    if column.missing is None or max(values, default=0.0) - min(values, default=0.0) < _TELLING:
        return None
    top = max([_TOP_MISSING, *values])
    told = (
        f"{column.name}: share without a value in the last {len(bands)} cycles; "
        f"{formats.share(column.missing.value)} now."
    )
    plain = [plots.Band(band.x, band.value, drift=band.drift) for band in bands]
    return plots.trend(plain, told, top=top, limit=column.missing_before)


def _bands(numbers: Sequence[Number | None]) -> list[plots.Band]:
    last = max(len(numbers) - 1, 1)
    return [
        plots.Band(
            i / last if len(numbers) > 1 else 1.0, n.value, n.low, n.high, drift=bool(n.drift)
        )
        for i, n in enumerate(numbers)
        if n is not None
    ]


def _told(column: Column, cycles: int) -> str:
    distance = column.distance
    assert distance is not None  # noqa: S101 - the caller has looked
    told = f"{column.name}: {column.measure} {formats.number(distance.value)}"
    if distance.low is not None and distance.high is not None:
        told += f", between {formats.number(distance.low)} and {formats.number(distance.high)}"
    if distance.threshold is not None:
        told += f", limit {formats.number(distance.threshold)}"
    return f"{told}; the last {cycles} cycles." if cycles > 1 else f"{told}."


def mlflow_run(outline: Outline) -> str:
    """The name of the run that the MLflow sink logs a result to."""
    return f"monitoring v{outline.version} {outline.finished_at:%Y-%m-%d}"


def environment() -> Environment:
    """Our templates, everything escaped."""
    made = Environment(
        loader=PackageLoader("monitorkit.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=formats.number,
        share=formats.share,
        size=formats.size,
        ago=formats.time_ago,
        at=formats.at_time,
        breakable=formats.breakable,
    )
    made.globals.update(several=several, monitorkit_version=monitorkit.__version__)
    return made


def self_contained(template: str, **values: Any) -> bytes:
    """A page with its style in it, as `report.POLICY` allows: UTF-8, nothing from elsewhere."""
    style = Markup(asset("dashboard.css").decode())  # noqa: S704 - our own file
    return environment().get_template(template).render(style=style, **values).encode()


@cache
def asset(name: str) -> bytes:
    """A file of the page."""
    return (STATIC / name).read_bytes()


@cache
def asset_version() -> str:
    """Changes with the page's files, so that nobody shows a new page in an old style."""
    content = b"".join(asset(name) for name in ("dashboard.css", "dashboard.js"))
    return hashlib.sha256(content).hexdigest()[:12]
