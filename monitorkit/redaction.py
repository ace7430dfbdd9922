"""Takes users and passwords out of addresses, before anybody reads them who must not know them."""

from __future__ import annotations

import re

_BETWEEN = re.compile(r"(?<=://)[^/?#\s\"'<>\\]*@")


def redacted(text: str) -> str:
    """A text in which every `scheme://user:password@host` is `scheme://***@host`."""
    return _BETWEEN.sub("***@", text) if "://" in text else text
