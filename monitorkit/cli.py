"""The command line: each command is one short function that calls one other function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click

from monitorkit import __version__, config, logs
from monitorkit.errors import MonitorkitError
from monitorkit.units import parse_moment

INTERRUPTED = 130  # as shells have it
CHECK = "python -m monitorkit check-plugin"
NOT_SOUND = 1  # of verify-log and check-plugin, as an error
SOME_REJECTED = 3  # of an import; 1 is an error and 2 a wrong option

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"A TOML file; {config.DEFAULT_PATH} when that is there.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Serve a scikit-learn model and watch it."""


def command(function: Callable[..., None]) -> click.Command:
    """A command that reads the configuration, sets up the log and reports our errors."""

    @wraps(function)
    def run(config_path: Path | None, **arguments: Any) -> None:
        try:
            settings = config.load(config_path)
            logs.configure(settings.logging.level, settings.logging.format)
            function(settings, **arguments)
        except MonitorkitError as error:
            _refuse(error)
        except KeyboardInterrupt:
            logs.get(__name__).info("interrupted")
            sys.exit(INTERRUPTED)

    named = main.command(name=function.__name__.rstrip("_").replace("_", "-"))
    return named(config_option(run))


def _refuse(error: MonitorkitError) -> None:
    """One line for a person on a terminal, one event for a log shipper otherwise; exit code 1."""
    if sys.stdout.isatty():
        click.secho(f"Error: {error}", fg="red", err=True)
    else:
        logs.configure()
        logs.get(__name__).error("refused", error=type(error).__name__, reason=str(error))
    sys.exit(1)


@main.command
@config_option
@click.option("--host", help="Overrides [serving] host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Overrides [serving] port.")
def run(config_path: Path | None, host: str | None, port: int | None) -> None:
    """Serve and monitor; trains a model and freezes a reference first when there is none."""
    from monitorkit import service  # noqa: PLC0415 - each command imports what it needs

    try:
        service.run(config_path, host=host, port=port)
    except MonitorkitError as error:
        _refuse(error)


@command
def train(settings: config.Config) -> None:
    """Train a model and register it as the next version."""
    from monitorkit.training.train import train as train_  # noqa: PLC0415 - as above

    train_(settings)


@command
@click.argument("version")
def promote(settings: config.Config, version: str) -> None:
    """Move the served alias to VERSION; a running service follows within seconds."""
    from monitorkit import registry  # noqa: PLC0415 - as above

    registry.promote(registry.address(settings), version)


@command
@click.option(
    "--from",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A CSV file whose every row becomes the reference, instead of the held-out share.",
)
def bootstrap(settings: config.Config, source: Path | None) -> None:
    """Freeze the reference, once."""
    from monitorkit import preparation  # noqa: PLC0415 - as above

    preparation.bootstrap(settings, source)


@command
def verify(settings: config.Config) -> None:
    """Check the reference against its SHA-256."""
    from monitorkit import reference  # noqa: PLC0415 - as above

    metadata = reference.verify(settings.storage.reference)
    logs.get(__name__).info(
        "reference_verified",
        folder=str(settings.storage.reference),
        sha256=metadata.reference_hash,
        rows=metadata.num_samples,
        created_at=metadata.created_at,
    )


@command
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option(
    "--seal",
    is_flag=True,
    help="First take closed segments that no chain speaks of into their chains, as they are now.",
)
def verify_log(settings: config.Config, as_json: bool, seal: bool) -> None:
    """Check every segment of the prediction log: rows, ids, and what each held when it was closed.

    Exit code 0: all is sound; 1: something is not, with a line for each finding.
    """
    from monitorkit import log_check  # noqa: PLC0415 - as above

    if not log_check.run(settings, seal=seal, as_json=as_json):
        sys.exit(NOT_SOUND)


