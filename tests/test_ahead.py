"""monitorkit/ahead.py: a generator that runs one item ahead, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from contextvars import ContextVar

import pytest

from monitorkit.ahead import one_ahead


def test_all_items_come_in_their_order_empty_ones_too() -> None:
    items: list[object] = [0, 1, None, "", 2, []]

    assert list(one_ahead(item for item in items)) == items
    assert list(one_ahead(item for item in items[:0])) == []


def test_the_next_item_is_made_while_one_is_worked_on() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Generator[int, None, None]:
        for number, event in enumerate(made):
            event.set()
            yield number

    with closing(one_ahead(items())) as ahead:
        assert next(ahead) == 0
        assert made[1].wait(10)  # nobody asked for it yet
        assert not made[2].is_set()


def test_what_the_generator_raises_comes_after_the_items_before_it() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise ValueError("the third one")

    ahead = one_ahead(items())

    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="the third one"):
        next(ahead)


def test_stopping_early_closes_the_generator_and_ends_the_thread() -> None:
    closed = []

    def items() -> Generator[int, None, None]:
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    before = threading.active_count()
    with closing(one_ahead(items())) as ahead:
        next(ahead)
        assert threading.active_count() == before + 1

    assert closed == [True]
    assert threading.active_count() == before


def test_the_generator_sees_the_context_of_its_caller() -> None:
    cycle = ContextVar("cycle", default="none")

    def items() -> Generator[str, None, None]:
        yield cycle.get()

    cycle.set("cycle 7")

    assert list(one_ahead(items())) == ["cycle 7"]
