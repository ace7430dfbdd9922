"""A server between the service and MLflow that can be away, slow, broken or talk nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal

Mode = Literal["pass", "away", "slow", "garbage", "error"]

SLOW_SECONDS = 30.0
ANSWERS = {
    "garbage": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b'Content-Length: 19\r\nConnection: close\r\n\r\n{"model_version": [',
    "error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\n"
    b"Content-Length: 13\r\nConnection: close\r\n\r\n<h1>oops</h1>",
}


class Proxy:
    """Listens on a free port of this machine; `mode` may change at any time.

    Args:
        port: of the real server, on this machine.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._mode: Mode = "pass"
        self._ended = threading.Event()
        self._changed = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What the service is told."""
        return f"http://127.0.0.1:{self.port}"

    def be(self, mode: Mode) -> None:
        """Behave so from now on; connections that wait are closed."""
        self._mode = mode
        self._changed.set()
        self._changed = threading.Event()

    def close(self) -> None:
        """Stop listening."""
        self._ended.set()
        self.be("away")
        self.listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.asked += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        mode, changed = self._mode, self._changed
        with connection, contextlib.suppress(OSError):
            if mode == "away":
                # What a port without a listener answers: a reset, before anything was read.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            elif mode == "slow":
                changed.wait(SLOW_SECONDS)
            elif mode == "pass":
                self._forward(connection, changed)
            else:
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(ANSWERS[mode])

    def _forward(self, connection: socket.socket, changed: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", self._to), timeout=30) as real:

            def copy(source: socket.socket, target: socket.socket) -> None:
                with contextlib.suppress(OSError):
                    source.settimeout(0.2)
                    while not changed.is_set():
                        try:
                            data = source.recv(65536)
                        except TimeoutError:
                            continue
                        if not data:
                            break
                        target.sendall(data)
                for each in (source, target):
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

            back = threading.Thread(target=copy, args=(real, connection), daemon=True)
            back.start()
            copy(connection, real)
            back.join(timeout=5)
