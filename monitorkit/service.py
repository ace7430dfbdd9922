"""What `run` does, in order: configuration, address, preparation, service."""

from __future__ import annotations

import os
import signal
import sys
import webbrowser
from pathlib import Path

import anyio

from monitorkit import config, keys, logs, plugin_manager, preparation, registry, telemetry
from monitorkit.config import Config
from monitorkit.errors import AddressInUse
from monitorkit.serving import server, tls

log = logs.get(__name__)


def run(config_path: Path | None, *, host: str | None = None, port: int | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        config_path: a TOML file; None: the default place, where a commented file is written when
            there is none.
        host: overrides the file's.
        port: the same.

    Raises:
        MonitorkitError: whatever made the start impossible.
    """
    overrides = {"host": host, "port": port}
    given = {key: value for key, value in overrides.items() if value is not None}
    settings = config.load(config_path, {"serving": given} if given else None)
    logs.configure(settings.logging.level, settings.logging.format)
    if config_path is None and not config.DEFAULT_PATH.exists():
        config.write_default(config.DEFAULT_PATH)
        log.info("default_config_written", file=str(config.DEFAULT_PATH))
    # Before the event loop takes signals over, SIGTERM does what Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # What is wrong is told before a training, not after.
        keys.configured(settings.serving.keys)
        tls.context(settings.serving)
        telemetry.require(settings.telemetry)
        with server.bind(settings.serving) as listener:
            if preparation.needed(settings):
                plugin_manager.checked(settings)
                preparation.prepare(settings)
            # Imported late: a first start has the preparation to get through before.
            from monitorkit.app import create_app  # noqa: PLC0415 - see above

            app = create_app(settings)
            uvloop = {"use_uvloop": sys.platform != "win32"}
            with telemetry.traces(settings.telemetry):
                anyio.run(server.serve, app, settings.serving, listener, backend_options=uvloop)
    except KeyboardInterrupt:
        log.info("stopping", reason="interrupted before the service had started")
    log.info("stopped")


def open_ui(settings: Config, port: int) -> None:
    """Open the MLflow UI: the server's own, or one on the embedded store until Ctrl-C.

    Raises:
        AddressInUse: somebody else has the port.
    """
    uri = settings.tracking_uri
    if uri.startswith(("http://", "https://")):
        log.info("mlflow_ui", url=uri)
        webbrowser.open(uri)
        return
    # MLflow would make the tables, too, but leave half a store behind when it is stopped meanwhile.
    registry.connect(registry.address(settings))
    here = settings.serving.model_copy(update={"host": "127.0.0.1", "port": port})
    try:
        server.bind(here).close()
    except AddressInUse as error:
        error.remedy = "Choose another one with --port, or stop what uses it."
        raise
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    log.info("mlflow_ui", url=f"http://127.0.0.1:{port}", store=uri)
    # It takes our place, so that Ctrl-C and SIGTERM reach it, and none of it is left behind.
    os.execv(sys.executable, command)  # noqa: S606 - our own arguments