@command
@click.option("--once", is_flag=True, help="One cycle now, instead of one every interval.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this monitor (repeatable).")
@click.option("--skip", multiple=True, metavar="NAME", help="Not this monitor (repeatable).")
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
    settings: config.Config,
    once: bool,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    reports: bool,
    **where: Any,
) -> None:
    """Judge what is new in the prediction log; also beside a running service."""
    from monitorkit.monitoring import standalone  # noqa: PLC0415 - as above
    from monitorkit.monitoring.cycle import Selection  # noqa: PLC0415 - as above

    if where["scheduler"] is not None and where["engine"] != "dask":
        raise click.UsageError("--scheduler is for --engine dask.")
    run = standalone.run_once if once else standalone.run_forever
    run(settings, Selection(only, skip), reports=reports, where=standalone.Where(**where))


def _moment(_context: click.Context, _option: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@command
@click.option(
    "--from",
    "since",
    metavar="TIME",
    callback=_moment,
    help="The first cycle: 2026-01-31, 2026-01-31T12:00:00Z, or -6h for six hours ago; UTC when no "
    "offset is given. From the first row or result on when not given.",
)
@click.option("--to", "until", metavar="TIME", callback=_moment, help="The last cycle, or `now`.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this monitor (repeatable).")
@click.option("--skip", multiple=True, metavar="NAME", help="Not this monitor (repeatable).")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="A new folder for the results of the replay, as JSON.",
)
def replay(
    settings: config.Config, only: tuple[str, ...], skip: tuple[str, ...], **arguments: Any
) -> None:
    """Judge the past log again, beside what was recorded; with --config, as another one would."""
    from monitorkit.monitoring import replay as replay_  # noqa: PLC0415 - as above
    from monitorkit.monitoring.cycle import Selection  # noqa: PLC0415 - as above

    replay_.run(settings, Selection(only, skip), **arguments)


@command
@click.option("--monitor", metavar="NAME", help="The one of [monitoring.verdict] when not given.")
@click.option(
    "--days", type=click.IntRange(min=1), default=3, show_default=True, help="Quiet days."
)
@click.option(
    "--rows-per-day",
    "rows_a_day",
    type=click.FloatRange(min=1),
    help="The traffic; that of the newest result when not given.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of chance.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A PNG file for a picture of what can be seen.",
)
def calibrate(settings: config.Config, **arguments: Any) -> None:
    """Tell how many false alarms a monitor raises at your traffic, and what shifts it sees."""
    from monitorkit.monitoring import calibration  # noqa: PLC0415 - as above

    calibration.run(settings, **arguments)


@command
@click.argument("run_id")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The HTML file; RUN_ID.html in this folder when neither it nor --png is given.",
)
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="A PNG file.")
def report(settings: config.Config, **arguments: Any) -> None:
    """Write the result RUN_ID, or the `latest` one, as one HTML file that needs nothing else."""
    from monitorkit.dashboard import report as report_  # noqa: PLC0415 - as above

    report_.run(settings, **arguments)


@command
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
def simulate(settings: config.Config, **arguments: Any) -> None:
    """Send rows of the data set to a running service, shifted when asked."""
    from monitorkit import simulate as simulate_  # noqa: PLC0415 - as above

    simulate_.run(settings, **arguments)


@command
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Our column and the file's column for it, such as timestamp=event_time (repeatable); not "
    "needed for columns of one name. `OURS=` says that the file has none.",
)
@click.option("--version", metavar="V", help="The model version that made all rows.")
@click.option(
    "--time-format",
    default="iso",
    show_default=True,
    metavar="FORMAT",
    help="iso, epoch (seconds), epoch_ms, or as strptime has it: '%d.%m.%Y %H:%M:%S'.",
)
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="Of timestamps that do not say theirs, such as Europe/Berlin.",
)
@click.option("--dry-run", is_flag=True, help="Check every row, and leave the log as it is.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where rows go that do not fit; FILE.rejects.csv when not given.",
)
def import_(settings: config.Config, file: Path, **options: Any) -> None:
    """Add a prediction log of another service, CSV or Parquet, to ours.

    OURS are prediction_id, timestamp, model_version, prediction, probability and the model's
    features. Rows that are in the log already are left out, so a file can be imported again.
    Exit code 0: every row is in the log; 3: some were rejected; 1: nothing was imported.
    """
    from monitorkit.importing import backfill  # noqa: PLC0415 - as above

    if backfill.run(settings, file, backfill.Options(**options)).rejected:
        sys.exit(SOME_REJECTED)


