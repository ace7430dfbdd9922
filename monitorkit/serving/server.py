"""uvicorn with our signals: SIGTERM and SIGINT end the service in order, with exit code 0."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import anyio
import uvicorn
from anyio.abc import TaskStatus

from monitorkit import logs, telemetry
from monitorkit.errors import AddressInUse, MonitorkitError
from monitorkit.serving import hosts, tls
from monitorkit.serving.application import Application
from monitorkit.serving.deadlines import Deadlines
from monitorkit.serving.protocol import Limits, Protocol
from monitorkit.settings import Serving

HEADERS = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
"""On every answer, those that uvicorn gives by itself included."""

TICKS = 10
RESERVED_FILES = 200
"""Of those that the system lets us open: for the log, workers, and model files."""

OTHER_HOST = "Name an address of this machine with --host or [serving] host."

if sys.platform != "win32":
    import resource

log = logs.get(__name__)


class Server(uvicorn.Server):
    """uvicorn that takes no signals.

    Its own handlers would set `should_exit` before `serve` sees the first signal, and `serve` would
    take it for the second one, which ends answers that are under way.

    Args:
        app: answers.
        settings: `[serving]`.
    """

    def __init__(self, app: Application, settings: Serving) -> None:
        self._others: set[asyncio.Protocol] = set()
        self._accepting: list[asyncio.Task[None]] = []
        super().__init__(_configured(app, settings, self._others))
        self._settings = settings
        self._deadlines = Deadlines(
            receive=settings.receive_timeout.total_seconds(),
            idle=settings.idle_timeout.total_seconds(),
        )

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; once a second connections that keep us waiting are ended."""
        if counter % TICKS == 0:
            self._deadlines.sweep(self.server_state.connections)
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it listens, once it does."""
        context = tls.context(self._settings)
        if context is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            for listener in sockets or ():
                listener.listen(self.config.backlog)
                accepting = self._acceptor(context).run(listener)
                self._accepting.append(asyncio.create_task(accepting))
        for listener in sockets or ():
            log.info("listening", url=url(listener, self._settings))
            if not self._settings.keys and not hosts.is_loopback(listener.getsockname()[0]):
                log.warning(
                    "open_to_the_network",
                    url=url(listener, self._settings),
                    reason="whoever reaches this address may do everything: there are no API keys",
                    remedy="add [[serving.keys]] (`monitorkit new-key` makes one), or listen on "
                    'host = "127.0.0.1" behind something that knows its clients',
                )

    def _acceptor(self, context: ssl.SSLContext) -> tls.Acceptor:
        most, connections = limits(self._settings).connections, self.server_state.connections
        return tls.Acceptor(
            partial(
                cast(Callable[..., Protocol], self.config.http_protocol_class),
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            ),
            context,
            seconds=self._settings.receive_timeout.total_seconds(),
            others=self._others,
            full=lambda: len(connections) + len(self._others) >= most,
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order; who has not spoken TLS so far is not waited for."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await super().shutdown(sockets)

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
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((settings.host, settings.port))
        except (OSError, TypeError, UnicodeError) as error:
            raise _refused(settings, error) from error
        stack.pop_all()
    return listener


def _refused(settings: Serving, error: Exception) -> AddressInUse:
    reason, of_the_host = "it is no host's name", True
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        # Not ours, or of an IPv6 that this system has not.
        of_the_host = error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
        of_the_host |= isinstance(error, socket.gaierror)
    problem = AddressInUse(settings.host, settings.port, reason)
    if of_the_host:
        problem.remedy = OTHER_HOST
    return problem


def url(listener: socket.socket, settings: Serving) -> str:
    """Where a bound socket can be reached."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def serve(app: Application, settings: Serving, listener: socket.socket) -> None:
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
                        app.stop()

        await tasks.start(obey)
        try:
            async with app.router.lifespan_context(app):
                server = Server(app, settings)
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


def limits(settings: Serving) -> Limits:
    """What clients may take: never so many connections that the service cannot open its files."""
    connections = settings.max_connections
    if sys.platform != "win32":
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            connections = min(connections, max(files - RESERVED_FILES, files // 2))
    return Limits(connections, int(settings.max_body))


def _configured(
    app: Application, settings: Serving, others: set[asyncio.Protocol]
) -> uvicorn.Config:
    return uvicorn.Config(
        telemetry.wrapped(app),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=HEADERS,
        http=partial(  # type: ignore[arg-type] # it makes one
            Protocol, limits=limits(settings), others=others
        ),
        timeout_keep_alive=math.ceil(settings.idle_timeout.total_seconds()),
        # What a proxy says of its clients is nothing that we use.
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace.total_seconds())),
    )
