"""Commands for who writes monitors: `plugins`, `new-monitor`, `check-plugin`."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import rich_click as click

from monitorkit import config
from monitorkit.cli.commands import REFUSED, Ended, command
from monitorkit.redaction import redacted

_CHECK = "python -m monitorkit check-plugin"


@command("plugins")
def plugins(settings: config.Config) -> Ended:
    """List the monitors and sinks that can be used, and where each comes from."""
    from monitorkit import plugin_manager  # noqa: PLC0415 - each command imports what it needs

    kinds = plugin_manager.kinds(plugin_manager.build(settings.monitoring.plugin_files))
    for kind in kinds:
        problem = f"  {redacted(kind.problem)}" if kind.problem else ""
        click.echo(f"{kind.type:<8} {kind.kind:<20} {kind.source}{problem}")
    told = ("kind", "type", "source", "problem")
    return Ended([{name: getattr(kind, name) for name in told} for kind in kinds])


@command("new-monitor night_share --add", given="path")
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the two files go; this folder when not given.",
)
@click.option("--add", is_flag=True, help="Add the entry to the configuration file.")
def new_monitor(config_path: Path | None, name: str, folder: Path, add: bool) -> Ended:
    """Write NAME.py, a monitor that works, and test_NAME.py; print its entry for the configuration.

    NAME is the monitor's kind: small letters, digits and `_`. Nothing is overwritten.
    """
    from monitorkit import new_monitor as new_monitor_  # noqa: PLC0415 - as above

    toml = config_path or config.DEFAULT_PATH
    written = new_monitor_.write(name, folder, toml if add else None)
    for path in (written.plugin, written.test):
        click.echo(f"Written: {path}")
    told = f"Added to {toml}" if add else f"For {toml}, in which [monitoring] may be already"
    click.echo(f"\n{told}; the column is to be one of yours:\n\n{written.entry}")
    options = "" if add else f" --options '{written.options}'"
    # In a clone of monitorkit its settings for pytest apply, which want the other one, too.
    if not all(map(find_spec, ("pytest", "pytest_asyncio"))):
        click.echo("First:  pip install pytest pytest-asyncio")
    click.echo(f"Try it: pytest {written.test}\n        {_CHECK} {written.plugin}{options}")
    return Ended({**asdict(written), "added_to": toml if add else None})


@command(
    "check-plugin night_share.py",
    "check-plugin night_share.py --options 'night_share = { column = \"age\" }' --columns age",
)
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
) -> Ended:
    """Check every monitor and sink in FILE against the laws.

    Each broken law comes with the smallest window that shows it and with what to do. A sink is
    given a made-up result twice, and delivers it to where its options say. Exit code 0: all laws
    are kept; 1: one is broken, or the file cannot be loaded.
    """
    from monitorkit import plugin_check  # noqa: PLC0415 - as above

    names = tuple(name.strip() for name in columns.split(",")) if columns else ()
    checked = plugin_check.run(settings, file, options, names)
    sound = not any(each.broken for each in checked)
    return Ended(plugin_check.document(checked), 0 if sound else REFUSED)
