"""uvicorn with our signals: SIGTERM and SIGINT end the service in order, with exit code 0."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Iterator

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.applications import Starlette

from monitorkit import logs
from monitorkit.config import Serving
from monitorkit.errors import AddressInUse, MonitorkitError
from monitorkit.serving.protocol import Protocol

log = logs.get(__name__)


class Server(uvicorn.Server):
    """uvicorn's own handlers raise the signal again at the end, which makes the exit code 143."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it listens, once it does."""
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("listening", url=url(listener))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


def bind(settings: Serving) -> socket.socket:
    """Take the address, before anything that takes time.

    Raises:
        AddressInUse: somebody else has it, or it is not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise AddressInUse(settings.host, settings.port, error.strerror or str(error)) from error
    return listener


def url(listener: socket.socket) -> str:
    """Where a bound socket can be reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(app: Starlette, settings: Serving, listener: socket.socket) -> None:
    """Start the application, and answer requests until SIGTERM or SIGINT.

    Then what is under way is answered, at most for the grace period; a second signal ends it at
    once. A signal while the application starts ends that.

    Raises:
        MonitorkitError: the application cannot start.
    """
    server: Server | None = None
    failure: MonitorkitError | None = None
    async with anyio.create_task_group() as tasks:

        async def obey(*, task_status: TaskStatus[None]) -> None:
            windows = sys.platform == "win32"
            signals = [signal.SIGINT] if windows else [signal.SIGINT, signal.SIGTERM]
            with anyio.open_signal_receiver(*signals) as received:
                task_status.started()
                async for number in received:
                    log.info("stopping", signal=signal.Signals(number).name)
                    if server is None:
                        tasks.cancel_scope.cancel()
                    else:
                        server.force_exit = server.should_exit
                        server.should_exit = True

        await tasks.start(obey)
        try:
            async with app.router.lifespan_context(app):
                server = Server(_configured(app, settings))
                await server.serve(sockets=[listener])
        except MonitorkitError as error:
            failure = error  # out of the task group, which would wrap it up
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            reason = error.strerror or "it is in use"
            failure = AddressInUse(settings.host, settings.port, reason)
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _configured(app: Starlette, settings: Serving) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        http=Protocol,
        # What a proxy says of its clients is nothing that we use.
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace.total_seconds())),
    )
