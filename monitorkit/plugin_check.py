"""`check-plugin`: the laws on every monitor and sink of a file, with what is wrong for people."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np

from monitorkit import plugin_manager, reference, results
from monitorkit.config import Config
from monitorkit.contracts import (
    Chunk,
    Finding,
    Monitor,
    Outcome,
    RunResult,
    SinkContext,
    Window,
)
from monitorkit.errors import ConfigError, PluginError, told
from monitorkit.plugin_manager import Kind
from monitorkit.settings import MonitorEntry, SinkEntry
from monitorkit.testing import LAWS, NOW, Law, Trial, check_sink, make_chunk

ROWS = 300
SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Broken:
    """A law that a kind breaks, or that it cannot be built.

    Attributes:
        law: its name.
        reason: how it is broken.
        remedy: what to do.
        example: the smallest window that shows it; None where the window does not matter.
    """

    law: str
    reason: str
    remedy: str
    example: Chunk | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A kind, and the laws that it breaks."""

    kind: Kind
    broken: Sequence[Broken]


def run(
    config: Config, file: Path, options: Sequence[str] = (), columns: Sequence[str] = ()
) -> list[Checked]:
    """Check a file, print what was found, and return it.

    Args:
        config: its entries give options, its reference gives rows.
        file: with plugins.
        options: lines of TOML, `kind = { ... }`.
        columns: of the rows to try; none: the reference's own rows.

    Raises:
        PluginError, ConfigError: the file cannot be loaded, or the options cannot be read.
        ReferenceProblem: there is a reference, and it is not what was frozen.
    """
    given = _given(options)
    everything = plugin_manager.kinds(plugin_manager.build([file]))
    kinds = [kind for kind in everything if kind.source == str(file)]
    if not kinds:
        nothing = "it registers no monitor and no sink: its hook functions return nothing"
        raise PluginError(str(file), f"{nothing}, or have no @hookimpl")
    if unknown := sorted(set(given) - {kind.kind for kind in kinds}):
        there = ", ".join(kind.kind for kind in kinds)
        raise ConfigError("--options", (f"{file} has no kind {unknown[0]!r}; there are: {there}",))
    checked = []
    for kind in kinds:
        chosen = _options(config, kind, given)
        broken = check_kind(kind, chosen, _rows(config, columns, _named(chosen)))
        laws = len(LAWS) if kind.type == "monitor" else 1
        verdict = "broken" if broken else f"ok ({laws} law{'s' if laws > 1 else ''})"
        click.echo(f"{kind.type} {kind.kind}: {verdict}")
        for problem in broken:
            _show(problem)
        checked.append(Checked(kind, broken))
    return checked


