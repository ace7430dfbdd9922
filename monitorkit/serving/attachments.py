"""Files that monitors attached to results: which there are, and how a browser may show them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from monitorkit.contracts import RunResult

MEDIA_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' "
    "'unsafe-eval' blob:; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report may run what it brought along, in an origin of its own that reaches nobody."""


def names(result: RunResult) -> set[str]:
    """The files that a result names, if they are plain names."""
    return {
        report
        for outcome in result.outcomes
        for report in outcome.reports
        if report == Path(report).name and report != ".." and "\\" not in report
    }


def read(folder: Path, name: str) -> bytes | None:
    """The content of a regular file in the folder, no link followed; None: it is not there."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(folder / name, flags | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def headers(name: str) -> dict[str, str]:
    """Of an answer with a file, beside `server.HEADERS`: what is not known to be shown is saved."""
    media_type = MEDIA_TYPES.get(Path(name).suffix.lower())
    shown = {
        "Content-Type": media_type or "application/octet-stream",
        "Content-Security-Policy": POLICY,
        "Cache-Control": "private, max-age=3600",
    }
    return shown if media_type is not None else {**shown, "Content-Disposition": "attachment"}