@main.command(name="config")
@config_option
def config_(config_path: Path | None) -> None:
    """Print the effective configuration: file and environment taken together."""
    try:
        click.echo(config.to_toml(config.load(config_path)), nl=False)
    except MonitorkitError as error:
        _refuse(error)


@main.command(name="new-key")
@click.option("--name", default="client", show_default=True, help="Whose key it is.")
@click.option(
    "--scopes",
    default="predict",
    show_default=True,
    help="What it may do, with commas between: predict, read, operate.",
)
def new_key(name: str, scopes: str) -> None:
    """Make an API key: print it, once, and the entry for the configuration, which has its hash."""
    from monitorkit import keys  # noqa: PLC0415 - as above

    try:
        key, entry = keys.new(name, tuple(scope.strip() for scope in scopes.split(",")))
    except MonitorkitError as error:
        _refuse(error)
    click.echo(f"Shown only now, and sent as `Authorization: Bearer KEY`:\n\n{key}\n")
    click.echo(f"For {config.DEFAULT_PATH}:\n\n{entry}", nl=False)


@command
def plugins(settings: config.Config) -> None:
    """List the monitors and sinks that can be used, and where each comes from."""
    from monitorkit import plugin_manager  # noqa: PLC0415 - as above

    manager = plugin_manager.build(settings.monitoring.plugin_files)
    for kind in plugin_manager.kinds(manager):
        problem = f"  {kind.problem}" if kind.problem else ""
        click.echo(f"{kind.type:<8} {kind.kind:<20} {kind.source}{problem}")


@main.command(name="new-monitor")
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the two files go; this folder when not given.",
)
@click.option("--add", is_flag=True, help="Add the entry to the configuration file.")
@config_option
def new_monitor(name: str, folder: Path, add: bool, config_path: Path | None) -> None:
    """Write NAME.py, a monitor that works, and test_NAME.py; print its entry for the configuration.

    NAME is the monitor's kind: small letters, digits and `_`. Nothing is overwritten.
    """
    from monitorkit import new_monitor as new_monitor_  # noqa: PLC0415 - as above

    toml = config_path or config.DEFAULT_PATH
    try:
        written = new_monitor_.write(name, folder, toml if add else None)
    except MonitorkitError as error:
        _refuse(error)
    for path in (written.plugin, written.test):
        click.echo(f"Written: {path}")
    told = "Added to" if add else "For"
    click.echo(f"\n{told} {toml}; the column is to be one of yours:\n\n{written.entry}")
    options = "" if add else f" --options '{written.options}'"
    click.echo(f"Try it: pytest {written.test}\n        {CHECK} {written.plugin}{options}")


@command
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--options",
    "options",
    multiple=True,
    metavar="TOML",
    help="Options of a kind in the file, such as 'my_kind = { column = \"age\" }' (repeatable); "
    "those of its first entry in the configuration when not given.",
)
@click.option(
    "--columns",
    metavar="NAMES",
    help="Columns of the rows that are tried, with commas between; the frozen reference's own rows "
    "are tried when there is one and this is not given.",
)
def check_plugin(
    settings: config.Config, file: Path, options: tuple[str, ...], columns: str | None
) -> None:
    """Check every monitor and sink in FILE against the laws.

    Each broken law comes with the smallest window that shows it and with what to do. A sink is
    given a made-up result twice, and delivers it to where its options say. Exit code 0: all laws
    are kept; 1: one is broken, or the file cannot be loaded.
    """
    from monitorkit import plugin_check  # noqa: PLC0415 - as above

    names = tuple(name.strip() for name in columns.split(",")) if columns else ()
    if not plugin_check.run(settings, file, options, names):
        sys.exit(NOT_SOUND)


@command
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="Where the UI of the embedded store listens.",
)
def ui(settings: config.Config, port: int) -> None:
    """Open the MLflow UI on the registry in use."""
    from monitorkit import service  # noqa: PLC0415 - as above

    service.open_ui(settings, port)
