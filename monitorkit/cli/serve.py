"""Commands around the service: `run`, `status`, `train`, `promote`, `ui`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from click import get_current_context

from monitorkit.cli.commands import NOT_RUNNING, Ended, command
from monitorkit.config import Config


@command("run", "run --port 9000", given="path", document=False)
@click.option("--host", help="Overrides [serving] host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Overrides [serving] port.")
def run(config_path: Path | None, host: str | None, port: int | None) -> None:
    """Serve and monitor; trains a model and freezes a reference first when there is none."""
    from monitorkit import service  # noqa: PLC0415 - each command imports what it needs

    service.run(config_path, host=host, port=port)


@command("status", "status --json | jq .drift.drifted_features")
@click.option("--url", help="The service; where the configuration says it listens when not given.")
def status(settings: Config, url: str | None) -> Ended:
    """Tell at a glance: is it serving, is it drifting, since when, how far.

    Asks the service, and reads the results on this disk; so it has something to say also when no
    service runs. Results of another service are left out. Exit code 0: a service answers; 3: none
    does.
    """
    from monitorkit.dashboard import terminal  # noqa: PLC0415 - as above

    found = terminal.run(settings, url, get_current_context().params["config_path"])
    return Ended(terminal.document(found), 0 if found.answers else NOT_RUNNING)


@command("train")
def train(settings: Config) -> Ended:
    """Train a model and register it as the next version."""
    from monitorkit.training.train import train as train_  # noqa: PLC0415 - as above

    return Ended(train_(settings))


@command("promote 2")
@click.argument("version")
def promote(settings: Config, version: str) -> Ended:
    """Move the served alias to VERSION; a running service follows within seconds."""
    from monitorkit import registry  # noqa: PLC0415 - as above

    address = registry.address(settings)
    registry.promote(address, version)
    return Ended({"model": address.model_name, "alias": address.alias, "version": version})


@command("ui --port 5001", document=False)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="Where the UI of the embedded store listens.",
)
def ui(settings: Config, port: int) -> None:
    """Open the MLflow UI on the registry in use."""
    from monitorkit import service  # noqa: PLC0415 - as above

    service.open_ui(settings, port)
