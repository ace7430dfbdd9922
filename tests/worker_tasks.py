"""What the worker's tests let it do: a spawned process must be able to import it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from monitorkit import compiled, model
from monitorkit.trust import Trust


class TwoArguments(Exception):  # noqa: N818 - an exception as plugins have them
    """Pickles, but cannot be unpickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Mute(Exception):  # noqa: N818 - as above
    """Cannot even be told."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __str__(self) -> str:
        raise ValueError("no")


class Unreadable:
    """Pickles, but cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return int, ("x",)


def large(count: int) -> dict[str, Any]:
    """Two arrays of so many numbers, one of them by columns, beside other things."""
    by_rows = np.arange(count, dtype=np.float64).reshape(-1, 4)
    return {
        "rows": by_rows,
        "columns": np.asfortranarray(by_rows),
        "few": np.arange(3),
        "text": "x" * 4 * count,
    }


def try_out_wrongly(folder: Path, trusted: Trust, rows: Any) -> model.Tried:
    """Try out a model where what is compiled of it errs in the ninth digit."""
    real = compiled.compile_estimator

    def wrong(estimator: Any) -> compiled.Compiled:
        made = real(estimator)
        assert made is not None
        return replace(made, scores=lambda rows: made.scores(rows) * (1 + 1e-9))

    with patch.object(compiled, "compile_estimator", wrong):
        return model.try_out(folder, trusted, rows)


def add(left: int, *, right: int) -> int:
    return left + right


def pid() -> int:
    return os.getpid()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def sleep_deaf(seconds: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)


def end(code: int) -> None:
    os._exit(code)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def take(size: int) -> int:
    return len(bytearray(size))


def fail(error: Exception) -> None:
    raise error


def fail_oddly() -> None:
    raise TwoArguments(7, "reason")


def fail_mutely() -> None:
    raise Mute


def a_lock() -> object:
    return threading.Lock()


def unreadable() -> object:
    return Unreadable()


def talk() -> None:
    print("two\n  lines")  # noqa: T201 - as plugins do
    print("100 %s", file=sys.stderr)  # noqa: T201
    print("no end of line", end="")  # noqa: T201


def encoding() -> str:
    return sys.stdout.encoding


def alive() -> bool:
    """A task that does nothing."""
    return True


def is_imported(name: str) -> bool:
    """Whether a module was imported here."""
    return name in sys.modules
