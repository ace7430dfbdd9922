"""HTTPS: a connection counts, and has a deadline, before its client has begun to speak TLS.

uvicorn would have asyncio take it, which tells of it when TLS is agreed on, and waits for that for
a minute. Until then nobody counted it, and each is a file: clients that say nothing took them all.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import anyio

from monitorkit import logs
from monitorkit.errors import ConfigError
from monitorkit.serving.protocol import Protocol
from monitorkit.settings import Serving

ACCEPT_AGAIN = 1.0
"""Seconds after the system could not give a connection."""

log = logs.get(__name__)


def context(settings: Serving) -> ssl.SSLContext | None:
    """Certificate and key, when there are some.

    Raises:
        ConfigError: naming the file that cannot be used.
    """
    if not settings.tls_certificate:
        return None
    for key, path in (
        ("tls_certificate", settings.tls_certificate),
        ("tls_key", settings.tls_key),
    ):
        try:
            Path(path).read_bytes()
        except OSError as error:
            problem = f"`{key}`: {path} cannot be read: {error.strerror}"
            raise ConfigError("[serving]", (problem,)) from error
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # With a password, which is wrong, so that OpenSSL asks nobody for one.
        made.load_cert_chain(settings.tls_certificate, settings.tls_key, password="-")  # noqa: S106
    except (ssl.SSLError, OSError) as error:
        problem = (
            f"{settings.tls_certificate} and {settings.tls_key} are no certificate and its key in "
            f"PEM format, or the key is encrypted ({getattr(error, 'reason', None) or error})"
        )
        raise ConfigError("[serving] tls_certificate", (problem,)) from error
    return made


class Acceptor:
    """Takes connections, and has TLS agreed on before they become those of HTTP.

    Args:
        make: makes what speaks HTTP.
        context: with our certificate.
        seconds: in which TLS is to be agreed on.
        others: connections that are not uvicorn's; until then these are among them.
        full: whether there are as many connections as there may be.
    """

    def __init__(
        self,
        make: Callable[[], Protocol],
        context: ssl.SSLContext,
        *,
        seconds: float,
        others: set[asyncio.Protocol],
        full: Callable[[], bool],
    ) -> None:
        self._make = make
        self._context = context
        self._seconds = seconds
        self._others = others
        self._full = full

    async def run(self, listener: socket.socket) -> None:
        """Take connections of a socket that listens, until cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except ConnectionError:  # it left in this moment
                    continue
                except OSError as error:  # no file, no memory: asyncio itself waits as long
                    log.warning("connection_not_taken", reason=error.strerror or str(error))
                    await anyio.sleep(ACCEPT_AGAIN)
                    continue
                if self._full():  # without TLS nobody can be told
                    connection.close()
                else:
                    protocol = self._make()
                    self._others.add(protocol)
                    tasks.start_soon(self._agree, connection, protocol)

    async def _agree(self, connection: socket.socket, protocol: Protocol) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._seconds,
            )
        except OSError:  # no TLS, or none in time, or nobody there any more
            connection.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, others are taken all the same
            connection.close()
            loop.call_exception_handler({"message": "a TLS handshake failed", "exception": error})
        finally:
            self._others.discard(protocol)
