"""One item ahead: the next one is made in a thread while the last one is worked on."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The items of a generator, which runs in a thread of its own, one item ahead.

    Two threads gain what one of them spends outside of the interpreter: parsing and sorting are
    there most of their time. When whoever iterates stops early, one item was made for nothing.

    Raises:
        Exception: what the generator raises, after the items before it.
    """
    context = copy_context()  # what its log events are bound to

    def following() -> list[T]:
        """The next item; none at the end."""
        for item in items:
            return [item]
        return []

    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(context.run, following)
        while item := coming.result():
            coming = thread.submit(context.run, following)
            yield item[0]
