"""Progress of a preparation step: a bar on a terminal, INFO events otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from monitorkit import logs

Advance = Callable[[float], None]
"""Call with the share that is done, 0 to 1."""


@contextmanager
def step(name: str, *, measured: bool = True, **fields: Any) -> Iterator[Advance]:
    """Show that a step runs, how far it is, and how long it took.

    Args:
        name: what is done, as an event key such as `train_model`.
        measured: it tells how far it is; otherwise the bar only moves.
        fields: logged with the events.
    """
    log = logs.get("monitorkit.progress")
    started_event, done_event = f"{name}_started", f"{name}_done"
    started = time.perf_counter()
    if sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415 - only on terminals
        from rich.progress import (  # noqa: PLC0415 - the same
            BarColumn,
            Progress,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        columns: list[ProgressColumn] = [
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
        ]
        columns += [TextColumn("{task.percentage:>3.0f}%")] if measured else []
        columns += [TimeElapsedColumn()]
        # Where both are on one terminal, events must go above the bar, not into it.
        shared = sys.stdout.isatty()
        with (
            Progress(*columns, console=Console(stderr=True), redirect_stdout=shared) as progress,
            logs.through(sys.stdout) if shared else nullcontext(),
        ):
            task = progress.add_task(name.replace("_", " "), total=1.0 if measured else None)
            yield lambda share: progress.update(task, completed=share)
            progress.update(task, total=1.0, completed=1.0)
    else:
        log.info(started_event, **fields)
        yield lambda _: None
    log.info(done_event, seconds=round(time.perf_counter() - started, 3), **fields)


def on_terminal(name: str, *, measured: bool = True) -> AbstractContextManager[Advance]:
    """A bar for people who wait; nothing, no event either, where nobody looks."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        return step(name, measured=measured)
    return nullcontext(lambda _: None)
