"""What a result was measured on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("uvicorn", "starlette", "pydantic", "numpy", "scikit-learn", "mlflow", "treelite")


def facts(libraries: Sequence[str] = LIBRARIES) -> list[str]:
    """Date, processor, memory, system and versions of libraries, a line each."""
    processor = _field("/proc/cpuinfo", "model name") or platform.processor()
    memory = _field("/proc/meminfo", "MemTotal") or "?"
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, monitorkit {version('monitorkit')}",
        f"{processor}, {os.cpu_count()} processors, {memory} of memory, a shared machine",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        ", ".join(f"{name} {version(name)}" for name in libraries),
    ]


def say(what: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")


def _field(path: str, name: str) -> str | None:
    """A value of one of Linux's tables; None elsewhere."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return None
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)
