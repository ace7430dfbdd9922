"""The command line: each command is one short function that calls one other function."""

import monitorkit.lean  # noqa: F401 - before all that logs
from monitorkit.cli import keep, plugins, serve, setup, watch
from monitorkit.cli.commands import main

__all__ = ["keep", "main", "plugins", "serve", "setup", "watch"]
