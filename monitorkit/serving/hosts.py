"""Which names of the service a request may use: the protection against DNS rebinding.

A web page can give its own name the address 127.0.0.1 and then talk to what listens there, from
within a browser; its requests carry that name in `Host`. An address there cannot be such a trick.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.types import Scope

from monitorkit.serving.problems import Problem
from monitorkit.settings import Serving

EVERY = "*"
REMEMBERED = 256

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@\s]+))(?::[0-9]{0,5})?", re.IGNORECASE)


class Hosts:
    """The names that are taken: the given ones, `localhost` and every address.

    Args:
        names: `name.example`, or `*.example` for all below it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        names = [*names, "localhost", "*.localhost"]
        self._exact = {name.lower() for name in names if not name.startswith("*.")}
        self._suffixes = tuple(name[1:].lower() for name in names if name.startswith("*."))
        self._taken: set[bytes] = set()

    def take(self, scope: Scope) -> bool:
        """Whether a request may come in; one without Host does not come from a browser."""
        for name, value in scope["headers"]:
            if name == b"host":  # the first header as a rule, and the only one of browsers
                return value in self._taken or self._take(value)
        return True

    def _take(self, value: bytes) -> bool:
        match = _HOST.fullmatch(value.decode("latin-1"))
        if match is None:
            return False
        address, name = match[1], (match[2] or "").lower().removesuffix(".")
        taken = is_address(address or name) or name in self._exact or name.endswith(self._suffixes)
        if taken and len(self._taken) < REMEMBERED:
            self._taken.add(value)
        return taken


def of(serving: Serving) -> Hosts | None:
    """The names of the configuration; None: every one.

    Without a list, only a service that is open to everybody on this machine and to nobody else is
    guarded: a page in a browser has no key, and what listens on a network has names that only its
    proxies know.
    """
    if EVERY in serving.allowed_hosts:
        return None
    if serving.allowed_hosts:
        return Hosts([*serving.allowed_hosts, serving.host])
    if serving.keys or not is_loopback(serving.host):
        return None
    return Hosts([serving.host])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address, or that of a name, looked up as `bind` does."""
    if not is_address(host):
        try:
            host = socket.gethostbyname(host)
        except (OSError, UnicodeError):  # nor can anybody listen there
            return False
    return ip_address(host).is_loopback


def is_address(text: str) -> bool:
    """Whether it is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def unknown(scope: Scope) -> Problem:
    """421, naming the key."""
    found = b", ".join(value for name, value in scope["headers"] if name == b"host")
    return Problem(
        "unknown-host",
        f"Host is {found.decode('latin-1')!r}, which is no name of this service. If it is one, add "
        "it to [serving] allowed_hosts.",
    )
