"""The command line: each command is one short function that calls one other function."""

from monitorkit import lean

lean.import_structlog()  # before all that logs

from monitorkit.cli import keep, plugins, serve, setup, watch  # noqa: E402
from monitorkit.cli.commands import main  # noqa: E402

__all__ = ["keep", "main", "plugins", "serve", "setup", "watch"]
