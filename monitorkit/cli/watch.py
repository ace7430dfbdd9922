"""Commands for monitoring: `monitor`, `report`, `replay`, `calibrate`, `simulate`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rich_click as click
from click import get_current_context
from click.shell_completion import CompletionItem

from monitorkit import config
from monitorkit.cli.commands import Ended, command
from monitorkit.config import Config
from monitorkit.errors import MonitorkitError
from monitorkit.units import parse_moment

_OFFERED = 20
MOST_ROWS_A_DAY = 1e9


def _offer(names: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(begun)][:_OFFERED]


def _monitors(context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    try:
        settings = config.load(context.params.get("config_path"))
    except MonitorkitError:
        return []
    return _offer((entry.name for entry in settings.monitors), begun)


def _results(context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    from monitorkit.results import Results  # noqa: PLC0415 - each command imports what it needs

    try:
        settings = config.load(context.params.get("config_path"))
        run_ids = Results(settings.storage.results).run_ids()
    except MonitorkitError:
        return []
    return _offer(["latest", *reversed(run_ids)], begun)


_only_option = click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    shell_complete=_monitors,
    help="Only this monitor (repeatable).",
)
_skip_option = click.option(
    "--skip",
    multiple=True,
    metavar="NAME",
    shell_complete=_monitors,
    help="Not this monitor (repeatable).",
)


@command("monitor --once", "monitor --once --only feature-drift --json")
@click.option("--once", is_flag=True, help="One cycle now, instead of one every interval.")
@_only_option
@_skip_option
@click.option("--reports", is_flag=True, help="Make HTML reports even when no verdict changed.")
@click.option(
    "--engine",
    type=click.Choice(["process", "local", "dask"]),
    default="process",
    show_default=True,
    help="Where the log is summed up: in a worker process, in this one without limits, or on a "
    "Dask cluster.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Of the Dask cluster, such as tcp://10.0.0.5:8786; one on this machine when not given.",
)
def monitor(
    settings: Config,
    once: bool,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    reports: bool,
    **where: Any,
) -> Ended | None:
    """Judge what is new in the prediction log; also beside a running service."""
    from monitorkit import results  # noqa: PLC0415 - as above
    from monitorkit.contracts import Skipped  # noqa: PLC0415 - as above
    from monitorkit.monitoring import standalone  # noqa: PLC0415 - as above
    from monitorkit.monitoring.cycle import Selection  # noqa: PLC0415 - as above

    if where["scheduler"] is not None and where["engine"] != "dask":
        raise click.UsageError("--scheduler is for --engine dask.")
    selection, place = Selection(only, skip), standalone.Where(**where)
    if not once:
        if get_current_context().params.get("as_json"):
            raise click.UsageError("--json is for --once: without it there is no end to wait for.")
        standalone.run_forever(settings, selection, reports=reports, where=place)
        return None
    outcome = standalone.run_once(settings, selection, reports=reports, where=place)
    if isinstance(outcome, Skipped):
        return Ended({"outcome": "skipped", "reason": outcome.reason, "result": None})
    return Ended({"outcome": "completed", "reason": None, "result": results.as_json(outcome)})


def _moment(_context: click.Context, _option: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _number(
    _context: click.Context, _option: click.Parameter, number: float | None
) -> float | None:
    if number is not None and math.isnan(number):
        raise click.BadParameter("nan is no number.")
    return number


@command("replay --from -6h", "replay --from 2026-01-31 --to now --config other.toml")
@click.option(
    "--from",
    "since",
    metavar="TIME",
    callback=_moment,
    help="The first cycle: 2026-01-31, 2026-01-31T12:00:00Z, or -6h for six hours ago; UTC when no "
    "offset is given. From the first row or result on when not given.",
)
@click.option("--to", "until", metavar="TIME", callback=_moment, help="The last cycle, or `now`.")
@_only_option
@_skip_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="A new folder for the results of the replay, as JSON.",
)
def replay(
    settings: Config, only: tuple[str, ...], skip: tuple[str, ...], **arguments: Any
) -> Ended:
    """Judge the past log again, beside what was recorded; with --config, as another one would."""
    from monitorkit.monitoring import replay as replay_  # noqa: PLC0415 - as above
    from monitorkit.monitoring.cycle import Selection  # noqa: PLC0415 - as above

    return Ended(replay_.run(settings, Selection(only, skip), **arguments).document())


@command("calibrate", "calibrate --rows-per-day 20000 --output seen.png")
@click.option(
    "--monitor",
    metavar="NAME",
    shell_complete=_monitors,
    help="The one of [monitoring.verdict] when not given.",
)
@click.option(
    "--days", type=click.IntRange(min=1), default=3, show_default=True, help="Quiet days."
)
@click.option(
    "--rows-per-day",
    "rows_a_day",
    type=click.FloatRange(min=1, max=MOST_ROWS_A_DAY),
    callback=_number,
    help="The traffic; that of the newest result when not given.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of chance.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A PNG file for a picture of what can be seen.",
)
def calibrate(settings: Config, **arguments: Any) -> Ended:
    """Tell how many false alarms a monitor raises at your traffic, and what shifts it sees."""
    from monitorkit.monitoring import calibration  # noqa: PLC0415 - as above

    return Ended(calibration.run(settings, **arguments))


@command("report latest", "report latest --png drift.png")
@click.argument("run_id", shell_complete=_results)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The HTML file; RUN_ID.html in this folder when neither it nor --png is given.",
)
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="A PNG file.")
def report(settings: Config, **arguments: Any) -> Ended:
    """Write the result RUN_ID, or the `latest` one, as one HTML file that needs nothing else."""
    from monitorkit.dashboard import report as report_  # noqa: PLC0415 - as above

    return Ended({"files": report_.run(settings, **arguments)})


@command("simulate --rows 500", "simulate --rows 500 --shift income=0.8 --rate 50")
@click.option("--rows", type=click.IntRange(min=1), default=250, show_default=True, help="Rows.")
@click.option(
    "--shift",
    "shifts",
    multiple=True,
    metavar="NAME=0.8",
    help="NAME=0.8 multiplies a feature, NAME:=1.0 sets it, NAME+=500 adds to it (repeatable); "
    "a part of its name will do.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    callback=_number,
    help="Rows a second; as fast as they are answered when not given.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Rows a request; more than one go to /predict/batch.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The same seed sends the same rows.",
)
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A CSV file to take rows from, instead of the held-out share.",
)
@click.option("--url", help="The service; where the configuration says it listens when not given.")
def simulate(settings: Config, **arguments: Any) -> Ended:
    """Send rows of the data set to a running service, shifted when asked."""
    from monitorkit import simulate as simulate_  # noqa: PLC0415 - as above

    return Ended(simulate_.run(settings, **arguments))
