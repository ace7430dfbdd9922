"""How commands reach a running service: where it listens, whom to trust, which key to show."""

from __future__ import annotations

import os
import ssl
from typing import Any
from urllib.parse import urlsplit

from monitorkit.config import Config
from monitorkit.environment import KEY_VARIABLE, may_be_key
from monitorkit.errors import ConfigError


def address(config: Config) -> str:
    """Where the service of a configuration listens, as seen from this machine."""
    host = config.serving.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    scheme = "https" if config.serving.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{config.serving.port}"


def options(url: str) -> dict[str, Any]:
    """What an httpx client takes, of either kind, to reach a service.

    Raises:
        ConfigError: of the address, or the key in the environment.
    """
    if not url.lower().startswith(("http://", "https://")):
        rest = url.rpartition("://")[2]
        problem = f"an address begins with http:// or https://, as http://{rest} does"
        raise ConfigError("--url", (problem,))
    return {"trust_env": not is_here(url), "verify": trusted(url), "headers": authorization()}


def trusted(url: str) -> ssl.SSLContext | bool:
    """Who may vouch for an https address: the system's list, or that of SSL_CERT_FILE."""
    return ssl.create_default_context() if url.startswith("https:") else True


def authorization() -> dict[str, str]:
    """The key of the environment as a header, when there is one.

    Raises:
        ConfigError: it cannot be one. Never says what was found; an error of the HTTP library does.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not may_be_key(key):
        problem = "holds no key: letters, digits and signs without spaces"
        raise ConfigError(f"environment variable {KEY_VARIABLE}", (problem,))
    return {"Authorization": f"Bearer {key}"} if key else {}


def is_here(url: str) -> bool:
    """Whether a service is on this machine: then no proxy stands between."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")
