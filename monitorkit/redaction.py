"""Takes users and passwords out of addresses, before anybody reads them who must not know them."""

from __future__ import annotations

import re

_ONE_MORE = r"[^/?#\s\"'<>\\@]*@"
_BETWEEN = re.compile(
    r"(?<=://)(?:"
    # A password that is not quoted, as SQLAlchemy takes it: whatever stands before an `@`.
    r"(?:[^/?#\s\"':@\[]*:(?:(?!://)[^\s\"'@])*@"
    # One with spaces, behind any user; a port and a text after it look like that, too.
    r"|[^/?#\s\"':\[]*:(?!\s|\d{1,5}\b)(?:(?!://)[^\n\"'@])*@)"
    rf"(?:{_ONE_MORE})*"
    rf"|(?:{_ONE_MORE})+)"
)


def redacted(text: str) -> str:
    """A text in which every `scheme://user:password@host` is `scheme://***@host`.

    What could be a password is taken for one: of `http://host:80/a@b`, too, only `b` is left.
    """
    return _BETWEEN.sub("***@", text) if "://" in text else text