def document(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """What was found as JSON has it."""
    told = ("law", "reason", "remedy")
    return [
        {
            "kind": each.kind.kind,
            "type": each.kind.type,
            "broken": [{name: getattr(law, name) for name in told} for law in each.broken],
        }
        for each in checked
    ]


def check_kind(kind: Kind, options: Mapping[str, Any], rows: Chunk) -> list[Broken]:
    """The laws that one kind breaks.

    Args:
        kind: of the file.
        options: as TOML has them.
        rows: the reference; windows are drawn from it.
    """
    if kind.type == "sink":
        return _check_sink(kind, options)
    entry = MonitorEntry(name="check", use=kind.kind, options=dict(options))
    try:
        monitor = plugin_manager.make_monitor([kind], entry, rows)
    except ConfigError as error:
        remedy = f"give them: --options '{kind.kind} = {{ ... }}'"
        return [Broken("options are as declared", _shorter(error), remedy)]
    except Exception as error:  # noqa: BLE001 - somebody else's code
        remedy = "see --options and --columns: the rows that are tried must have its columns"
        return [Broken("it can be built", told(error), remedy)]
    window = rows.take(np.random.default_rng(1).integers(0, len(rows), ROWS))
    found = (_broken(law, monitor, window) for law in LAWS)
    return [broken for broken in found if broken is not None]


def _broken(law: Law, monitor: Monitor[Any, Any], window: Chunk) -> Broken | None:
    reason = _tried(law, monitor, window)
    if reason is None:
        return None
    if not law.of_window:
        return Broken(law.name, reason, law.remedy)
    kept, broken = 0, len(window)  # so many rows keep it, and so many do not
    rows = 1
    while kept + 1 < broken:
        smaller = _tried(law, monitor, window.take(slice(0, rows)))
        if smaller is None:
            kept = rows
            rows = min(2 * rows, (kept + broken) // 2)
        else:
            broken, reason = rows, smaller
            rows = (kept + broken) // 2
    return Broken(law.name, reason, law.remedy, window.take(slice(0, broken)))


def _tried(law: Law, monitor: Monitor[Any, Any], window: Chunk) -> str | None:
    """How a law is broken on a window, None when it is kept."""
    try:
        law.check(monitor, Trial(window.take(np.arange(len(window)))))  # a copy
    except AssertionError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - somebody else's code
        return f"it raised {told(error)}"
    return None


def _check_sink(kind: Kind, options: Mapping[str, Any]) -> list[Broken]:
    name = "a result may be delivered twice, and is left as it was"
    entry = SinkEntry(name="check", use=kind.kind, options=dict(options))
    with tempfile.TemporaryDirectory() as folder:
        context = SinkContext(f"sqlite:///{folder}/mlflow.db", folder, "check-plugin", folder)
        try:
            sink = plugin_manager.make_sink([kind], entry, context)
        except ConfigError as error:
            remedy = f"give them: --options '{kind.kind} = {{ ... }}'"
            return [Broken("options are as declared", _shorter(error), remedy)]
        except Exception as error:  # noqa: BLE001 - somebody else's code
            return [Broken("it can be built", told(error), "see --options")]
        try:
            check_sink(sink, RESULT, results.encode(RESULT))
        except AssertionError as error:
            remedy = "look whether `result.run_id` is there already, and overwrite or leave it"
            return [Broken(name, str(error), remedy)]
    return []


RESULT = RunResult(
    run_id=results.new_run_id(NOW),
    trigger="once",
    started_at=NOW,
    finished_at=NOW + timedelta(seconds=1),
    model_name="check-plugin",
    window=Window(ROWS, NOW - timedelta(hours=1), NOW, "1", 86400.0),
    min_rows=200,
    reference_hash="0" * 64,
    cursor={"predictions.csv": 0},
    drift=None,
    outcomes=(Outcome("made-up", "ks", "ok", (Finding("ks", 0.1, column="a"),), 0.1),),
)
"""What sinks are given to deliver."""


def _given(lines: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    try:
        found = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("--options", (f"{error}; write 'kind = {{ key = 1 }}'",)) from error
    for kind, value in found.items():
        if not isinstance(value, dict):
            raise ConfigError("--options", (f"{kind} is no table; write '{kind} = {{ key = 1 }}'",))
    return found


def _options(config: Config, kind: Kind, given: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind.kind in given:
        return dict(given[kind.kind])
    entries: Sequence[MonitorEntry | SinkEntry] = (
        config.monitors if kind.type == "monitor" else config.sinks
    )
    return next((entry.options for entry in entries if entry.use == kind.kind), {})


def _named(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that options name as ours do."""
    some = options.get("columns")
    named = [options.get("column"), *(some if isinstance(some, list) else ())]
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))


def _rows(config: Config, given: Sequence[str], named: Sequence[str]) -> Chunk:
    """The rows to try, with made-up scores: the frozen reference's, or random ones.

    Args:
        config: says where the reference is.
        given: columns that are asked for; none: the reference's.
        named: columns that the options name, for random rows.
    """
    folder = config.storage.reference
    if given or not reference.exists(folder):
        others = [name for name in ("a", "b", "c") if name not in named]
        return make_chunk(ROWS, given or (*named, *others))
    frozen = reference.load(folder)
    random = np.random.default_rng(0)
    some = np.sort(random.permutation(len(frozen.features))[: 10 * ROWS])
    made_up = make_chunk(len(some), frozen.metadata.features)
    return replace(made_up, features=frozen.features[some])


def _shorter(error: ConfigError) -> str:
    """Its problems, without the name of the entry that was made up."""
    return "; ".join(re.sub(r"(monitors|sinks)\.check\.", "", text) for text in error.problems)


def _show(problem: Broken) -> None:
    click.echo(f"  BROKEN {problem.law}")
    click.echo(f"    how: {problem.reason}")
    if problem.example is not None:
        chunk = problem.example
        click.echo(f"    the smallest window that shows it, {len(chunk)} of {ROWS} rows:")
        for row in range(min(len(chunk), SHOWN_ROWS)):
            values = zip(chunk.columns, chunk.features[row], strict=True)
            cells = [f"{name}={value:.6g}" for name, value in values]
            click.echo(f"      {' '.join(cells)} score={chunk.scores[row]:.6g}")
        if len(chunk) > SHOWN_ROWS:
            click.echo("      ...")
    click.echo(f"    what to do: {problem.remedy}")
